from __future__ import annotations

import json
import random
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from harness.simulator.json_answers import arguments, conforming, list_key

SUBJECT = "the tides of the North Sea"


def made(schema: dict[str, Any], items: int | None = None, seed: int = 1) -> Any:
    text = conforming(json.dumps(schema).encode(), SUBJECT, items, random.Random(seed))
    value = json.loads(text)
    fastjsonschema.compile(schema)(value)
    return value


numbers = st.integers(-1000, 1000)
sizes = st.integers(0, 5)
keys = st.sampled_from(["a", "b", "c", "d"])


@st.composite
def limits(draw: Any, kind: str, low: str, high: str, values: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": kind}
    one, other = sorted((draw(values), draw(values)))
    if draw(st.booleans()):
        schema[low] = one
    if draw(st.booleans()):
        schema[high] = other
    return schema


@st.composite
def exclusive(draw: Any, kind: str) -> dict[str, Any]:
    low = draw(numbers)
    return {
        "type": kind,
        "exclusiveMinimum": low,
        "exclusiveMaximum": low + draw(st.integers(2, 9)),
    }


multiples = st.builds(
    lambda step, low: {"type": "integer", "multipleOf": step, "minimum": low},
    st.integers(1, 9),
    numbers,
)
plain = st.one_of(
    limits("integer", "minimum", "maximum", numbers),
    limits("number", "minimum", "maximum", numbers),
    limits("string", "minLength", "maxLength", st.integers(0, 300)),
    exclusive("integer"),
    exclusive("number"),
    multiples,
    st.sampled_from(["date", "time", "date-time", "email", "uri", "ipv4", "uuid"]).map(
        lambda name: {"type": "string", "format": name}
    ),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": ["integer", "null"]}),
    st.just({}),
    st.lists(st.one_of(numbers, st.text(max_size=3)), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    numbers.map(lambda value: {"const": value}),
    st.just({"$ref": "#/$defs/leaf"}),
    st.just({"$ref": "#/$defs/tree"}),
)


@st.composite
def objects(draw: Any, inner: Any) -> dict[str, Any]:
    properties = draw(st.dictionaries(keys, inner, max_size=4))
    required = [name for name in properties if draw(st.booleans())]
    schema = {"type": "object", "properties": properties, "required": required}
    if draw(st.booleans()):
        schema["additionalProperties"] = draw(st.one_of(st.just(False), inner))
    if draw(st.booleans()):
        schema["minProperties"] = len(properties)
    return schema


@st.composite
def arrays(draw: Any, inner: Any) -> dict[str, Any]:
    schema: dict[str, Any] = draw(limits("array", "minItems", "maxItems", sizes))
    if draw(st.booleans()):
        schema["items"] = draw(inner)
    return schema


schemas = st.recursive(
    plain,
    lambda inner: st.one_of(
        objects(inner),
        arrays(inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some}),
        inner.map(lambda one: {"allOf": [one], "description": "d"}),
    ),
    max_leaves=8,
)
DEFS = {
    "leaf": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    "tree": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "left": {"anyOf": [{"$ref": "#/$defs/tree"}, {"$ref": "#/$defs/leaf"}]},
            "more": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
            "next": {"$ref": "#/$defs/tree"},
        },
        "required": ["name", "left", "more"],
    },
}


@settings(max_examples=300, deadline=None)
@given(schemas, st.integers(0, 1000), st.one_of(st.none(), st.integers(0, 6)))
def test_every_answer_conforms_to_its_schema(
    schema: dict[str, Any], seed: int, items: int | None
) -> None:
    made({**schema, "$defs": DEFS}, items, seed)


class Step(BaseModel):
    title: str
    effort: float
    kind: str | None = None
    parts: list[Step] = []


class Plan(BaseModel):
    goal: str
    steps: list[Step]
    tags: dict[str, int]


def test_a_model_of_pydantic_validates_its_answer() -> None:
    text = conforming(json.dumps(Plan.model_json_schema()).encode(), SUBJECT, 5, random.Random(3))
    plan = Plan.model_validate_json(text)
    assert len(plan.steps) == 5
    assert SUBJECT in text


def test_the_same_numbers_give_the_same_answer() -> None:
    schema = Plan.model_json_schema()
    assert made(schema, seed=2) == made(schema, seed=2)
    assert made(schema, seed=2) != made(schema, seed=4)


def test_a_list_has_the_length_that_the_prompt_asks_for_within_its_limits() -> None:
    strings = {"type": "array", "items": {"type": "string"}}
    assert len(made(strings, 7)) == 7
    assert len(made({**strings, "maxItems": 2}, 7)) == 2
    assert len(made({**strings, "minItems": 9}, 7)) == 9
    assert len(made(strings)) in (3, 4)
    colours = {"type": "array", "items": {"enum": ["r", "g", "b"]}, "uniqueItems": True}
    assert sorted(made({**colours, "minItems": 3}, 3)) == ["b", "g", "r"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"$ref": "elsewhere.json"},
        {"type": "strange"},
        {"anyOf": [{"$ref": "#"}]},
        {"type": "object", "required": ["a"], "properties": 3},
        {"type": "array", "minItems": 1e9},
        {"type": "string", "minLength": 10**9},
        {"type": "integer", "minimum": 10**40},
        {"type": "integer", "minimum": 5, "maximum": 1, "multipleOf": 0},
        True,
    ],
    ids=str,
)
def test_a_schema_that_nothing_can_satisfy_still_gives_json(schema: Any) -> None:
    json.loads(conforming(json.dumps(schema).encode(), SUBJECT, None, random.Random(1)))
    assert isinstance(
        json.loads(arguments(json.dumps(schema).encode(), SUBJECT, random.Random(1))), dict
    )


def test_a_tool_without_parameters_has_empty_arguments() -> None:
    assert arguments(b"{}", SUBJECT, random.Random(1)) == "{}"


def test_a_list_of_strings_is_recognised() -> None:
    strings = {"type": "array", "items": {"type": "string", "title": "t"}}
    plain = {"type": "object", "properties": {"queries": strings}, "required": ["queries"]}
    assert list_key(json.dumps(plain).encode()) == "queries"
    for other in ({**strings, "minItems": 2}, {"type": "string"}, {"type": "array"}):
        plain["properties"] = {"queries": other}
        assert list_key(json.dumps(plain).encode()) is None
