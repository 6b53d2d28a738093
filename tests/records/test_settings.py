"""Settings by dotted key: where they stand, and how their values become names of files."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.settings import (
    LONGEST_ID,
    cell_id,
    setting_of,
    split_key,
    value_slugs,
    with_settings,
)

SCALARS = st.one_of(
    st.text(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.lists(
    st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), min_size=1, max_size=6, unique_by=repr
)


@given(VALUES)
def test_the_names_of_values_are_file_names_and_no_two_are_alike(values: list[object]) -> None:
    slugs = value_slugs("endpoint.base_url", values)
    assert len({slug.casefold() for slug in slugs}) == len(values)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", slug) for slug in slugs)
    assert slugs == value_slugs("endpoint.base_url", values)


@given(st.lists(st.lists(st.text("abC-", min_size=1), min_size=1, max_size=6), unique_by=tuple))
def test_ids_are_unique_and_no_longer_than_a_file_name_may_be(parts: list[list[str]]) -> None:
    several = [[part * 9 for part in one] for one in parts]
    ids = {cell_id(one) for one in several}
    assert len(ids) == len({tuple(one) for one in several})
    assert all(len(one) <= LONGEST_ID for one in ids)


@pytest.mark.parametrize(
    ("key", "values", "expected"),
    [
        ("endpoint.model", ["a", "org/B_2"], ["a", "org-B-2"]),
        ("workflow.sub_questions", [2, 8], ["sub-questions-2", "sub-questions-8"]),
        ("endpoint.stream", [True, False], ["stream-true", "stream-false"]),
        (
            "endpoint.base_url",
            ["https://one.example/v1", "https://two.example/v1"],
            ["base-url-1", "base-url-2"],
        ),
        ("endpoint.model", ["a/b", "a-b"], ["model-1", "model-2"]),
        ("endpoint.model", ["x" * 25, "y"], ["model-1", "y"]),
        ("endpoint.price", [{"input": 1.0}], ["price-1"]),
    ],
)
def test_values_name_themselves_where_they_can(
    key: str, values: list[object], expected: list[str]
) -> None:
    assert value_slugs(key, values) == expected


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("endpoint.model", ["endpoint", "model"]),
        ('sweep."endpoint.model"', ["sweep", "endpoint.model"]),
        ('retry."v1.2".cap', ["retry", "v1.2", "cap"]),
        ("retry.full-jitter.attempts", ["retry", "full-jitter", "attempts"]),
    ],
)
def test_a_key_is_split_as_toml_splits_it(key: str, parts: list[str]) -> None:
    assert split_key(key) == parts


@pytest.mark.parametrize("key", ["", "a b", "a = 1\nb", "a..b", '"a', "[a]\nb"])
def test_what_is_not_a_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is not a dotted key"):
        split_key(key)


def test_settings_are_put_into_a_copy() -> None:
    scenario = {"endpoint": {"override": {"ttft": {"median": 1}}}}
    changed = with_settings(scenario, {"endpoint.override.ttft.median": 2, "load.in_flight": 3})
    assert setting_of(changed, "endpoint.override.ttft.median") == 2
    assert setting_of(changed, "load.in_flight") == 3
    assert setting_of(scenario, "endpoint.override.ttft.median") == 1
    assert setting_of(scenario, "load.in_flight") is None


def test_a_key_that_leads_through_a_value_is_named() -> None:
    with pytest.raises(ValueError, match=r"^endpoint\.model is not a table$"):
        with_settings({"endpoint": {"model": "a"}}, {"endpoint.model.name": "b"})
