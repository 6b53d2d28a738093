"""What every section of a scenario file is made of: frozen, strict, with no unknown keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

T = TypeVar("T")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)\s*\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}\Z")


def parse_duration(value: object) -> object:
    """Return the seconds that `"500ms"`, `"30s"`, `"2m"` or `"1h"` stands for.

    Anything but a string is handed on for pydantic to judge. Raises ValueError on other text.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value)
    if match is None:
        raise ValueError('a duration is written like "500ms", "30s", "2m" or "1h"')
    return float(match[1]) * _UNITS[match[2]]


def _plain_name(value: str) -> str:
    # `_` joins the parts of a cell's id and a file is named after it.
    if not _NAME.match(value):
        raise ValueError(
            "a name has at most 64 letters, digits, '.' and '-', the first a letter or digit"
        )
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank; write something or leave it out")
    return value


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple | dict) else [value]


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return `values`; raise ValueError when two of them are alike."""
    # Files are named after cells, and some file systems do not tell letter cases apart.
    if len({str(value).casefold() for value in values}) != len(values):
        raise ValueError("a value stands twice in the list; leave one out")
    return values


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=86400.0)]
Wait = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, le=86400.0)]
Name = Annotated[str, AfterValidator(_plain_name)]
Text = Annotated[str, AfterValidator(_not_blank)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Several = Annotated[tuple[T, ...], BeforeValidator(_listed), Field(min_length=1, strict=False)]
"""A list of at least one; a bare value stands for a list of it."""


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, values: Any) -> Any:
        for key in values if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                raise PydanticCustomError(
                    "unknown_key",
                    "{key}: unknown key",
                    {"key": key, "known": tuple(cls.model_fields)},
                )
        return values
