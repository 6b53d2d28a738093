"""A fan-out of which some branches fail, in every mode: what goes on, what is cancelled."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from harness.engine.call import Completion
from harness.engine.effects import (
    Acquire,
    Effect,
    FanOut,
    Finished,
    Grant,
    Program,
    Send,
    step,
)
from harness.records.failures import CANCELLED, OK
from harness.records.schema import Branches, Workflow
from harness.workflows.execution import WorkflowResult, run_workflow
from harness.workflows.partial_failure import SYNTHESIZE_WITH_GAPS, Partial, fail_fast, quorum
from tests.engine.scripted import UNAUTHORIZED, WORKFLOW, Says, reply
from tests.engine.test_cancellation import NEVER
from tests.engine.worlds import EVERY_WAY, SIDE_BY_SIDE, Way, World, in_turn
from tests.workflows.plans import research_plan

QUESTIONS = [f"What is {letter}?" for letter in "abcd"]
PLANNED = Says(answer=json.dumps({"sub_questions": QUESTIONS}))


def workflow(partial: Partial) -> Program[WorkflowResult]:
    plan = research_plan(sub_questions=4, partial=partial)
    return run_workflow(NEVER, plan, WORKFLOW, "letters", ready=0)


def says(*bad: int) -> Callable[[Send], Says]:
    """Let these branches fail."""

    def answer(effect: Send) -> Says:
        if effect.key.phase == "decompose":
            return PLANNED
        return UNAUTHORIZED if effect.key.branch in bad else Says(answer=f"{effect.key.branch}.")

    return answer


def in_order(*branches: int) -> Callable[[World], Callable[[Send], bool]]:
    """Let all branches be out before the first comes back; then they do in this order."""

    def may_return(world: World) -> Callable[[Send], bool]:
        def may(effect: Send) -> bool:
            if effect.key.phase != "fan_out":
                return True
            fan_out = [one.key.branch for one in world.returned if one.key.phase == "fan_out"]
            out = sum(one.key.phase == "fan_out" for one in world.sent)
            return out == 4 and branches[len(fan_out) :][:1] == (effect.key.branch,)

        return may

    return may_return


def play(
    run: Way, partial: Partial, bad: tuple[int, ...], order: tuple[int, ...] | None = None
) -> tuple[World, Workflow]:
    world = World(1 if order is None else 4, says=says(*bad))
    if order is not None:
        world.may_return = in_order(*order)(world)
    report: WorkflowResult = run(workflow(partial), world)
    [record] = [record for record in world.records if isinstance(record, Workflow)]
    assert report.outcome == record.outcome
    assert sorted(call.branch or 0 for call in world.calls if call.phase == "fan_out") == [
        0, 1, 2, 3,
    ]  # fmt: skip
    return world, record


def fan_out_of(world: World) -> list[str]:
    calls = [call for call in world.calls if call.phase == "fan_out"]
    return [call.outcome for call in sorted(calls, key=lambda call: call.branch or 0)]


# --- driven by hand


def to_the_fork(program: Program[WorkflowResult]) -> FanOut:
    """Drive a workflow up to its fan-out."""
    effect: Effect | Finished[WorkflowResult] = step(program, None)
    while not isinstance(effect, FanOut):
        match effect:
            case Acquire():
                effect = step(program, Grant(4, 4))
            case Send():
                effect = step(program, reply(PLANNED, 4))
            case _:
                effect = step(program, 4)
    return effect


@pytest.mark.parametrize(
    ("partial", "outcomes", "is_enough"),
    [
        (SYNTHESIZE_WITH_GAPS, [OK, "forbidden", None, None], False),
        (fail_fast(4), [OK, OK, OK, None], False),
        (fail_fast(4), [None, "forbidden", None, None], True),
        (quorum(4, 2), [OK, None, "forbidden", None], False),
        (quorum(4, 2), [OK, None, "forbidden", OK], True),
        (quorum(4, 3), [OK, None, "forbidden", None], False),
        (quorum(4, 3), ["forbidden", None, "forbidden", None], True),
    ],
)
def test_the_fork_says_when_the_rest_is_of_no_use(
    partial: Partial, outcomes: list[str | None], is_enough: bool
) -> None:
    program = workflow(partial)
    fork = to_the_fork(program)
    come_to = [one and Completion(one, "", "", "", 9) for one in outcomes]
    if partial.stops:
        assert fork.enough is not None
        assert fork.enough(come_to) == is_enough
    else:  # it is never asked, so it costs nothing
        assert fork.enough is None
        assert not is_enough
    program.close()


# --- in every mode


@EVERY_WAY
def test_without_a_failure_every_rule_waits_for_all_it_needs(run: Way) -> None:
    for partial in (SYNTHESIZE_WITH_GAPS, fail_fast(4), quorum(4, 4)):
        world, record = play(run, partial, ())
        assert (record.outcome, record.branches) == ("ok", Branches(total=4, ok=4))
        assert fan_out_of(world) == [OK] * 4


@SIDE_BY_SIDE
def test_fail_fast_cancels_the_siblings_and_fails_with_the_reason(run: Way) -> None:
    world, record = play(run, fail_fast(4), (2,), (0, 2))
    assert fan_out_of(world) == [OK, CANCELLED, "unauthorized", CANCELLED]
    assert (record.outcome, record.branches) == ("failed", Branches(total=4, ok=1))
    assert record.error == "fan_out: unauthorized (HTTP 401)"
    assert [phase.outcome for phase in record.phases] == ["ok", "failed"]
    assert len([one for one in world.attempts if one.outcome == CANCELLED]) == 2


def test_fail_fast_in_sync_never_begins_what_comes_after_the_failure() -> None:
    world, record = play(in_turn, fail_fast(4), (1,))
    assert fan_out_of(world) == [OK, "unauthorized", CANCELLED, CANCELLED]
    assert [call.attempts for call in world.calls if call.outcome == CANCELLED] == [0, 0]
    assert (record.outcome, record.error) == ("failed", "fan_out: unauthorized (HTTP 401)")


@SIDE_BY_SIDE
def test_a_quorum_goes_on_at_k_of_n_and_names_the_stragglers_as_missing(run: Way) -> None:
    world, record = play(run, quorum(4, 2), (3,), (3, 1, 0))
    assert fan_out_of(world) == [OK, OK, CANCELLED, "unauthorized"]
    assert (record.outcome, record.branches) == ("degraded", Branches(total=4, ok=2))
    assert (record.error, record.phases[1].outcome) == (None, "degraded")
    [written] = [one for one in world.sent if one.key.phase == "synthesize"]
    findings, gaps = written.request.messages[-1].content.split("No finding could be had")
    assert ("What is c?" in gaps, "What is d?" in gaps) == (True, True)
    assert ("What is c?" in findings, "1." in findings) == (False, True)


def test_a_quorum_in_sync_begins_no_more_than_it_needs() -> None:
    world, record = play(in_turn, quorum(4, 2), (0,))
    assert fan_out_of(world) == ["unauthorized", OK, OK, CANCELLED]
    assert record.outcome == "degraded"


@SIDE_BY_SIDE
def test_a_quorum_out_of_reach_fails_at_once(run: Way) -> None:
    world, record = play(run, quorum(4, 0.75), (1, 2), (0, 1, 2))
    assert fan_out_of(world) == [OK, "unauthorized", "unauthorized", CANCELLED]
    assert (record.outcome, record.branches) == ("failed", Branches(total=4, ok=1))
    assert record.error == ("fan_out: unauthorized (HTTP 401); 2 of 4 failed, 3 had to succeed")


@SIDE_BY_SIDE
def test_with_gaps_every_branch_is_waited_for(run: Way) -> None:
    world, record = play(run, SYNTHESIZE_WITH_GAPS, (1, 2), (1, 2, 3, 0))
    assert fan_out_of(world) == [OK, "unauthorized", "unauthorized", OK]
    assert (record.outcome, record.branches) == ("degraded", Branches(total=4, ok=2))
