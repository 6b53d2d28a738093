"""Settings by dotted key: where they stand in a scenario, and how their values name cells."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST_ID = 100
"""A cell's id names files, and file systems limit the length of a name."""
LONGEST_VALUE = 24
"""A longer value is numbered where it stands in a name."""

CLIENT_KEY = "endpoint.client"
"""The key that says what sends the requests."""

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


def one_at_a_time(mode: str) -> bool:
    """Return whether a mode has one call in flight at a time: the baseline of speed-ups."""
    return mode in ("sync", "serial")


def in_event_loop(mode: str) -> bool:
    """Return whether a mode runs in an event loop of asyncio."""
    return mode in ("async", "serial")


def split_key(key: str) -> list[str]:
    """Return the parts of a dotted key of TOML: `retry."v1.2".cap` has three.

    Raises ValueError when it is not a key.
    """
    refusal = ValueError(f"{key!r} is not a dotted key")
    try:
        value: Any = tomllib.loads(f"{key} = 0")
    except (ValueError, RecursionError):
        raise refusal from None
    parts = []
    while isinstance(value, dict):
        if len(value) != 1 or "\n" in key:
            raise refusal
        ((part, value),) = value.items()
        parts.append(part)
    return parts


def join_key(parts: Sequence[str]) -> str:
    """Return the dotted key of TOML with these parts, the inverse of `split_key`."""
    return ".".join(part if _BARE.match(part) else json.dumps(part) for part in parts)


def setting_of(scenario: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key; None where there is none."""
    value: Any = scenario
    for part in split_key(key):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def with_settings(scenario: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scenario with other values of some dotted keys. Missing tables are made.

    Raises ValueError when a key is not one, or leads through a value that is not a table.
    """
    changed = dict(scenario)
    for key, value in settings.items():
        table = changed
        *parents, last = split_key(key)
        for place, parent in enumerate(parents, 1):
            child = table.get(parent)
            if child is not None and not isinstance(child, Mapping):
                raise ValueError(f"{'.'.join(parents[:place])} is not a table")
            table[parent] = dict(child or {})
            table = table[parent]
        table[last] = value
    return changed


def without_setting(scenario: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the scenario without a dotted key. Raises ValueError when it does not have the key."""
    parts = split_key(key)
    changed = table = dict(scenario)
    for parent in parts[:-1]:
        child = table.get(parent)
        table[parent] = dict(child) if isinstance(child, Mapping) else {}
        table = table[parent]
    if parts[-1] not in table:
        raise ValueError(f"{key} is not set, so it cannot be removed")
    del table[parts[-1]]
    return changed


def value_text(value: Any) -> str:
    """Return a value of a setting as text: text as it is, other values as JSON; `5` for 5.0.

    Control characters are escaped, so that no value controls the terminal.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str):
        return json.dumps(value, sort_keys=True)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in value)


def value_slugs(key: str, values: Sequence[Any]) -> list[str]:
    """Return a name for each value of a swept key, of letters, digits, `.` and `-`.

    No two are alike, whatever their case. Text names itself; a number or a truth value follows the
    last part of its key. Addresses, tables, lists and long values are numbered: `base-url-2`.
    """
    stem = _slug(split_key(key)[-1]) or "value"
    numbered = [f"{stem}-{number}" for number in range(1, len(values) + 1)]
    slugs = [_named(stem, value) or name for value, name in zip(values, numbered, strict=True)]
    return slugs if len({slug.casefold() for slug in slugs}) == len(slugs) else numbered


def _named(stem: str, value: Any) -> str:
    """Return the name that a value gives itself; empty when it has to be numbered."""
    if isinstance(value, str):
        slug = "" if "://" in value else _slug(value)
    elif isinstance(value, bool | int | float):
        slug = f"{stem}-{_slug(value_text(value)) or 'value'}"
    else:
        slug = ""
    return slug if len(slug) <= LONGEST_VALUE else ""


def _slug(text: str) -> str:
    return _UNSAFE.sub("-", text.replace("_", "-")).strip("-.")


def cell_id(parts: Sequence[str]) -> str:
    """Return the id of the cell whose settings have these names; a hash ends one that is cut."""
    whole = "_".join(parts)
    if len(whole) <= LONGEST_ID:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:12]
    return f"{whole[: LONGEST_ID - len(digest) - 1]}-{digest}"
