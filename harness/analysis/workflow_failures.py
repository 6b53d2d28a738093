"""Workflows that were lost although no attempt of a failed call failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import compress

from harness.analysis.model import WorkflowFailure
from harness.analysis.selection import CellRecords
from harness.records.failures import is_failure
from harness.records.schema import Workflow

REJECTED = "the program returned harness.Scored with ok=False"


def workflow_failures(
    cells: Iterable[CellRecords], *, runs_user_code: bool = False
) -> tuple[WorkflowFailure, ...]:
    """Return why workflows were lost that the counts of failed attempts do not explain.

    `runs_user_code`: the workflows are a program or a command of the user.
    """
    reasons: dict[tuple[str, str | None], Counter[str]] = {}
    rejected = 0
    for cell in cells:
        rejected += sum(map(is_rejected, cell.workflows))
        failed = [one for one in cell.workflows if one.outcome == "failed"]
        if not failed:
            continue
        attempts = cell.attempts
        explained = set(attempts.column("number")[attempts.where("outcome", is_failure)].tolist())
        lost = _failed_calls(cell)
        numbers = cell.groups.numbers_of(failed).tolist()
        for number, workflow in zip(numbers, failed, strict=True):
            outcome = lost.get(number)
            if outcome is None or number not in explained:
                errors = reasons.setdefault((_failed_phase(workflow), outcome), Counter())
                errors[workflow.error or ""] += 1
    rows = [
        WorkflowFailure(
            phase=phase,
            outcome=outcome,
            error=errors.most_common(1)[0][0],
            workflows=errors.total(),
            in_program=runs_user_code and outcome is None,
        )
        for (phase, outcome), errors in reasons.items()
    ]
    if rejected:
        rows.append(
            WorkflowFailure(
                phase="", outcome=None, error=REJECTED, workflows=rejected, in_program=True
            )
        )
    return tuple(sorted(rows, key=lambda row: -row.workflows))


def is_rejected(workflow: Workflow) -> bool:
    """Return whether a workflow ended, but its program judged the result as not ok."""
    return workflow.ok is False and workflow.outcome != "failed"


def _failed_calls(cell: CellRecords) -> Mapping[int, str]:
    """Return how a failed call of each workflow ended, by the number of the workflow."""
    calls = cell.calls
    is_failed = calls.where("outcome", is_failure)
    numbers = calls.column("number")[is_failed].tolist()
    outcomes = compress(calls.column("outcome").tolist(), is_failed.tolist())
    return {
        number: calls.words.names[outcome]
        for number, outcome in zip(numbers, outcomes, strict=True)
    }


def _failed_phase(workflow: Workflow) -> str:
    return next((one.name for one in reversed(workflow.phases) if one.outcome == "failed"), "")
