"""When a limit of requests or tokens is reset, as headers of a refusal say: a hint for the wait.

`x-ratelimit-reset-*` are those of OpenAI and of servers like it; `RateLimit` is the header of the
IETF draft draft-ietf-httpapi-ratelimit-headers, which had other forms in earlier versions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

_STATUSES = frozenset({429, 503})
_RESET = re.compile(r"(?:x-)?ratelimit-reset(?:-[a-z0-9_-]+)?\Z")
_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s|d)")
_UNITS = {
    "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9,
}  # fmt: skip
_PAIR = re.compile(r"\b(r|t|remaining|reset)\s*=\s*(\d+)")
_LEAST_MILLISECONDS, _LEAST_TIME = 1e11, 1e9
"""From these numbers on, a number is a time since 1970, in milliseconds or in seconds."""
_LONGEST = 1e9


class _Limit(NamedTuple):
    """One limit. `remaining`: None if that is not known. `seconds`: until the reset."""

    remaining: float | None
    seconds: float


def rate_limit_reset(
    status: int | None, headers: Mapping[str, str], unix_seconds: float
) -> int | None:
    """Return the nanoseconds until the limit is reset that a refusal is about; None if not known.

    Of limits without anything left, the last reset counts; if none is such, the first one.
    """
    if status not in _STATUSES:
        return None
    limits = [one for one in _limits(headers, unix_seconds) if 0 < one.seconds <= _LONGEST]
    used_up = [one.seconds for one in limits if one.remaining is not None and one.remaining <= 0]
    seconds = max(used_up) if used_up else min((one.seconds for one in limits), default=None)
    return None if seconds is None else round(seconds * 1e9)


def _limits(headers: Mapping[str, str], now: float) -> Iterator[_Limit]:
    for name, value in headers.items():
        lower = name.lower()
        if _RESET.match(lower):
            seconds = _seconds(value, now)
            if seconds is not None:
                left = headers.get(lower.replace("reset", "remaining"), "")
                yield _Limit(_number(left), seconds)
        elif lower == "ratelimit":
            yield from _of_field(value)


def _of_field(value: str) -> Iterator[_Limit]:
    """Yield the limits of a `RateLimit` field: one an item, or one whose parts are the items."""
    items = value.split(",") if ";" in value else [value]
    for item in items:
        found = dict(_PAIR.findall(item))
        seconds = found.get("t", found.get("reset"))
        if seconds is not None:
            yield _Limit(
                _number(str(found.get("r") or found.get("remaining") or "")), float(seconds)
            )


def _seconds(value: str, now: float) -> float | None:
    """Return the seconds until a reset: a number, `6m0s`, or a time."""
    text = value.strip()
    number = _number(text)
    if number is not None:
        if number >= _LEAST_MILLISECONDS:
            return number / 1000 - now
        return number - now if number >= _LEAST_TIME else number
    parts = _PARTS.findall(text)
    if parts and "".join(map("".join, parts)) == text:
        return sum(float(count) * _UNITS[unit] for count, unit in parts)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() - now


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
