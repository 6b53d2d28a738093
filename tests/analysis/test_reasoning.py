"""The share of reasoning in each phase, and what would have been enough tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.analysis.reasoning import reasoning_by_phase
from harness.analysis.selection import CellRecords
from harness.records.clock import SECOND
from harness.records.schema import Attempt, Tokens
from harness.store.run_directory import Records
from tests.analysis.builders import by_cell, make_attempt, make_run, make_trial, make_workflow


def attempt(workflow: int, output: int, **other: object) -> Attempt:
    """Return an attempt of 10 s with reasoning from 2 s to 8 s."""
    fields: dict[str, object] = {
        "workflow": workflow, "sent": 0, "first_reasoning": 2 * SECOND,
        "first_answer": 8 * SECOND, "last_token": 10 * SECOND, "done": 10 * SECOND,
        "tokens": Tokens(input=5, output=output, reasoning=output // 2, cached=0),
    }  # fmt: skip
    return make_attempt(**fields | other)


def cells_of(attempts: Sequence[Attempt]) -> list[CellRecords]:
    workflows = [make_workflow(workflow=one.workflow) for one in attempts]
    return by_cell(Records(make_run(), list(attempts), [], workflows, [make_trial()], None))


def truncated(workflow: int) -> Attempt:
    return attempt(workflow, 500, outcome="truncated", first_answer=None)


@pytest.mark.parametrize(
    ("attempts", "cut", "sufficient"),
    [
        ([attempt(at, 2 * at) for at in range(1, 101)], 0, 198),
        ([attempt(at, 2 * at) for at in range(1, 200)] + [truncated(200)], 1, 396),
        ([attempt(at, 2 * at) for at in range(1, 99)] + [truncated(99), truncated(100)], 2, None),
        ([truncated(1)], 1, None),
    ],
)
def test_the_limit_that_suffices_counts_truncated_responses(
    attempts: Sequence[Attempt], cut: int, sufficient: int | None
) -> None:
    (found,) = reasoning_by_phase(cells_of(attempts))
    assert (found.responses, found.truncated) == (len(attempts), cut)
    assert found.sufficient_tokens == sufficient
    if len(attempts) > cut:
        assert found.share_of_tokens == 0.5
        assert found.share_of_seconds == pytest.approx(0.6)


def test_a_phase_without_reasoning_is_left_out() -> None:
    plain = attempt(1, 10, first_reasoning=None, tokens=Tokens(input=1, output=10))
    assert reasoning_by_phase(cells_of([plain])) == ()
