"""docs/traces.md shows the trees that the tool draws, and names what the spans carry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.records.schema import Attempt, Backoff, Call, Run, Tokens, Workflow, retry_in
from harness.report.path_text import in_scenario_seconds
from harness.report.tree_text import tree_lines
from harness.telemetry import semconv
from harness.telemetry.spans import TraceMaker
from tests.analysis.builders import make_attempt, make_call, make_run, make_trial
from tests.telemetry.example import CELL, KEY, example, failed_workflow

DOCUMENT = (Path(__file__).parents[2] / "docs" / "traces.md").read_text()
PICTURES = dict(re.findall(r"<!-- picture: (\w+) -->\n```text\n(.*?)```", DOCUMENT, re.DOTALL))
IN_SECONDS = in_scenario_seconds(1e-9)
"""The records below count in nanoseconds; a picture of them counts in seconds."""


def drawn(
    attempts: Sequence[Attempt], calls: Sequence[Call], workflows: list[Workflow]
) -> list[str]:
    spans = TraceMaker(make_run([CELL], repeats=2)).of_workflows(workflows, calls, attempts)
    return tree_lines(spans, IN_SECONDS)


def of_call(call: Call, *attempts: Attempt) -> list[str]:
    """Draw one call without what is around it."""
    lines = drawn(list(attempts), [call], [failed_workflow(call)])
    return [line.removeprefix("    ").rstrip() for line in lines[2:]]


def tried(number: int, granted: int, done: int, **fields: object) -> Attempt:
    times = {
        "ready": granted - 2, "permit_requested": granted - 2, "permit_granted": granted,
        "sent": granted + 1, "first_reasoning": granted + 4, "first_answer": granted + 8,
        "last_token": done, "done": done,
    }  # fmt: skip
    key = {**KEY, "phase": "decompose", "branch": None, "attempt": number}
    return make_attempt(**(key | times | fields))


FAILED = {"first_reasoning": None, "first_answer": None, "last_token": None, "tokens": Tokens()}


def run_trace() -> list[str]:
    run: Run = make_run([CELL, "sync_1_full-jitter_attempt"], repeats=2)
    trials = [
        make_trial(cell=cell.id, repeat=repeat, start=start, end=start + 280)
        for start, (repeat, cell) in zip(
            (1, 300, 600, 900), [(r, c) for r in (0, 1) for c in run.cells], strict=True
        )
    ]
    return tree_lines(TraceMaker(run).of_run(trials), IN_SECONDS)


def workflow_trace() -> list[str]:
    records = example()
    return drawn(records.attempts, records.calls, records.workflows)


def hedged() -> list[str]:
    slow = tried(1, 2, 40, outcome="cancelled", status=None, **FAILED)
    hedge = tried(2, 26, 60, hedge=True)
    key = {**KEY, "phase": "decompose", "branch": None}
    return of_call(make_call(**key, ready=0, done=60, attempts=2), slow, hedge)


def parked() -> list[str]:
    failed = tried(
        1, 2, 12, outcome="unavailable", status=503, decision=retry_in(0, "breaker"), **FAILED
    )
    pause = Backoff(start=12, end=42, planned=30, source="breaker")
    good = tried(2, 44, 70, ready=42, permit_requested=42)
    key = {**KEY, "phase": "decompose", "branch": None}
    return of_call(make_call(**key, ready=0, done=70, attempts=2, backoffs=(pause,)), failed, good)


def cancelled() -> list[str]:
    broken = tried(1, 2, 30, outcome="cancelled", status=200, **FAILED)
    key = {**KEY, "phase": "decompose", "branch": None}
    return of_call(make_call(**key, ready=0, done=30, outcome="cancelled"), broken)


@pytest.mark.parametrize(
    "picture", [run_trace, workflow_trace, hedged, parked, cancelled], ids=lambda one: one.__name__
)
def test_each_picture_is_what_the_tool_draws(picture) -> None:  # type: ignore[no-untyped-def]
    assert PICTURES[picture.__name__].splitlines() == [line.rstrip() for line in picture()]


def test_every_picture_is_held_to_the_tool() -> None:
    assert set(PICTURES) == {"run_trace", "workflow_trace", "hedged", "parked", "cancelled"}


def test_every_name_of_our_own_is_explained() -> None:
    ours = {
        value
        for name, value in vars(semconv).items()
        if name.isupper() and isinstance(value, str) and value.startswith("harness.")
    } - {semconv.RUN_SPAN, semconv.CELL_SPAN, semconv.TRIAL_SPAN}
    assert sorted(name for name in ours if f"`{name}`" not in DOCUMENT) == []


def test_the_convention_and_its_version_are_named() -> None:
    assert semconv.SCHEMA_URL in DOCUMENT
