"""The values of the keys that a run varies: permits, and lists without duplicates."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticKnownError


def different_values(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `values`; raise ValueError if two of them are equal."""
    if len({json.dumps(value, sort_keys=True, default=str) for value in values}) != len(values):
        raise ValueError("duplicate value; remove one")
    return values


def _permits(value: object) -> object:
    """Return a number of permits or a name; raise the error of the number for another value."""
    if isinstance(value, str):
        return value
    if type(value) is not int:
        raise PydanticKnownError("int_type")
    if value < 1:
        raise PydanticKnownError("greater_than_equal", {"ge": 1})
    if value > _MOST_PERMITS:
        raise PydanticKnownError("less_than_equal", {"le": _MOST_PERMITS})
    return value


_MOST_PERMITS = 1_000_000

PermitsValue = Annotated[
    int | str,
    BeforeValidator(_permits),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": _MOST_PERMITS},
                {"type": "string", "description": "the name of a limit that adapts"},
            ]
        }
    ),
]
