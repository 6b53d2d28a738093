"""Finds the price of a model at a provider: in the shipped list, then in the package genai-prices.

The package contains its price data. Nothing here starts its updates, and the data is read from the
package itself, so no price comes from the network, and none changes while a process runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import cache
from importlib import metadata
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from harness.config.base_url import is_ip_address
from harness.config.prices import (
    DailyRates,
    Price,
    SizeTier,
    TieredRates,
    TokenRates,
    shipped_price,
)

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

PACKAGE = "genai-prices"

_DAY = 24 * 60
_COUNTED = ("input_mtok", "cache_read_mtok", "output_mtok", "output_reasoning_mtok")
"""The parts of a price that are for tokens which the harness counts."""

_UNCOUNTED = {"requests_kcount": "each request", "output_citation_mtok": "citations"}
"""The parts that every request can be charged for, and that the harness does not count."""

_DEPLOYED = ("azure",)
"""Providers whose users choose the names of models, so that only a listed name says which it is."""

_OWN_HOURS = ("deepseek",)
"""Providers whose hours are those of the shipped list, which has the days of the week."""


class NoPrice(NamedTuple):
    """Why a model has no price: the end of a sentence."""

    why: str


def price_of(model: str, base_url: str, service_tier: str | None = None) -> Price | NoPrice:
    """Return the price of a model at the API of `base_url`, as it is today.

    `service_tier`: as requests ask for it. A model that no list has, or that a list has with
    several prices, has none.
    """
    shipped = shipped_price(model, base_url)
    return packaged_price(model, base_url, service_tier) if shipped is None else shipped


@cache
def packaged_price(
    model: str, base_url: str, service_tier: str | None, now: datetime | None = None
) -> Price | NoPrice:
    """Return the price that the package genai-prices has of a model; `now`: by default, now."""
    url = _normal(base_url)
    if url is None:
        return NoPrice(f"the address is of no provider in {PACKAGE}")
    from genai_prices.data import providers

    named = f"{PACKAGE} {metadata.version(PACKAGE)}"
    at_url = [one for one in providers if _serves(one.api_pattern, url)]
    if not at_url:
        return NoPrice(f"{urlsplit(url).hostname} is of no provider in {named}")
    by_id = {one.id: one for one in providers}
    found = [pair for one in at_url for pair in _models(one, by_id, model)]
    if not found:
        return NoPrice(f"{named} does not have it for {at_url[0].name}")
    moment = now or datetime.now(UTC)
    context = {} if service_tier is None else {"service_tier": service_tier}
    prices = [_price(info, provider, context, moment, named) for provider, info in found]
    if len({_without_source(price) for price in prices}) > 1:
        return NoPrice(f"{named} has several prices for {at_url[0].name}")
    return prices[0]


def _normal(base_url: str) -> str | None:
    """Return a URL with its scheme and host in lower case; None if no provider can be there."""
    try:
        url = urlsplit(base_url)
    except ValueError:  # the key `base_url` is not validated yet
        return None
    host = url.hostname or ""
    if "." not in host or is_ip_address(host):  # a name within a network, or no name
        return None
    return url._replace(scheme=url.scheme.lower(), netloc=url.netloc.lower()).geturl()


def _serves(pattern: str, url: str) -> bool:
    """Return whether a provider's pattern matches a URL, and not just the beginning of its host."""
    found = re.match(pattern, url)
    if found is None:
        return False
    rest = url[found.end() :]
    return pattern.endswith(r"\.") or not re.match(r"[\w.-]", rest) or url[found.end() - 1] == "/"


def _models(
    provider: Provider, by_id: Mapping[str, Provider], model: str
) -> Iterator[tuple[Provider, ModelInfo]]:
    """Yield the entries for a model: the provider's own, or else those of the first maker.

    `by_id`: all providers.
    """
    name = model.lower()
    for maker in (provider.id, *(provider.fallback_model_providers or ())):
        own = by_id[maker].models if maker in by_id else []
        found = [one for one in own if one.is_match(name)]
        if provider.id in _DEPLOYED:
            found = [one for one in found if one.id == name]
        if found:
            yield from ((provider, one) for one in found)
            return


def _without_source(price: Price | NoPrice) -> Any:
    return price if isinstance(price, NoPrice) else str({**price.as_dict(), "source": ""})


def _price(
    info: ModelInfo, provider: Provider, context: Mapping[str, str], now: datetime, named: str
) -> Price | NoPrice:
    """Return the price of an entry, with all times of the day that it distinguishes."""
    spans = []
    for start, end in pairwise(_times(info)):
        clock = time(start // 60, start % 60, tzinfo=UTC)
        model_price = info.get_prices(datetime.combine(now.date(), clock), context)
        rates = _rates(model_price)
        if isinstance(rates, str):
            return NoPrice(f"{named} has {rates} for {provider.name}")
        spans.append((start, end, rates))
    usual = max((rates for _, _, rates in spans), key=lambda one: _minutes(spans, one))
    return Price(
        **_fields(usual),
        source=f"{named}, {provider.name}: {info.id}",
        daily=tuple(
            DailyRates(**_fields(rates), start=start, end=end)
            for start, end, rates in spans
            if rates != usual and provider.id not in _OWN_HOURS
        ),
    )


def _minutes(spans: list[tuple[int, int, TieredRates]], rates: TieredRates) -> int:
    """Return how much of the day has these rates."""
    return sum(end - start for start, end, own in spans if own == rates)


def _fields(rates: TieredRates) -> dict[str, Any]:
    return {name: getattr(rates, name) for name in TieredRates.__struct_fields__}


def _times(info: ModelInfo) -> list[int]:
    """Return the minutes of the day at which its price can change, 0 and the last included."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint

    own = [] if isinstance(info.prices, ModelPrice) else info.prices
    limits = [one.constraint for one in (*own, *(info.price_variants or ()))]
    minutes = {0, _DAY}
    for limit in limits:
        if isinstance(limit, TimeOfDateConstraint):
            minutes |= {_minute(limit.start_time), _minute(limit.end_time)}
    return sorted(minutes)


def _minute(clock: time) -> int:
    """Return the minute of the day in UTC; a time without a zone is in UTC."""
    aware = datetime.combine(datetime(2000, 1, 2, tzinfo=UTC), clock)
    utc = (aware if aware.tzinfo else aware.replace(tzinfo=UTC)).astimezone(UTC)
    return utc.hour * 60 + utc.minute


def _rates(price: ModelPrice) -> TieredRates | str:
    """Return the rates of a price of the package, or what it has instead of a usable price."""
    parts = {key: value for key, value in vars(price).items() if value is not None}
    for key, what in _UNCOUNTED.items():
        if key in parts:
            return f"a price of {what}, which the harness does not count,"
    if "input_mtok" not in parts or "output_mtok" not in parts:
        return "no price of input and output tokens"
    own = {key: parts[key] for key in _COUNTED if key in parts}
    starts = {tier.start for value in own.values() for tier in _tiers(value)}
    rates = TieredRates(
        **_at(own, 0), tiers=tuple(SizeTier(**_at(own, n + 1), above=n) for n in sorted(starts))
    )
    if not any(_amounts(one) for one in (rates, *rates.tiers)):
        return "a price of 0, which is not taken for granted,"
    return rates


def _amounts(rates: TokenRates) -> bool:
    return any((rates.input, rates.cached, rates.output, rates.reasoning))


def _tiers(value: Decimal | TieredPrices) -> list[Any]:
    return [] if isinstance(value, Decimal) else value.tiers


def _at(parts: Mapping[str, Decimal | TieredPrices], read: int) -> dict[str, Any]:
    """Return the rates of a request with `read` input tokens."""

    def rate(key: str, absent: float | None) -> float | None:
        if key not in parts:
            return absent
        value = parts[key]
        base = value if isinstance(value, Decimal) else value.base
        for tier in _tiers(value):
            if read > tier.start:
                base = tier.price
        return float(base)

    new = rate("input_mtok", None)
    return {
        "input": new,
        "cached": rate("cache_read_mtok", new),
        "output": rate("output_mtok", None),
        "reasoning": rate("output_reasoning_mtok", None),
    }
