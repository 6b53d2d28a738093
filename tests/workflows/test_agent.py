"""The agent: its context grows, its tools run in parallel, and a tool that fails leaves a gap."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from harness.bench.scenario import Scenario
from harness.engine.effects import Message
from harness.policies.no_retry import NoRetryRule
from harness.records.schema import Branches, Workflow
from harness.workflows.execution import WorkflowPlan, WorkflowResult, run_workflow
from harness.workflows.layout import calls_of, regular_calls, rounds, widest
from tests.engine.scripted import UNAUTHORIZED, WORKFLOW, Says, Script, World, terms

Call = tuple[str, int | None, int]


def plan(**settings: Any) -> WorkflowPlan:
    limits = {"step": 100, "tools": 10}
    workflow = {"kind": "agent", "topics": ["tides"], "steps": 3, "tools": 2, "max_tokens": limits}
    return Scenario.model_validate({"name": "x", "workflow": workflow | settings}).plan


def says(failing: tuple[Call, ...] = ()) -> Script:
    def answer(asked: Any) -> Says:
        key = asked.key
        if (key.phase, key.branch, key.call) in failing:
            return UNAUTHORIZED
        name = "-" if key.branch is None else key.branch
        return Says(answer=f"{key.phase}/{name}/{key.call}", reasoning=f"why {key.call}")

    return answer


def run(failing: tuple[Call, ...] = (), **settings: Any) -> tuple[World, WorkflowResult, Workflow]:
    world = World(says(failing))
    result = world.run(
        run_workflow(terms(NoRetryRule()), plan(**settings), WORKFLOW, "tides", ready=0)
    )
    [record] = world.workflows
    return world, result, record


def contents(world: World, phase: str, call: int) -> list[str]:
    sent = next(s for s in world.sends if (s.key.phase, s.key.call) == (phase, call))
    return [message.content for message in sent.request.messages]


def test_steps_and_tools_take_turns_and_no_tools_follow_the_last_step() -> None:
    world, result, record = run()
    assert result == WorkflowResult("ok", "step/-/3")
    assert [phase.name for phase in record.phases] == ["step", "tools", "step", "tools", "step"]
    assert record.branches == Branches(total=4, ok=4)
    assert [(call.phase, call.branch, call.call) for call in world.calls] == [
        ("step", None, 1), ("tools", 0, 1), ("tools", 1, 1),
        ("step", None, 2), ("tools", 0, 2), ("tools", 1, 2),
        ("step", None, 3),
    ]  # fmt: skip
    assert all(one.end == next_one.start for one, next_one in pairwise(record.phases))


def test_the_context_grows_by_every_answer() -> None:
    world, _, _ = run()
    first = contents(world, "step", 1)
    assert contents(world, "step", 3) == [
        *first,
        "step/-/1", "Tool 1: tools/0/1", "Tool 2: tools/1/1", "Take step 2 of 3 now.",
        "step/-/2", "Tool 1: tools/0/2", "Tool 2: tools/1/2", "Take step 3 of 3 now.",
    ]  # fmt: skip
    assert contents(world, "tools", 2)[1].endswith("step/-/2")
    sizes = [s.request.max_tokens for s in world.sends]
    assert sizes == [100, 10, 10, 100, 10, 10, 100]


def test_reasoning_is_carried_if_asked_for() -> None:
    world, _, _ = run(carry_reasoning=True)
    assert "why 1\n\nstep/-/1" in contents(world, "step", 2)


@pytest.mark.parametrize(
    ("tokens", "told"), [(0, "step/-/1"), (1, "1\n\nstep/-/1"), (2, "why 1\n\nstep/-/1")]
)
def test_the_end_of_the_reasoning_is_carried(tokens: int, told: str) -> None:
    world, _, _ = run(carry_reasoning=True, carry_tokens=tokens)
    assert told in contents(world, "step", 2)


def test_reasoning_is_returned_in_its_own_field_if_asked_for() -> None:
    world, _, _ = run(return_reasoning=True)
    [sent] = [s for s in world.sends if (s.key.phase, s.key.call) == ("step", 2)]
    own = [message for message in sent.request.messages if message.role == "assistant"]
    assert own == [Message("assistant", "step/-/1", "why 1")]
    tool = next(s for s in world.sends if s.key.phase == "tools")
    assert not any(message.reasoning for message in tool.request.messages)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"carry_tokens": 5}, "has no effect without workflow.carry_reasoning = true"),
        ({"carry_reasoning": True, "return_reasoning": True}, "sends the reasoning again"),
    ],
)
def test_keys_of_reasoning_that_contradict_each_other(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        plan(**keys)


def test_without_tools_the_steps_follow_one_another() -> None:
    world, result, record = run(tools=0)
    assert result.text == "step/-/3"
    assert [phase.name for phase in record.phases] == ["step"] * 3
    assert contents(world, "step", 2)[2:] == ["step/-/1", "Take step 2 of 3 now."]


@pytest.mark.parametrize("failing", [(("tools", 0, 1),), (("tools", 0, 1), ("tools", 1, 1))])
def test_a_tool_that_fails_leaves_a_gap(failing: tuple[Call, ...]) -> None:
    world, result, record = run(failing)
    assert (result.outcome, record.error) == ("degraded", None)
    assert record.branches == Branches(total=4, ok=4 - len(failing))
    assert [phase.outcome for phase in record.phases] == ["ok", "degraded", "ok", "ok", "ok"]
    assert "Tool 1: failed; go on without it" in contents(world, "step", 2)


def test_a_tool_that_fails_can_fail_the_workflow() -> None:
    _, result, record = run((("tools", 0, 1),), on_tool_failure="fail-fast")
    assert result == WorkflowResult("failed", "")
    assert record.error is not None
    assert record.error.startswith("tools: ")
    assert [phase.outcome for phase in record.phases] == ["ok", "failed"]


def test_a_step_that_fails_fails_the_workflow() -> None:
    _, result, record = run((("step", None, 2),))
    assert result.outcome == "failed"
    assert [phase.name for phase in record.phases] == ["step", "tools", "step"]


def test_the_estimate_knows_its_calls_and_that_prompts_grow() -> None:
    layout = plan().layout("tides")
    assert regular_calls(layout) == 7
    assert widest(layout) == 2
    assert (rounds(layout, 1), rounds(layout, 2)) == (7, 5)
    steps = [call.read for call in calls_of(layout) if call.phase == "step"]
    grown = [later - earlier for earlier, later in pairwise(steps)]
    assert all(more > 100 + 2 * 10 for more in grown), "an answer, two tools, and what joins them"


def test_no_prompt_is_longer_than_estimated() -> None:
    world, _, _ = run()
    estimated = [call.read for call in calls_of(plan().layout("tides"))]
    sent = [
        sum(-(-len(message.content) // 4) + 4 for message in send.request.messages)
        for send in world.sends
    ]
    assert all(real <= most for real, most in zip(sent, estimated, strict=True))
