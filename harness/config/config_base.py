"""The base class and the field types of all sections of a scenario file."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from harness.config.tables import ConfigTable
from harness.config.validation_messages import message_of, one_line

_T = TypeVar("_T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}\Z")


def _plain_name(value: str) -> str:
    # `_` joins the parts of a cell's id, which is used as a file name.
    if not _NAME.match(value):
        raise ValueError(
            "must have at most 64 letters, digits, '.' and '-', and begin with a letter or digit"
        )
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank; write text, or remove the key")
    return value


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple | dict) else [value]


def distinct(values: tuple[_T, ...]) -> tuple[_T, ...]:
    """Return `values`; raise ValueError if two of them are equal."""
    # Files are named after cells, and some file systems are case-insensitive.
    if len({str(value).casefold() for value in values}) != len(values):
        raise ValueError("duplicate value; remove one")
    return values


def name_of_file(path: PurePath, otherwise: str) -> str:
    """Return a `Name` after a file; `otherwise` if that of the file has no fitting character."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", path.stem).strip("-.")[:64] or otherwise


Name = Annotated[str, AfterValidator(_plain_name)]
Text = Annotated[str, AfterValidator(_not_blank)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class _OneOrSeveral:
    """The JSON Schema of `Several`."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        items = handler(core_schema)["items"]
        return {"anyOf": [items, {"type": "array", "items": items, "minItems": 1}]}


Several = Annotated[
    tuple[_T, ...],
    BeforeValidator(_listed),
    Field(min_length=1, strict=False),
    _OneOrSeveral(),
]
"""A list of at least one item; a single value means a list of it."""


class Section(ConfigTable):
    """The base class of the tables of a scenario. Made in code, it raises ValueError, one line."""

    if not TYPE_CHECKING:  # type checkers know the keys

        def __init__(self, /, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                text = message_of(error.errors()[0], values).text
                raise ValueError(one_line(f"{type(self).__name__}: {text}")) from None

        # As pydantic marks its own: tables of a file are validated without calling it.
        __init__.__pydantic_base_init__ = BaseModel.__init__.__pydantic_base_init__
