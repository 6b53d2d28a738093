"""The built-in workflows, written as functions of a user, have the records of the built-in ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import msgspec
import pytest

from harness.records.clock import SECOND
from harness.records.schema import Attempt, Call, Workflow
from harness.store.run_directory import TrialRecords
from tests.programs.played import play_all, scenario

PLACE = "tests.programs.rewritten"
LIMITS = {"requests_per_minute": 120, "burst": "5s", "retry_after": "exact", "concurrency_cap": 9}
FAULTS = [
    {"kind": "unavailable", "probability": 0.1},
    {"kind": "malformed_json", "probability": 0.1},
    {"kind": "empty_answer", "probability": 0.15},
    {"kind": "rate_limited", "probability": 0.05, "retry_after": "3s"},
]
RETRY: dict[str, Any] = {
    "exponential": {"kind": "exponential", "attempts": 4, "base": "1s", "cap": "8s"},
    "late": {"kind": "hedge", "after": "10s", "ratio": 0.5, "burst": 10},
    "parks": {"kind": "breaker", "failures": 3, "pause": "1s", "cap": "5s"},
    "hedge": {"kind": "stack", "layers": ["late", "exponential"]},
    "breaker": {"kind": "stack", "layers": ["parks", "exponential"]},
}
SWEEPS: dict[str, dict[str, Any]] = {
    "sync": {"mode": ["sync"], "permits": [1], "retry": ["none", "exponential", "breaker"]},
    "async": {
        "mode": ["async"],
        "permits": [1, 3, 16],
        "retry": ["none", "exponential", "hedge", "breaker"],
    },
}
FAULTY: dict[str, Any] = {
    "override": LIMITS, "faults": FAULTS, "retry": RETRY, "load": {"workflows": 6, "in_flight": 3},
}  # fmt: skip
DEADLINE = 80 * SECOND
both = pytest.mark.parametrize("mode", SWEEPS)


def differences(own: TrialRecords, built_in: TrialRecords) -> list[str]:
    """Return how records differ, field by field.

    What must differ: `own_code` and `ok`, which only programs have, and in `error` the name of an
    exception that the program itself raises, with its place.
    """
    found = []
    for kind in ("attempts", "calls", "workflows"):
        for one, other in zip_longest(getattr(own, kind), getattr(built_in, kind)):
            if one is None or other is None:
                found.append(f"only one has {one or other}")
                continue
            mine, theirs = compared(one), compared(other)
            where = f"{kind} {mine.get('phase')} of {one.workflow}"
            found += [
                f"{where}: {key} {mine[key]!r}, {theirs[key]!r}"
                for key in mine
                if mine[key] != theirs[key]
            ]
    return found


def compared(record: Attempt | Call | Workflow) -> dict[str, Any]:
    fields = msgspec.structs.asdict(record)
    for name in ("own_code", "ok"):
        fields.pop(name, None)
    if isinstance(fields.get("error"), str):
        fields["error"] = re.sub(r"^ValueError: (.*) \(\S+, line \d+\)$", r"\1", fields["error"])
    return fields


def check(
    own: dict[str, Any],
    built_in: dict[str, Any],
    selected: Callable[[TrialRecords], TrialRecords] = lambda records: records,
    **parts: Any,
) -> list[TrialRecords]:
    """Play both in every cell and compare what is selected; return that of the program."""
    mine, theirs = play_all(scenario(own, **parts)), play_all(scenario(built_in, **parts))
    assert mine.keys() == theirs.keys()
    found = {cell: selected(records) for cell, records in mine.items()}
    for cell, records in found.items():
        assert differences(records, selected(theirs[cell])) == [], cell
    return list(found.values())


def program(name: str, **arguments: Any) -> dict[str, Any]:
    return {"program": f"{PLACE}:{name}", "arguments": arguments}


RULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gaps": (program("research", enough=1, wait_for_all=True), {}),
    "fail-fast": (program("research"), {"on_branch_failure": "fail-fast"}),
    "quorum": (program("research", enough=0.5), {"on_branch_failure": "quorum", "quorum": 0.5}),
}

OUTCOMES = {
    "gaps": {"ok", "degraded", "failed"},
    "fail-fast": {"ok", "failed"},
    "quorum": {"degraded", "failed"},
}


@both
@pytest.mark.parametrize("rule", RULES)
def test_research_is_the_built_in_workflow(rule: str, mode: str) -> None:
    own, built_in = RULES[rule]
    records = check(own, built_in, **FAULTY, sweep=SWEEPS[mode])
    attempts = {one.outcome for trial in records for one in trial.attempts}
    assert attempts >= {"ok", "rate_limited", "unavailable", "empty_answer"}
    workflows = {one.outcome for trial in records for one in trial.workflows}
    assert workflows == OUTCOMES[rule]
    assert {
        call.call for trial in records for call in trial.calls if call.phase == "decompose"
    } == {1, 2}


TOOLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "continue": (program("agent"), {"kind": "agent"}),
    "fail-fast": (
        program("agent", enough=2, wait_for_all=False),
        {"kind": "agent", "on_tool_failure": "fail-fast"},
    ),
    "no tools": (program("agent", tools=0), {"kind": "agent", "tools": 0}),
}


@both
@pytest.mark.parametrize("rule", TOOLS)
def test_an_agent_is_the_built_in_workflow(rule: str, mode: str) -> None:
    own, built_in = TOOLS[rule]
    records = check(own, built_in, **FAULTY, sweep=SWEEPS[mode])
    assert {one.outcome for trial in records for one in trial.workflows} >= {"ok", "failed"}


def until_the_deadline(records: TrialRecords) -> TrialRecords:
    """Return records without what begins when the deadline of a workflow has already passed.

    The built-in workflow then begins its next phase, whose call is not sent; the workflow of a
    program ends. So they name different phases as the one that reached the deadline.
    """

    def as_far(one: Workflow) -> Workflow:
        phases = tuple(phase for phase in one.phases if phase.start < phase.end)
        late = one.done - one.ready >= DEADLINE
        return msgspec.structs.replace(one, phases=phases, error="late" if late else one.error)

    calls = [one for one in records.calls if one.attempts or one.ready < one.done]
    return records._replace(calls=calls, workflows=list(map(as_far, records.workflows)))


@both
@pytest.mark.parametrize("rule", RULES)
def test_the_deadline_of_a_workflow_ends_both_at_the_same_time(rule: str, mode: str) -> None:
    own, built_in = RULES[rule]
    parts = {**FAULTY, "sweep": SWEEPS[mode], "timeouts": {"workflow": DEADLINE / SECOND}}
    records = check(own, built_in, until_the_deadline, **parts)
    assert {one.error == "late" for trial in records for one in trial.workflows} == {True, False}
