"""Calls and attempts find their workflow, attempts their call."""

from __future__ import annotations

from harness.analysis.selection import Dataset
from harness.records.groups import WorkflowGroups, attempts_by_call
from harness.records.keys import workflow_key
from tests.analysis.builders import make_attempt, make_call, make_workflow
from tests.analysis.played import Shape, make_records

CELLS = ("sync_1_full-jitter_attempt", "async_4_full-jitter_attempt")


def test_each_workflow_has_its_calls_and_each_call_its_attempts() -> None:
    records = make_records(CELLS, 2, workflows=3, shape=Shape(failure_rate=0.3))
    data = Dataset.of(records)
    seen = 0
    for workflow in records.workflows:
        key = workflow_key(workflow)
        tried = data.groups.of(workflow).tried()
        assert [call for call, _ in tried] == [c for c in records.calls if workflow_key(c) == key]
        for call, attempts in tried:
            assert attempts == [a for a in records.attempts if a.call_key == call.call_key]
            seen += len(attempts)
    assert seen == len(records.attempts)


def test_attempts_of_a_call_are_in_the_order_of_their_numbers() -> None:
    hedge, first = make_attempt(attempt=2, hedge=True), make_attempt(attempt=1)
    ((_, tried),) = WorkflowGroups([make_call()], [hedge, first])[workflow_key(first)].tried()
    assert tried == [first, hedge]
    assert attempts_by_call([hedge, first]) == {first.call_key: [first, hedge]}


def test_executions_of_one_workflow_are_apart() -> None:
    groups = WorkflowGroups([make_call(execution=at) for at in (0, 1)], [])
    assert [call.execution for call in groups.of(make_workflow(execution=1)).calls] == [1]


def test_a_workflow_without_records_has_none_and_is_not_kept() -> None:
    groups = WorkflowGroups([], [])
    assert groups.of(make_workflow()) == ([], [])
    assert not groups


def test_a_dataset_is_made_once() -> None:
    records = make_records(CELLS)
    data = Dataset.of(records)
    assert data == records
    assert Dataset.of(data) is data
    assert data.cells is data.cells
    assert [*data.cells] == [*CELLS]
