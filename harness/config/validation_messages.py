"""What is wrong with a scenario, in one line that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails

from harness.config.tables import nearest

_KEY = "[key]"
"""How pydantic marks that a key itself is wrong, and not its value."""


class Complaint(NamedTuple):
    """`key`: the dotted key in the file, empty for the whole. `text`: key, value, way out."""

    key: str
    text: str


def complain(error: ErrorDetails, values: Mapping[str, Any]) -> Complaint:
    """Say what pydantic's `error` means for the file that holds `values`."""
    key = ".".join(_key_part(str(part)) for part in _path_in_file(error["loc"], values))
    context = error.get("ctx", {})
    match error["type"]:
        case "unknown_key":
            key = f"{key}.{context['key']}" if key else context["key"]
            close = nearest(context["key"], context["known"])
            known = ", ".join(sorted(context["known"]))
            return Complaint(key, f"{key}: unknown key{close}; known here: {known}")
        case "missing":
            return Complaint(key, f"{key}: missing; add it")
        case "secret":  # never shown, not even to who wrote it
            return Complaint(key, f"{key}: {error['msg']}")
        case "within":  # found by the whole table, which says itself where
            return Complaint(key, f"{key}.{error['msg']}")
        case "model_type" | "model_attributes_type" | "dict_type":
            what = f"should be a table; write [{key}] with its keys below"
        case "tuple_type":
            what = "should be a list"
        case "too_short":
            what = "is empty; give at least one"
        case _:
            what = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
            what = what[:1].lower() + what[1:]
    if not key:
        return Complaint(key, what)
    if error["loc"][-1] == _KEY:
        return Complaint(key, f"{key}: {what}")
    return Complaint(key, f"{key} = {_shown(error['input'])}: {what}")


def one_line(text: str) -> str:
    """Return `text` with white space run together and what cannot be printed as `?`."""
    spaced = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in spaced)


def _path_in_file(loc: Sequence[str | int], values: Mapping[str, Any]) -> Iterator[str | int]:
    """Leave out of `loc` what pydantic adds: marks of keys, places in what is no list."""
    here: Any = values
    for part in loc:
        if part == _KEY:
            continue
        if isinstance(part, int) and not isinstance(here, list):
            continue  # a bare value that stands for a list of one
        yield part
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            here = None


def _key_part(part: str) -> str:
    return f'"{part}"' if "." in part else part


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
