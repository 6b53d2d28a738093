"""What tokens cost: the shipped price list, and costs reckoned from it.

Figures are USD per million tokens. A run keeps the price that it was reckoned with, so reports
made later never depend on the list of the day.
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
    """When everything costs `factor` times as much: on `days`, from one hour to another, UTC."""

    factor: Annotated[float, msgspec.Meta(ge=1, le=100)]
    days: tuple[Day, ...]
    hours: tuple[tuple[Hour, Hour], ...]


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens: `input` read afresh, `cached` from the provider's cache, `output`.

    `source` says where the figures come from, `date` when they were read there.
    """

    input: Usd
    cached: Usd
    output: Usd
    source: str
    date: date | None = None
    peak: Peak | None = None

    @property
    def is_free(self) -> bool:
        """Whether no token costs anything."""
        return self.input == self.cached == self.output == 0

    def factor(self, unix_ns: int) -> float:
        """Return what the price is multiplied by at a moment."""
        if self.peak is None:
            return 1.0
        at = datetime.fromtimestamp(unix_ns // SECOND, UTC)
        within = any(start <= at.hour < end for start, end in self.peak.hours)
        return self.peak.factor if within and _DAYS[at.weekday()] in self.peak.days else 1.0

    @property
    def highest_factor(self) -> float:
        """What the price is multiplied by at worst."""
        return self.peak.factor if self.peak else 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return the price as plain values, ready for JSON and for `Run.price`."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class _Listed(Price, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    model: str


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    currency: Literal["USD"]
    price: tuple[_Listed, ...]


def price_of(model: str, base_url: str) -> Price | None:
    """Return the list's price for `model` at the host of `base_url`; None when it has none."""
    host = urlsplit(base_url).hostname
    for row in _read_list():
        if row.host == host and fnmatchcase(model, row.model):
            plain = row.as_dict()
            return msgspec.convert({name: plain[name] for name in Price.__struct_fields__}, Price)
    return None


def price_in(run: Run, cell: str) -> Price | None:
    """Return the price that a cell of `run` was calculated with; None when it was not known."""
    price = run.cell_price(cell)
    return None if price is None else msgspec.convert(price, Price)


def cost_usd(price: Price, tokens: Tokens, unix_ns: int) -> float:
    """Return what `tokens` cost when they were asked for at `unix_ns`.

    Cached tokens are part of the input, reasoning of the output. What the provider did not report
    counts as nothing.
    """
    read, written = tokens.input or 0, tokens.output or 0
    cached = min(tokens.cached or 0, read)
    base = (read - cached) * price.input + cached * price.cached + written * price.output
    return base * price.factor(unix_ns) / _MILLION


def worst_usd(price: Price, read: int, written: int) -> float:
    """Return the most that so many tokens can cost: nothing cached, at the hour that costs most."""
    base = read * max(price.input, price.cached) + written * price.output
    return base * price.highest_factor / _MILLION


@cache
def _read_list() -> tuple[_Listed, ...]:
    return msgspec.convert(tomllib.loads(_LIST.read_text(encoding="utf-8")), _List).price
