"""The workflow: decompose, fan out, synthesize, and what it says when parts of it fail."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.effects import Acquire, FanOut, Grant, Now, Release, Send, step
from harness.policies.no_retry import NoRetryRule
from harness.records.failures import FAILURES, OK
from harness.records.keys import CallKey
from harness.records.schema import Branches, Phase, Workflow
from harness.workflows.execution import WorkflowPlan, WorkflowResult, run_workflow
from tests.engine.scripted import (
    BLANK,
    RATE_LIMITED,
    UNAUTHORIZED,
    WORKFLOW,
    Says,
    Script,
    World,
    reply,
    terms,
    waits_of,
)
from tests.workflows.plans import research_plan

QUESTIONS = ["What is a?", "What is b?", "What is c?"]
PLANNED = Says(answer=json.dumps({"sub_questions": QUESTIONS}), reasoning="I shall split it.")
PLAN = research_plan()
GOOD = {
    ("decompose", None, 1): PLANNED,
    ("fan_out", 0, 1): Says(answer="a is one", takes=200),
    ("fan_out", 1, 1): Says(answer="b is two", takes=300),
    ("fan_out", 2, 1): Says(answer="c is three", takes=100),
    ("synthesize", None, 1): Says(answer="The report."),
}
Answers = Mapping[tuple[str, int | None, int], Says]


def by_call(answers: Answers) -> Script:
    return lambda asked: answers[asked.key.phase, asked.key.branch, asked.key.call]


def run(
    answers: Answers, plan: WorkflowPlan = PLAN, *, ready: int = 0, now: int = 0, nonce: str = ""
) -> tuple[World, WorkflowResult, Workflow]:
    world = World(by_call(answers), now=now)
    how = terms(NoRetryRule())
    report = world.run(run_workflow(how, plan, WORKFLOW, "letters", ready, nonce))
    [record] = world.workflows
    assert world.records[-1] is record, "the workflow's record comes last"
    return world, report, record


def prompt(world: World, phase: str, branch: int | None = None, call: int = 1) -> str:
    [sent] = [
        sent.request.messages
        for sent in world.sends
        if (sent.key.phase, sent.key.branch, sent.key.call) == (phase, branch, call)
    ]
    return "\n".join(message.content for message in sent)


def test_a_workflow_asks_for_parts_then_researches_them_side_by_side() -> None:
    """Driven by hand: the effects in their order."""
    program = run_workflow(terms(), PLAN, WORKFLOW, "letters", ready=3)
    assert step(program, None) == Now()
    assert step(program, 4) == Acquire(ready=4, deadline=None)
    sent = step(program, Grant(4, 4))
    assert isinstance(sent, Send)
    assert sent.key == CallKey(*WORKFLOW, "decompose", None, 1)
    assert sent.attempt == 1
    assert sent.request.json_mode
    step(program, reply(PLANNED, 4))  # the attempt's record
    assert step(program, None) == Release()
    step(program, None)  # the call's record
    assert step(program, None) == Now()
    forked = step(program, 105)
    assert isinstance(forked, FanOut)
    branches = forked.branches
    assert [step(branch, None) for branch in branches] == [Acquire(ready=105, deadline=None)] * 3
    program.close()


def test_a_workflow_that_goes_well_is_ok_and_its_report_is_the_synthesis() -> None:
    world, report, record = run(GOOD, ready=3, now=5)
    assert report == WorkflowResult("ok", "The report.")
    assert record == Workflow(
        **WORKFLOW._asdict(), topic="letters", ready=3, started=5, done=505, outcome="ok",
        phases=(
            Phase(name="decompose", start=5, end=105, outcome="ok"),
            Phase(name="fan_out", start=105, end=405, outcome="ok"),
            Phase(name="synthesize", start=405, end=505, outcome="ok"),
        ),
        branches=Branches(total=3, ok=3), error=None,
    )  # fmt: skip
    assert [(call.phase, call.branch, call.call) for call in world.calls] == list(GOOD)
    assert [call.ready for call in world.calls] == [5, 105, 105, 105, 405]


def test_each_call_has_the_limits_of_its_phase_and_only_decompose_asks_for_json() -> None:
    world, _, _ = run(GOOD)
    limits = [(sent.request.max_tokens, sent.request.json_mode) for sent in world.sends]
    assert limits == [(11, True), (22, False), (22, False), (22, False), (33, False)]
    world, _, _ = run(GOOD, research_plan(json_mode=False))
    assert not world.sends[0].request.json_mode


def test_prompts_carry_topic_questions_and_findings() -> None:
    world, _, _ = run(GOOD)
    asked = prompt(world, "decompose")
    assert "letters" in asked
    assert "exactly 3" in asked
    assert "JSON" in asked, "providers refuse JSON mode without the word"
    for branch, question in enumerate(QUESTIONS):
        assert "letters" in prompt(world, "fan_out", branch)
        assert question in prompt(world, "fan_out", branch)
    report = prompt(world, "synthesize")
    for text in [*QUESTIONS, "a is one", "b is two", "c is three"]:
        assert text in report
    assert "No finding" not in report


def test_a_nonce_begins_every_prompt_and_without_one_none_has_any() -> None:
    world, _, _ = run(GOOD | {("decompose", None, 1): BLANK, ("decompose", None, 2): PLANNED})
    assert not any(sent.request.messages[0].content.startswith("[") for sent in world.sends)
    world, _, _ = run(
        GOOD | {("decompose", None, 1): BLANK, ("decompose", None, 2): PLANNED}, nonce="n-1"
    )
    assert len(world.sends) == 6
    assert all(sent.request.messages[0].content.startswith("[n-1] ") for sent in world.sends)


def test_reasoning_goes_into_the_next_prompts_as_text_when_asked_for() -> None:
    world, _, _ = run(GOOD, research_plan(carry_reasoning=True))
    assert "I shall split it." not in prompt(world, "decompose")
    for branch in range(3):
        assert "I shall split it." in prompt(world, "fan_out", branch)
    assert "I shall split it." in prompt(world, "synthesize")
    assert "a thought" not in prompt(world, "synthesize"), "a branch keeps its thoughts"


def test_only_the_end_of_the_reasoning_is_carried_when_it_is_limited() -> None:
    world, _, _ = run(GOOD, research_plan(carry_reasoning=True, carry_tokens=3))
    for said in (prompt(world, "fan_out", 1), prompt(world, "synthesize")):
        assert "Notes from planning:\nsplit it." in said
        assert "I shall" not in said


def test_no_prompt_has_reasoning_when_it_is_not_asked_for() -> None:
    world, _, _ = run(GOOD)
    said = "\n".join(message.content for sent in world.sends for message in sent.request.messages)
    for thought in ("I shall split it.", "a thought", "Notes from planning"):
        assert thought not in said


def test_the_reasoning_that_is_carried_is_that_of_the_answer_that_was_used() -> None:
    first = Says(answer="no list", reasoning="a false start")
    world, _, _ = run(
        GOOD | {("decompose", None, 1): first, ("decompose", None, 2): PLANNED},
        research_plan(carry_reasoning=True),
    )
    said = prompt(world, "decompose", call=2) + prompt(world, "synthesize")
    assert "I shall split it." in said
    assert "a false start" not in said


@pytest.mark.parametrize(
    ("first", "error", "shown"),
    [
        pytest.param(
            Says(answer='["What is a?"]'),
            "the answer had 1 distinct sub-questions instead of 3",
            '["What is a?"]',
            id="too few",
        ),
        pytest.param(Says(answer="Sorry."), "the answer had no JSON object", "Sorry.", id="prose"),
        pytest.param(Says(answer=" \n"), "the answer was blank", "(blank)", id="spaces"),
        pytest.param(BLANK, "the answer was blank", "(blank)", id="nothing"),
    ],
)
def test_a_decomposition_that_cannot_be_used_is_shown_to_the_model_once_with_its_error(
    first: Says, error: str, shown: str
) -> None:
    world, report, record = run(
        GOOD | {("decompose", None, 1): first, ("decompose", None, 2): PLANNED}
    )
    assert report.outcome == "ok"
    repair = [sent for sent in world.sends if sent.key.call == 2]
    [messages] = [sent.request.messages for sent in repair]
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[:2] == world.sends[0].request.messages
    assert messages[2].content == shown
    assert error in messages[3].content
    assert "exactly 3" in messages[3].content
    assert repair[0].request.json_mode
    assert repair[0].request.max_tokens == 11
    first_call, second_call = world.calls[:2]
    assert second_call.ready == first_call.done
    assert record.phases[0] == Phase(name="decompose", start=0, end=200, outcome="ok")


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (Says(answer="Sorry."), "decompose: after one repair the answer had no JSON object"),
        (BLANK, "decompose: after one repair the answer was blank"),
        (UNAUTHORIZED, "decompose: unauthorized (HTTP 401)"),
    ],
)
def test_a_second_useless_answer_fails_the_workflow_clearly(second: Says, error: str) -> None:
    world, report, record = run({("decompose", None, 1): BLANK, ("decompose", None, 2): second})
    assert report == WorkflowResult("failed", "")
    assert record.error is not None
    assert record.error.startswith(error)
    assert [phase.outcome for phase in record.phases] == ["failed"]
    assert record.branches == Branches(total=0, ok=0)
    assert len(world.calls) == 2


@pytest.mark.parametrize("outcome", sorted(set(FAILURES) - {"empty_answer"}))
def test_a_decomposition_whose_call_fails_is_not_repaired(outcome: str) -> None:
    world, report, record = run({("decompose", None, 1): Says(outcome, answer="x", detail="why")})
    assert report.outcome == record.outcome == "failed"
    assert record.error == f"decompose: {outcome} (why)"
    assert len(world.sends) == 1


def test_a_failed_branch_leaves_a_gap_that_the_synthesis_names() -> None:
    world, report, record = run(GOOD | {("fan_out", 1, 1): RATE_LIMITED})
    assert report == WorkflowResult("degraded", "The report.")
    assert record.outcome == "degraded"
    assert record.branches == Branches(total=3, ok=2)
    assert [phase.outcome for phase in record.phases] == ["ok", "degraded", "ok"]
    assert record.error is None
    written = prompt(world, "synthesize")
    findings, gaps = written.split("No finding could be had")
    assert "What is b?" in gaps
    assert "What is b?" not in findings
    assert "What is a?" not in gaps
    assert "a is one" in findings


def test_a_workflow_whose_branches_all_fail_fails_without_a_synthesis() -> None:
    failed = {("fan_out", branch, 1): RATE_LIMITED for branch in range(3)}
    world, report, record = run(GOOD | failed)
    assert report == WorkflowResult("failed", "")
    assert record.error == "fan_out: rate_limited (HTTP 429)"
    assert record.branches == Branches(total=3, ok=0)
    assert [phase.name for phase in record.phases] == ["decompose", "fan_out"]
    assert record.phases[-1].outcome == "failed"
    assert len(world.calls) == 4


def test_a_failed_synthesis_fails_the_workflow_though_its_branches_went_well() -> None:
    _, report, record = run(GOOD | {("synthesize", None, 1): UNAUTHORIZED})
    assert report == WorkflowResult("failed", "")
    assert record.outcome == "failed"
    assert record.error == "synthesize: unauthorized (HTTP 401)"
    assert record.branches == Branches(total=3, ok=3)
    assert [phase.outcome for phase in record.phases] == ["ok", "ok", "failed"]


def test_the_workflows_deadline_counts_from_when_it_was_ready() -> None:
    answers = GOOD | {("fan_out", 1, 1): Says(takes=700)}
    world, report, record = run(answers, research_plan(timeout=600), ready=100, now=150)
    assert [sent.deadlines.end for sent in world.sends] == [700] * 4
    assert report.outcome == "failed"
    assert (
        record.error == "synthesize: workflow_timeout (the deadline passed before the next attempt)"
    )
    assert record.branches == Branches(total=3, ok=2)
    assert record.done == 700
    assert world.calls[-1].attempts == 0


def test_a_permit_that_never_comes_ends_every_branch_with_the_workflow() -> None:
    world = World(by_call(GOOD), waits_of(0, None, None, None))
    report = world.run(
        run_workflow(terms(), research_plan(timeout=600), WORKFLOW, "letters", ready=0)
    )
    assert report.outcome == "failed"
    assert [call.outcome for call in world.calls] == [OK] + ["workflow_timeout"] * 3
    assert world.workflows[0].error is not None
    assert world.workflows[0].error.startswith("fan_out: workflow_timeout")


outcomes = st.sampled_from([OK, OK, "empty_answer", "rate_limited", "truncated"])
answers = st.sampled_from([PLANNED.answer, "no", '["just one"]'])  # what is ok is not blank
says = st.builds(Says, outcome=outcomes, takes=st.integers(0, 300), answer=answers)


@given(
    script=st.lists(says, min_size=6, max_size=6),
    timeout=st.none() | st.integers(1, 900),
    carry=st.booleans(),
    late=st.integers(0, 50),
)
def test_whatever_is_answered_the_phases_are_contiguous_and_cover_the_workflow(
    script: list[Says], timeout: int | None, carry: bool, late: int
) -> None:
    keys = [*GOOD, ("decompose", None, 2)]
    plan = research_plan(timeout=timeout, carry_reasoning=carry)
    world, report, record = run(dict(zip(keys, script, strict=True)), plan, ready=7, now=7 + late)
    edges = [record.started, *(phase.end for phase in record.phases)]
    assert [phase.start for phase in record.phases] == edges[:-1]
    assert record.done == edges[-1] == world.now
    assert (record.ready, record.started) == (7, 7 + late)
    assert [phase.name for phase in record.phases] == [
        *("decompose", "fan_out", "synthesize")[: len(record.phases)]
    ]
    assert report.outcome == record.outcome
    assert (record.error is None) == (record.outcome != "failed") == bool(report.text)
    for call in world.calls:
        [phase] = [phase for phase in record.phases if phase.name == call.phase]
        assert phase.start <= call.ready <= call.done <= phase.end
    good = [call for call in world.calls if call.phase == "fan_out" and call.outcome == OK]
    tried = [call for call in world.calls if call.phase == "fan_out"]
    assert record.branches == Branches(total=len(tried), ok=len(good))
    if record.outcome != "failed":
        assert (record.outcome == "ok") == (len(good) == 3)
