"""Turns the error of a validator or of pydantic about a TOML table into one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails

from harness.config.tables import SettingError, nearest
from harness.config.toml_text import toml_key

_KEY = "[key]"
"""How pydantic marks that a key itself is wrong, and not its value."""

_PROBLEMS = {
    "bool_type": "must be true or false",
    "date_from_datetime_parsing": "must be a date, such as 2026-01-31",
    "date_parsing": "must be a date, such as 2026-01-31",
    "date_type": "must be a date, such as 2026-01-31",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "missing": "missing; add it",
    "string_too_short": "must not be empty",
    "string_type": "must be text in quotes",
    "too_short": "must not be empty; give at least one value",
    "tuple_type": "must be a list, such as [1, 2]",
}
"""What is wrong, by pydantic's type of the error; the fields are in the error's context."""

_TABLE_EXPECTED = ("dict_type", "model_attributes_type", "model_type")


class SettingMessage(NamedTuple):
    """`key`: the dotted key in the file, empty for the whole file. `text`: one line about it."""

    key: str
    text: str


def message_of(error: ErrorDetails, values: Mapping[str, Any]) -> SettingMessage:
    """Return the message for `error`, found in the file that holds `values`.

    The text has the key, its value unless it may be a secret, the problem and the way out.
    """
    raised = error.get("ctx", {}).get("error")
    if isinstance(raised, SettingError):
        return setting_message(raised, values, *error["loc"])
    key = _key_in_file(error["loc"], values)
    shown = () if error["type"] == "missing" or _KEY in error["loc"] else (error["input"],)
    return SettingMessage(key, _text(key, _problem(error, key), *shown))


def setting_message(
    error: SettingError, values: Mapping[str, Any], *loc: str | int
) -> SettingMessage:
    """Return the message for `error`, raised for the part `loc` of the file that holds `values`."""
    key = _key_in_file((*loc, *error.path), values)
    return SettingMessage(key, _text(key, error.problem, *error.shown))


def one_line(text: str) -> str:
    """Return `text` in one line, with `?` for characters that cannot be printed."""
    spaced = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in spaced)


def _problem(error: ErrorDetails, key: str) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _TABLE_EXPECTED:
        return f"must be a table; write [{key}] with its keys below it"
    if kind in _PROBLEMS:
        known = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        wrong = error["input"]
        close = nearest(wrong, known) if known and isinstance(wrong, str) else ""
        fields = {name: _plain(value) for name, value in context.items()}
        return _PROBLEMS[kind].format(**fields) + close
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _plain(value: object) -> object:
    """Write a number without an exponent; return all else as it is."""
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() else format(Decimal(str(value)), "f")


def _text(key: str, problem: str, *shown: object) -> str:
    if not key:
        return problem
    value = f" = {_shown(shown[0])}" if shown else ""
    return f"{key}{value}: {problem}"


def _key_in_file(path: Sequence[str | int], values: Mapping[str, Any]) -> str:
    """Write the path of an error as a key of the file, with positions in lists."""
    key = ""
    for part in _parts_in_file(path, values):
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            name = toml_key(part)
            key += f".{name}" if key else name
    return key


def _parts_in_file(path: Sequence[str | int], values: Mapping[str, Any]) -> Iterator[str | int]:
    """Leave out what the file does not have: marks, and positions in a value that is no list."""
    here: Any = values
    for part in path:
        if part == _KEY:
            continue
        if isinstance(part, int) and not isinstance(here, list | tuple):
            continue  # a bare value that stands for a list of one
        yield part
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            here = None


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
