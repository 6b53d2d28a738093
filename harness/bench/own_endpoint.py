"""Points a scenario at the user's own endpoint, whatever endpoint it was written for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from harness.config.model_prices import price_of
from harness.config.prices import Price
from harness.config.request_settings import has_variable
from harness.records.settings import join_key, split_key

_KEPT = (
    "stream", "client", "json_mode", "cache", "settle", "reuse_connections", "strict", "limits",
    "finish_reasons", "auth", "headers", "query", "omit", "rename", "system", "follow_redirects",
    "wait_ready",
)  # fmt: skip
"""The keys of any `[endpoint]` that describe how to send requests, and not to which server."""

_MAY_HOLD_SECRETS = ("headers", "query")
"""They are not kept if they name environment variables: another server gets no secret."""

_REPLACED = ("kind", "base_url", "model", "api_key_env")
"""The keys that `OwnEndpoint` sets, or leaves out if no API key is sent."""


class OwnEndpoint(NamedTuple):
    """An OpenAI-compatible API; `key_variable`: the environment variable of its key, or None."""

    base_url: str
    model: str
    key_variable: str | None

    def settings(self) -> list[str]:
        """Return the `KEY=VALUE` settings that name it."""
        found = {"kind": "openai", "base_url": self.base_url, "model": self.model}
        if self.key_variable is not None:
            found["api_key_env"] = self.key_variable
        return [f"endpoint.{key}={json.dumps(value)}" for key, value in found.items()]


def drop_former_endpoint(
    values: dict[str, Any], own: OwnEndpoint, overrides: Iterable[str]
) -> list[str]:
    """Remove from a scenario what applies only to the endpoint that it was written for.

    `values`: the scenario as TOML has it, which is changed. `overrides`: what the user sets
    besides. Returns the dotted keys that were removed and not replaced.
    """
    keeps_price = isinstance(price_of(own.model, own.base_url), Price) or any(
        override.startswith("endpoint.price") for override in overrides
    )
    unusable = list(_unusable(values, keeps_price, own.key_variable is not None))
    for path in unusable:
        *tables, key = path
        table = values[tables[0]] if tables else values
        del table[key]
    return [join_key(path) for path in unusable if path[-1] not in _REPLACED]


def _unusable(
    values: Mapping[str, Any], keeps_price: bool, has_key: bool
) -> Iterator[tuple[str, ...]]:
    for key, value in _table(values, "endpoint").items():
        is_secret = key in _MAY_HOLD_SECRETS and has_variable(value)
        if key not in _KEPT or is_secret or (key == "auth" and not _fits(value, has_key)):
            yield ("endpoint", key)
    for key in _table(values, "sweep"):
        if _is_of_endpoint(key):
            yield ("sweep", key)
    if values.get("records") == "summary":  # the records of real time cannot be made again
        yield ("records",)
    if not keeps_price and "usd" in _table(values, "budget"):
        yield ("budget", "usd")
    minimise = _table(values, "objective").get("minimise")
    if not keeps_price and minimise == "cost_per_successful_workflow":
        yield ("objective", "minimise")


def _fits(auth: object, has_key: bool) -> bool:
    """Return whether a value of `auth` can be kept for an endpoint with or without a key."""
    return auth == "bearer" or (auth != "none") == has_key


def _table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a table of the scenario; an empty one if it has another type, which is refused."""
    table = values.get(key)
    return table if isinstance(table, Mapping) else {}


def _is_of_endpoint(key: str) -> bool:
    try:
        section, *rest = split_key(key)
    except ValueError:
        return False
    return section == "endpoint" and rest[:1] != [] and rest[0] not in _KEPT
