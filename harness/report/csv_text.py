"""Text in CSV files that spreadsheets open."""

from __future__ import annotations

from typing import TypeVar

_Value = TypeVar("_Value")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins with one of these for a formula."""


def csv_safe(value: _Value) -> _Value | str:
    """Return `value`; a spreadsheet would run text that looks like a formula, so quote it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
