"""Ids follow from what they name: the same again, and different for anything else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.ids import (
    attempt_span,
    new_run_id,
    span_id,
    trace_id,
    traceparent,
    workflow_trace,
)
from harness.records.keys import AttemptKey, WorkflowKey
from tests.analysis.builders import make_attempt, make_workflow

RUN = "0123456789abcdef0123456789abcdef"

names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8)
parts = names | st.integers(0, 9)


@given(st.lists(parts, max_size=4))
def test_trace_and_span_ids_have_the_lengths_of_w3c_trace_context(key: list[object]) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", trace_id(RUN, *key))
    assert re.fullmatch(r"[0-9a-f]{16}", span_id(RUN, *key))
    assert set(trace_id(RUN, *key)) != {"0"}, "all zeros stand for no id"
    assert set(span_id(RUN, *key)) != {"0"}


def test_an_id_is_the_same_today_as_when_the_traces_were_exported() -> None:
    assert trace_id(RUN, "workflow", "c", 0, 1, 0) == "537786459167ac4711394d2e8e5a533b"
    key = ("attempt", "c", 0, 1, 0, "fan_out", None, 1, 1)
    assert span_id(RUN, *key) == "3621f87c442f6825"


@given(st.lists(st.tuples(names, st.lists(parts, min_size=1, max_size=3)), unique_by=repr))
def test_different_runs_and_keys_have_different_ids(named: list[tuple[str, list[object]]]) -> None:
    keys = {(run, *map(str, key)) for run, key in named}
    assert len({trace_id(run, *key) for run, key in named}) == len(keys)
    assert len({span_id(run, *key) for run, key in named}) == len(keys)


@pytest.mark.parametrize(
    "changes",
    [
        {"cell": "d"},
        {"repeat": 1},
        {"workflow": 1},
        {"execution": 1},
        {"phase": "synthesize"},
        {"branch": 1},
        {"branch": None},
        {"call": 2},
        {"attempt": 2},
    ],
    ids=str,
)
def test_each_attempt_has_a_span_of_its_own_and_each_execution_a_trace(
    changes: dict[str, Any],
) -> None:
    one = AttemptKey("c", 0, 0, 0, "fan_out", 0, 1, 1)
    other = one._replace(**changes)
    assert attempt_span(RUN, one) != attempt_span(RUN, other)
    same_trace = workflow_trace(RUN, one) == workflow_trace(RUN, other)
    assert same_trace == changes.keys().isdisjoint(WorkflowKey._fields)


def test_a_record_and_its_key_have_the_same_ids() -> None:
    attempt = make_attempt(phase="fan_out", branch=2, call=1, attempt=3)
    fields = {name: getattr(attempt, name) for name in AttemptKey._fields}
    assert attempt_span(RUN, attempt) == attempt_span(RUN, AttemptKey(**fields))
    workflow = make_workflow()
    fields = {name: getattr(workflow, name) for name in WorkflowKey._fields}
    assert workflow_trace(RUN, workflow) == workflow_trace(RUN, WorkflowKey(**fields))


def test_a_traceparent_names_trace_and_span_of_a_sampled_request() -> None:
    header = traceparent(trace_id(RUN, "workflow"), span_id(RUN, "attempt"))
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", header)
    assert header.split("-")[1:3] == [trace_id(RUN, "workflow"), span_id(RUN, "attempt")]


def test_a_new_run_has_an_id_that_no_other_has() -> None:
    ids = {new_run_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"[0-9a-f]{32}", run_id) for run_id in ids)
