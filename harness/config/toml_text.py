"""Writes TOML: every value inline, one top-level key a line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def toml_document(table: Mapping[str, Any]) -> str:
    """Return `table` as TOML. A None, which TOML does not have, is left out of a table."""
    return "".join(
        f"{_quoted(key)} = {toml_value(value)}\n"
        for key, value in table.items()
        if value is not None
    )


def toml_value(value: Any) -> str:
    """Return one value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        pairs = (
            f"{_quoted(key)} = {toml_value(inner)}"
            for key, inner in value.items()
            if inner is not None
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)


def toml_key(name: str) -> str:
    """Return one part of a key as TOML, in quotes only if it needs them."""
    return name if _BARE_KEY.match(name) else _quoted(name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
