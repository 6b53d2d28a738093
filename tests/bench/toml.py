"""A small writer of TOML, everything inline: for tests that make scenarios up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any


def dumps(table: Mapping[str, Any]) -> str:
    """Return `table` as TOML, one top-level key a line."""
    return "".join(f"{json.dumps(key)} = {dump(value)}\n" for key, value in table.items())


def dump(value: Any) -> str:
    """Return one value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {dump(inner)}" for key, inner in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(dump, value))}]"
    return repr(value)
