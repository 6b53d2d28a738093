"""Tables of a TOML file as frozen values: no unknown keys, durations in scenario seconds.

`validation_messages` turns an error of a table into one line.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from harness.records.errors import InputError

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NO_DURATION = 'must be a duration, such as "500ms", "1.2s" or "2m", or a number of seconds'
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s|m|h)\s*\Z")


def parse_duration(value: object) -> object:
    """Return the seconds of a text such as `"47.6ms"`, `"1.2s"` or `"2m"`, or with `us` or `ns`.

    Return other types unchanged, for pydantic to validate. Raises ValueError for other text.
    """
    if isinstance(value, bool):
        raise ValueError(_NO_DURATION)
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value)
    if match is None:
        raise ValueError(_NO_DURATION)
    return float(match[1]) * _UNITS[match[2]]


_DURATION_TEXT = {
    "type": "string",
    "pattern": r"^\s*\d+(\.\d+)?\s*(ns|us|ms|s|m|h)\s*$",
    "description": 'a duration with its unit, such as "500ms", "30s", "2m" or "1h"',
}
_SECONDS = {"type": "number", "maximum": 86400, "description": "a number of seconds"}

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0, le=86400.0),
    WithJsonSchema({"anyOf": [{"exclusiveMinimum": 0, **_SECONDS}, _DURATION_TEXT]}),
]
"""Seconds, more than 0; a file can also have a text such as `"500ms"`."""
Delay = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(ge=0, le=86400.0),
    WithJsonSchema({"anyOf": [{"minimum": 0, **_SECONDS}, _DURATION_TEXT]}),
]
"""Seconds, at least 0; a file can also have a text such as `"500ms"`."""


def nearest(name: str, known: Iterable[str], show: Callable[[str], str] = repr) -> str:
    """Return ` (did you mean 'x'?)` if one of `known` resembles `name`, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {show(close[0])}?)" if close else ""


def parse_override(text: str) -> tuple[str, Any]:
    """Return the key and the value of `KEY=VALUE`; a value that is not TOML is a string.

    Raises InputError if there is no key or no `=`.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise InputError(" ".join(f"--set {text}: must have the form KEY=VALUE".split()))
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key.strip(), value  # --set endpoint.profile=plain-chat


_NOT_SHOWN = object()


class SettingError(ValueError):
    """A setting that a validator refuses.

    `problem`: what is wrong, and the way out. `path`: the keys and positions below what the
    validator checks, none for that itself. `value` is shown in the message if it is given; leave it
    out where it may be a secret.
    """

    def __init__(self, problem: str, *path: str | int, value: object = _NOT_SHOWN) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path
        self.shown = () if value is _NOT_SHOWN else (value,)


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """Return the problem of a `name` that is none of the `known` ones."""
    names = sorted(known)
    close = nearest(name, names) if isinstance(name, str) else ""
    return f"unknown {what}{close}; use one of: {', '.join(names)}"


def unknown_key(key: str, known: Iterable[str], elsewhere: Sequence[str] = ()) -> SettingError:
    """Return the error for a key that a table does not have; `elsewhere`: where it is known."""
    names = sorted(known)
    close = f" (did you mean {' or '.join(elsewhere)}?)" if elsewhere else nearest(key, names)
    return SettingError(f"unknown key{close}; known here: {', '.join(names)}", key)


class ConfigTable(BaseModel):
    """A table of a file. Values are not converted between types, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the JSON Schema, with the docstrings of the keys as their descriptions."""
        from harness.config.attribute_docs import attribute_docs, class_doc

        schema = handler(core_schema)
        table = handler.resolve_ref_schema(schema)
        table["description"] = class_doc(cls).text
        for key, text in attribute_docs(cls).items():
            if key in table.get("properties", {}):
                table["properties"][key]["description"] = text
        return schema

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, values: Any) -> Any:
        for key in values if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                raise unknown_key(str(key), cls.model_fields, cls._tables_with(key))
        return values

    @classmethod
    def _tables_with(cls, key: object) -> list[str]:
        """Return `key` with the tables inside this one that have it: `sweep.repeats`."""
        return [
            f"{name}.{key}"
            for name, field in cls.model_fields.items()
            for inner in [field.annotation]
            if isinstance(inner, type) and issubclass(inner, ConfigTable)
            if key in inner.model_fields
        ]
