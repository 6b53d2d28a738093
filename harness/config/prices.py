"""Prices of tokens: the shipped price list, and the calculation of costs.

Prices are in USD per million tokens. A run stores its price, so reports do not need the list.
"""

from __future__ import annotations

import tomllib
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
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Usd = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Hour = Annotated[int, msgspec.Meta(ge=0, le=24)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Peak(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The times at which prices are multiplied by `factor`: on `days`, between `hours`, in UTC."""

    factor: Annotated[float, msgspec.Meta(ge=1, le=100)]
    days: tuple[Day, ...]
    hours: tuple[tuple[Hour, Hour], ...]


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens: `input` without cache, `cached` from the prompt cache, `output`.

    `source`: where the prices come from; `date`: when they were read.
    """

    input: Usd
    cached: Usd
    output: Usd
    source: str
    date: date | None = None
    peak: Peak | None = None

    def factor(self, unix_ns: int) -> float:
        """Return the factor of the price at a time."""
        if self.peak is None:
            return 1.0
        at = datetime.fromtimestamp(unix_ns // SECOND, UTC)
        within = any(start <= at.hour < end for start, end in self.peak.hours)
        return self.peak.factor if within and _DAYS[at.weekday()] in self.peak.days else 1.0

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


def price_of(model: str, base_url: str) -> Price | None:
    """Return the listed price for `model` at the host of `base_url`; None if there is none."""
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


def cost_usd(price: Price, tokens: Tokens, unix_ns: int) -> float:
    """Return the cost of `tokens` for a request at `unix_ns`.

    Cached tokens are part of the input, reasoning tokens part of the output. Counts that the
    provider did not report are taken as 0.
    """
    read, written = tokens.input or 0, tokens.output or 0
    cached = min(tokens.cached or 0, read)
    cost: float = cost_of_counts(price, read, cached, written, price.factor(unix_ns))
    return cost


def cost_of_counts(price: Price, read: Any, cached: Any, written: Any, factor: Any) -> Any:
    """Return the cost of token counts at a factor of the price: of numbers, or of arrays.

    `cached` is part of `read`.
    """
    base = (read - cached) * price.input + cached * price.cached + written * price.output
    return base * factor / _MILLION


def worst_usd(price: Price, read: int, written: int) -> float:
    """Return the maximum cost of these tokens: nothing cached, at the highest factor."""
    base = read * max(price.input, price.cached) + written * price.output
    return base * (price.peak.factor if price.peak else 1.0) / _MILLION


@cache
def _read_list() -> tuple[_Listed, ...]:
    return msgspec.convert(tomllib.loads(_LIST.read_text(encoding="utf-8")), _List).price
