"""Prices of tokens, the shipped price list, and the calculation of costs.

Prices are in USD per million tokens. A run stores its price, so reports do not need any list.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from harness.records.clock import SECOND
from harness.records.schema import Run, Tokens

_LIST = Path(__file__).with_name("prices.toml")
_MILLION = 1_000_000

PRICE_WAY_OUT = "give [endpoint.price] with input and output, USD per million tokens"
"""What to do about a model without a price."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Usd = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Hour = Annotated[int, msgspec.Meta(ge=0, le=24)]
DayMinute = Annotated[int, msgspec.Meta(ge=0, le=24 * 60)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class TokenRates(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """USD per million tokens: `input` without cache, `cached` from the prompt cache, `output`.

    `reasoning`: of the part of the output that is reasoning; None if it has the price of `output`.
    """

    input: Usd
    cached: Usd
    output: Usd
    reasoning: Usd | None = None


class SizeTier(
    TokenRates, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The rates of all tokens of a request with more than `above` input tokens."""

    above: Annotated[int, msgspec.Meta(ge=0)]


class TieredRates(
    TokenRates, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """TokenRates that depend on the size of a request. `tiers`: in ascending order of `above`."""

    tiers: tuple[SizeTier, ...] = ()

    def at_size(self, read: int) -> TokenRates:
        """Return the rates of a request with so many input tokens."""
        return next((tier for tier in reversed(self.tiers) if read > tier.above), self)


class DailyRates(
    TieredRates, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The rates of each day between two times, in minutes since midnight UTC."""

    start: DayMinute
    end: DayMinute


class Peak(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The times at which prices are multiplied by `factor`: on `days`, between `hours`, in UTC."""

    factor: Annotated[float, msgspec.Meta(ge=1, le=100)]
    days: tuple[Day, ...]
    hours: tuple[tuple[Hour, Hour], ...]


class Price(TieredRates, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What tokens cost: the rates, and those of other sizes and times.

    `source`: where the prices come from; `date`: when they were read. `daily`: other rates between
    two times of each day. `peak`: times at which all rates are multiplied.
    """

    source: str
    date: date | None = None
    peak: Peak | None = None
    daily: tuple[DailyRates, ...] = ()

    @property
    def varies(self) -> bool:
        """Whether the rates depend on the size of a request, or on its time other than by peak."""
        return bool(self.tiers or self.daily)

    def factor(self, unix_ns: int) -> float:
        """Return the factor of the price at a time."""
        if self.peak is None:
            return 1.0
        at = datetime.fromtimestamp(unix_ns // SECOND, UTC)
        within = any(start <= at.hour < end for start, end in self.peak.hours)
        return self.peak.factor if within and _DAYS[at.weekday()] in self.peak.days else 1.0

    def rates(self, unix_ns: int, read: int) -> TokenRates:
        """Return the rates of a request at a time with `read` input tokens, without the factor."""
        if not self.varies:
            return self
        minute = unix_ns // (60 * SECOND) % (24 * 60)
        own = (daily for daily in self.daily if daily.start <= minute < daily.end)
        return next(own, self).at_size(read)

    def as_dict(self) -> dict[str, Any]:
        """Return the price as plain values, for JSON and for `Run.price`."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class _Listed(Price, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    model: str


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    currency: Literal["USD"]
    price: tuple[_Listed, ...]


def shipped_price(model: str, base_url: str) -> Price | None:
    """Return the price of `model` at the host of `base_url` in the shipped list; None if none."""
    try:
        host = urlsplit(base_url).hostname
    except ValueError:  # the key `base_url` is not validated yet
        return None
    for row in _read_list():
        if row.host == host and fnmatchcase(model, row.model):
            return Price(**{name: getattr(row, name) for name in Price.__struct_fields__})
    return None


def price_in(run: Run, cell: str) -> Price | None:
    """Return the price that a cell of `run` was calculated with; None if it was not known."""
    price = run.cell_price(cell)
    return None if price is None else msgspec.convert(price, Price)


def price_text(price: Price) -> str:
    """Return a price in words, with its source."""
    parts = [f"USD per million tokens: {_rates_text(price)}"]
    parts += _tiers_text(price)
    for daily in price.daily:
        parts.append(f"{_clock(daily.start)} to {_clock(daily.end)} UTC {_rates_text(daily)}")
        parts += _tiers_text(daily)
    if price.peak is not None:
        parts.append(f"times {price.peak.factor:g} at peak hours")
    dated = f", {price.date}" if price.date else ""
    return f"{'; '.join(parts)} ({price.source}{dated})"


def _tiers_text(rates: TieredRates) -> Iterator[str]:
    for tier in rates.tiers:
        yield f"above {tier.above:,} input tokens {_rates_text(tier)}"


def _rates_text(rates: TokenRates) -> str:
    own = "" if rates.reasoning is None else f", {rates.reasoning:g} reasoning"
    return f"{rates.input:g} input, {rates.cached:g} cached, {rates.output:g} output{own}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def cost_usd(price: Price, tokens: Tokens, unix_ns: int) -> float:
    """Return the cost of `tokens` for a request at `unix_ns`.

    Cached tokens are part of the input, reasoning tokens part of the output. Counts that the
    provider did not report are taken as 0.
    """
    read, written = tokens.input or 0, tokens.output or 0
    cached, reasoned = min(tokens.cached or 0, read), min(tokens.reasoning or 0, written)
    rates = price.rates(unix_ns, read)
    cost: float = cost_of_counts(rates, read, cached, written, reasoned, price.factor(unix_ns))
    return cost


def cost_of_counts(
    rates: TokenRates, read: Any, cached: Any, written: Any, reasoned: Any, factor: Any
) -> Any:
    """Return the cost of token counts at a factor of the price: of numbers, or of arrays.

    `cached` is part of `read`, `reasoned` of `written`.
    """
    base = (read - cached) * rates.input + cached * rates.cached + written * rates.output
    if rates.reasoning is not None:
        base = base + reasoned * (rates.reasoning - rates.output)
    return base * factor / _MILLION


def worst_usd(price: Price, read: int, written: int) -> float:
    """Return the maximum cost of at most these tokens.

    Nothing is cached or everything, and the time and the tier are the most expensive ones.
    """
    base = max(
        read * max(rates.input, rates.cached) + written * max(rates.output, rates.reasoning or 0.0)
        for rates in _possible_rates(price, read)
    )
    return base * (price.peak.factor if price.peak else 1.0) / _MILLION


def _possible_rates(price: Price, read: int) -> Iterator[TokenRates]:
    """Yield the rates, at any time, of requests with at most `read` input tokens."""
    for rates in (price, *price.daily):
        yield rates
        yield from (tier for tier in rates.tiers if read > tier.above)


@cache
def _read_list() -> tuple[_Listed, ...]:
    return msgspec.convert(tomllib.loads(_LIST.read_text(encoding="utf-8")), _List).price
