"""Makes JSON that conforms to a JSON schema, from the random numbers of a prompt.

Covered is what structured output and tools use: types, enum and const, nested objects and arrays
with their limits, numbers and strings with theirs, common formats, anyOf, oneOf, allOf, and
references within the schema. Patterns, conditions and negations are ignored. A recursive schema
gives a small value.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from harness.simulator import text

Schema: TypeAlias = Mapping[str, Any]

_WIDE = 2
"""The levels of arrays and objects down to which lists are long and optional keys are used."""
_DEEPEST = 32
_MOST_ITEMS = 1000
_MOST_VALUES = 100_000
_MOST_CHARACTERS = 100_000
_RANGE = 100
_NUMBER_KEYS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_IMPLIED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("object", ("properties", "required", "additionalProperties", "minProperties")),
    ("array", ("items", "prefixItems", "minItems", "maxItems", "uniqueItems")),
    ("number", _NUMBER_KEYS),
)
_ANNOTATIONS = {"title", "description", "type", "default", "examples"}
_FORMATS: Mapping[str, Callable[[random.Random], str]] = {
    "date": lambda chance: _date(chance),
    "time": lambda chance: f"{_time(chance)}Z",
    "date-time": lambda chance: f"{_date(chance)}T{_time(chance)}Z",
    "duration": lambda chance: f"P{chance.randint(1, 30)}D",
    "email": lambda chance: f"reader{chance.randint(1, 999)}@example.org",
    "uri": lambda chance: f"https://example.org/{chance.randint(1, 999)}",
    "hostname": lambda chance: f"host{chance.randint(1, 999)}.example.org",
    "ipv4": lambda chance: f"192.0.2.{chance.randint(1, 254)}",
    "ipv6": lambda chance: f"2001:db8::{chance.randint(1, 9999):x}",
    "uuid": lambda chance: _uuid(chance),
}


def conforming(schema: bytes, subject: str, items: int | None, chance: random.Random) -> str:
    """Return JSON that conforms to `schema`, with sentences about `subject`.

    `items`: the length of outer arrays, where the schema allows it; None for three to four.
    """
    root = msgspec.json.decode(schema)
    return _encode(_Maker(root, subject, items, chance).make(root, 0, False))


def arguments(parameters: bytes, subject: str, chance: random.Random) -> str:
    """Return the arguments of a tool call: a JSON object that conforms to `parameters`."""
    root = msgspec.json.decode(parameters)
    if not isinstance(root, dict):
        return "{}"
    value = _Maker(root, subject, None, chance).make({"type": "object", **root}, 0, False)
    return _encode(value) if isinstance(value, dict) else "{}"


def list_key(schema: bytes) -> str | None:
    """Return the key of the list if a schema asks for nothing but a list of any strings."""
    root = msgspec.json.decode(schema)
    properties = root.get("properties") if isinstance(root, dict) else None
    if not isinstance(properties, dict) or len(properties) != 1:
        return None
    ((key, value),) = properties.items()
    plain = isinstance(value, dict) and value.keys() <= _ANNOTATIONS | {"items"}
    if not plain or value.get("type") != "array" or not isinstance(value.get("items"), dict):
        return None
    items = value["items"]
    return key if items.get("type") == "string" and items.keys() <= _ANNOTATIONS else None


class _Maker:
    """Makes values for the parts of one schema."""

    def __init__(self, root: Any, subject: str, items: int | None, chance: random.Random) -> None:
        self._root = root
        self._subject = subject
        self._items = items
        self._chance = chance
        self._left = _MOST_VALUES
        self._known_fits: dict[tuple[int, int], bool] = {}

    def make(self, schema: Any, depth: int, in_array: bool) -> Any:
        """Return a value for `schema`, which is `depth` levels below the root."""
        self._left -= 1
        part = self._resolved(schema, depth)
        if "const" in part:
            return part["const"]
        if isinstance(part.get("enum"), list) and part["enum"]:
            return self._chance.choice(part["enum"])
        match self._type_of(part, depth):
            case _ if depth > _DEEPEST or self._left < 0:
                return None
            case "object":
                return self._object(part, depth, in_array)
            case "array":
                return self._array(part, depth, in_array)
            case "integer":
                return self._number(part, whole=True)
            case "number":
                return self._number(part, whole=False)
            case "boolean":
                return self._chance.random() < 0.5
            case "null":
                return None
            case _:
                return self._string(part)

    def _resolved(self, schema: Any, depth: int) -> Schema:
        """Return a schema without references and alternatives: they are followed or chosen."""
        part: Schema = schema if isinstance(schema, dict) else {}
        for _ in range(_DEEPEST):
            if "$ref" in part:
                target = self._target(part["$ref"])
                part = _merged(_without(part, "$ref"), target)
            elif isinstance(part.get("allOf"), list):
                rest = _without(part, "allOf")
                for other in part["allOf"]:
                    rest = _merged(rest, other)
                part = rest
            elif alternatives := _alternatives(part):
                key, branches = alternatives
                part = _merged(_without(part, key), self._branch(branches, depth))
            else:
                return part
        return {}

    def _branch(self, branches: list[Any], depth: int) -> Any:
        if depth < _WIDE:
            return self._chance.choice(branches)
        return min(branches, key=self._height)

    def _height(self, schema: Any) -> int:
        """Return the fewest levels of a value for `schema`, at most 9."""
        return next((levels for levels in range(9) if self._fits(schema, levels)), 9)

    def _fits(self, schema: Any, levels: int) -> bool:
        """Return whether a value with at most so many levels of objects and arrays conforms."""
        if not isinstance(schema, dict):
            return True
        key = (id(schema), levels)
        if key not in self._known_fits:
            self._known_fits[key] = False  # a schema that needs itself fits nothing
            self._known_fits[key] = self._find_fit(schema, levels)
        return self._known_fits[key]

    def _find_fit(self, schema: Schema, levels: int) -> bool:
        if "$ref" in schema and not self._fits(self._target(schema["$ref"]), levels):
            return False
        if not all(self._fits(other, levels) for other in _listed(schema, "allOf")):
            return False
        alternatives = _alternatives(schema)
        if alternatives and not any(self._fits(one, levels) for one in alternatives[1]):
            return False
        if "const" in schema or "enum" in schema:
            return True
        kinds = _kinds(schema)
        if any(kind not in ("object", "array") for kind in kinds):
            return True
        properties = _properties(schema)
        inner = [properties.get(name) for name in _listed(schema, "required")]
        if "array" in kinds and _whole(schema.get("minItems"), 0):
            inner = [schema.get("items"), *_listed(schema, "prefixItems")]
        return levels > 0 and all(self._fits(one, levels - 1) for one in inner)

    def _target(self, reference: Any) -> Any:
        """Return the part of the schema that a reference names; {} for any other."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        part = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(part, list) and name.isdigit() and int(name) < len(part):
                part = part[int(name)]
            elif isinstance(part, dict) and name in part:
                part = part[name]
            else:
                return {}
        return part

    def _type_of(self, part: Schema, depth: int) -> str:
        kinds = _kinds(part)
        if depth >= _WIDE:
            plain = [kind for kind in kinds if kind not in ("object", "array")]
            kinds = plain or kinds
        return self._chance.choice(kinds) if len(kinds) > 1 else kinds[0]

    def _object(self, part: Schema, depth: int, in_array: bool) -> dict[str, Any]:
        properties, required = _properties(part), _listed(part, "required")
        made = {}
        for name, schema in properties.items():
            optional = name not in required
            if optional and (depth >= _WIDE or self._chance.random() < 0.5):
                continue
            made[name] = self.make(schema, depth + 1, in_array)
        others = part.get("additionalProperties", True)
        for name in required:
            if name not in made and isinstance(name, str):
                made[name] = self.make(others, depth + 1, in_array)
        least = _whole(part.get("minProperties"), 0)
        if isinstance(others, dict) and not properties and depth < _WIDE:
            least = max(least, 2)
        for name in self._further_names(part, min(least, _MOST_ITEMS)):
            if len(made) >= least:
                break
            if name not in made:
                made[name] = self.make(properties.get(name, others), depth + 1, in_array)
        return made

    @staticmethod
    def _further_names(part: Schema, count: int) -> Iterator[str]:
        yield from _properties(part)
        if part.get("additionalProperties", True) is not False:
            most = _whole(part.get("maxProperties"), count)
            yield from (f"key_{number}" for number in range(1, min(most, count) + 1))

    def _array(self, part: Schema, depth: int, in_array: bool) -> list[Any]:
        least = _whole(part.get("minItems"), 0)
        most = min(_whole(part.get("maxItems"), _MOST_ITEMS), _MOST_ITEMS)
        wanted = self._chance.randint(3, 4) if depth <= _WIDE else 0
        if self._items is not None and not in_array:
            wanted = self._items
        count = max(min(wanted, most), min(least, _MOST_ITEMS))
        first, rest = _listed(part, "prefixItems"), part.get("items")
        if isinstance(rest, list):  # as in draft 7
            first, rest = rest, part.get("additionalItems")
        if rest is False:
            count = min(count, len(first))
        made: list[Any] = []
        is_unique = part.get("uniqueItems") is True
        for _ in range(4 * count if is_unique else count):
            if len(made) == count or self._left < 0:
                break
            schema = first[len(made)] if len(made) < len(first) else rest
            value = self.make(schema, depth + 1, True)
            if not is_unique or not any(_encode(value) == _encode(other) for other in made):
                made.append(value)
        return made

    def _number(self, part: Schema, whole: bool) -> int | float:
        low, high = _limit(part, "minimum", max), _limit(part, "maximum", min)
        if low is None:
            low = min(0, high - _RANGE) if high is not None else 0
        if high is None:
            high = low + _RANGE
        step: Any = part.get("multipleOf")
        if not _is_number(step) or step <= 0:
            step = 1 if whole else None
        elif whole and step != int(step):
            step = 1
        least, most = part.get("exclusiveMinimum"), part.get("exclusiveMaximum")
        if step is not None:
            first, last = -(-low // step), high // step
            first += first * step == least
            last -= last * step == most
            number: float = step * self._chance.randint(int(first), max(int(first), int(last)))
            return int(number) if whole else number
        value: float
        for digits in (2, 6):
            value = round(low + (high - low) * self._chance.uniform(0.01, 0.99), digits)
            if low <= value <= high and value not in (least, most):
                return value
        middle: float = low + (high - low) / 2
        return middle

    def _string(self, part: Schema) -> str:
        least = min(_whole(part.get("minLength"), 0), _MOST_CHARACTERS)
        most = _whole(part.get("maxLength"), _MOST_CHARACTERS)
        formatted = _FORMATS.get(str(part.get("format")))
        made = (
            text.prose_sentence(self._subject, self._chance)
            if formatted is None
            else formatted(self._chance)
        )
        while len(made) < least:
            made += " " + text.prose_sentence(self._subject, self._chance)
        return made[:most]


def _encode(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _merged(one: Schema, other: Any) -> Schema:
    """Return a schema with the keys of both; properties and required keys are joined."""
    if not isinstance(other, dict):
        return one
    merged = {**other, **one}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**_properties(other), **_properties(one)}
    if "required" in one and "required" in other:
        merged["required"] = [*_listed(other, "required"), *_listed(one, "required")]
    return merged


def _without(part: Schema, key: str) -> Schema:
    return {name: value for name, value in part.items() if name != key}


def _alternatives(part: Schema) -> tuple[str, list[Any]] | None:
    return next(((key, found) for key in ("anyOf", "oneOf") if (found := _listed(part, key))), None)


def _listed(part: Schema, key: str) -> list[Any]:
    found = part.get(key)
    return found if isinstance(found, list) else []


def _properties(part: Schema) -> dict[str, Any]:
    found = part.get("properties")
    return found if isinstance(found, dict) else {}


def _kinds(part: Schema) -> list[str]:
    """Return the types that a schema allows; the one that its keys imply if it names none."""
    kinds = part.get("type")
    if isinstance(kinds, str):
        return [kinds]
    if isinstance(kinds, list) and kinds:
        return kinds
    return [next((kind for kind, keys in _IMPLIED if any(key in part for key in keys)), "string")]


def _whole(value: Any, default: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_whole else default


def _limit(part: Schema, name: str, tighter: Callable[..., Any]) -> Any:
    """Return the limit of a number: the tighter one of the inclusive and the exclusive one."""
    keys = (name, f"exclusive{name.capitalize()}")
    found = [part[key] for key in keys if _is_number(part.get(key))]
    return tighter(found) if found else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _date(chance: random.Random) -> str:
    return f"20{chance.randint(10, 30)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"


def _time(chance: random.Random) -> str:
    return f"{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:{chance.randint(0, 59):02}"


def _uuid(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
