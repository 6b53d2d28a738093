"""Workflows that were lost although no attempt of a failed call failed."""

from __future__ import annotations

from typing import Any

from harness.analysis.model import WorkflowFailure
from harness.analysis.selection import Dataset
from harness.analysis.workflow_failures import REJECTED, workflow_failures
from harness.records.clock import SECOND
from harness.records.schema import Phase
from harness.store.run_directory import Records
from tests.analysis.builders import make_attempt, make_call, make_run, make_trial, make_workflow

BLANK = "decompose: after one repair the answer was blank"
SHORT = "decompose: after one repair the answer had 1 distinct sub-questions instead of 4"


def failed(number: int, error: str) -> Any:
    phase = Phase(name="decompose", start=0, end=SECOND, outcome="failed")
    return make_workflow(workflow=number, outcome="failed", phases=(phase,), error=error)


def found(records: list[Any], calls: list[Any], attempts: list[Any]) -> list[WorkflowFailure]:
    run = make_run(workflows=len(records))
    whole = Records(run, attempts, calls, records, [make_trial()], None)
    return list(workflow_failures(Dataset.of(whole).cells.values()))


def test_an_answer_that_cannot_be_used_is_counted_with_its_most_frequent_reason() -> None:
    workflows = [failed(0, SHORT), failed(1, BLANK), failed(2, SHORT), make_workflow(workflow=3)]
    calls = [make_call(workflow=number) for number in range(4)]
    attempts = [make_attempt(workflow=number) for number in range(4)]
    assert found(workflows, calls, attempts) == [
        WorkflowFailure(phase="decompose", outcome=None, error=SHORT, workflows=3)
    ]


def test_a_failed_attempt_that_was_retried_does_not_explain_it() -> None:
    attempts = [
        make_attempt(outcome="rate_limited", status=429, attempt=1),
        make_attempt(attempt=2),
    ]
    (row,) = found([failed(0, BLANK)], [make_call(attempts=2)], attempts)
    assert (row.outcome, row.workflows) == (None, 1)


def test_a_call_whose_attempts_failed_is_explained_by_them() -> None:
    attempts = [make_attempt(outcome="unauthorized", status=401)]
    calls = [make_call(outcome="unauthorized", tokens=None)]
    assert found([failed(0, "decompose: unauthorized")], calls, attempts) == []


def test_a_call_that_ended_before_it_was_sent_is_named() -> None:
    calls = [make_call(outcome="workflow_timeout", attempts=0, tokens=None)]
    (row,) = found([failed(0, "decompose: workflow_timeout")], calls, [])
    assert (row.phase, row.outcome) == ("decompose", "workflow_timeout")


def test_results_that_the_program_rejects_are_a_reason_of_their_own() -> None:
    workflows = [make_workflow(workflow=0, ok=False), make_workflow(workflow=1, ok=True)]
    attempts = [make_attempt(workflow=number) for number in range(2)]
    assert found(workflows, [make_call(workflow=number) for number in range(2)], attempts) == [
        WorkflowFailure(phase="", outcome=None, error=REJECTED, workflows=1, in_program=True)
    ]
