"""`kind = "agent"`: a loop of steps whose context grows, with tools that run in parallel.

Each step is one call whose prompt is the whole context. After each step but the last, `tools` calls
answer it in parallel, and their answers are appended to the context as user messages. No tools run
after the last step, whose answer is the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from harness.config.tables import SettingError
from harness.engine.call import Completion
from harness.engine.effects import Message, Program
from harness.records.failures import OK
from harness.records.schema import PhaseInfo
from harness.workflows.context import WorkflowContext
from harness.workflows.layout import InParallel, InSequence, Layout, PlannedCall, tokens_of
from harness.workflows.partial_failure import Partial, fail_fast
from harness.workflows.prompts import Prompts, PromptTemplate, carried_reasoning
from harness.workflows.protocol import WorkflowKind
from harness.workflows.section import WorkflowSection

_CONTINUE = Partial(needed=0, stops=False)


class AgentSection(WorkflowSection):
    """An agent: steps one after another, with tools in parallel.

    Example::

        [workflow]
        kind = "agent"
        topics = ["ocean tides"]
        steps = 4
        tools = 2
    """

    kind: Literal["agent"]
    """The kind of workflow."""
    steps: int = Field(default=4, ge=1, le=1000)
    """Calls that follow one another."""
    tools: int = Field(default=2, ge=0, le=1000)
    """Calls in parallel after each step but the last; 0 for none."""
    on_tool_failure: Literal["continue-with-gaps", "fail-fast"] = "continue-with-gaps"
    """`continue-with-gaps`: the next step is told which tools failed, and the workflow is degraded.
    `fail-fast`: the workflow fails.
    """
    return_reasoning: bool = False
    """The next step gets the reasoning of a step back in the field `reasoning_content` of its
    message, as newer models ask for; others, such as DeepSeek-R1, answer 400 to it.
    """

    @model_validator(mode="after")
    def _reasoning_goes_one_way(self) -> AgentSection:
        if self.return_reasoning and self.carry_reasoning:
            raise SettingError(
                "sends the reasoning again that workflow.carry_reasoning puts into the text; "
                "remove one of the two",
                "return_reasoning",
                value=True,
            )
        return self

    @property
    def keeps_reasoning(self) -> bool:
        """Whether the program reads the reasoning of steps."""
        return self.carry_reasoning or self.return_reasoning

    @property
    def partial(self) -> Partial:
        """What to do when tools fail."""
        return fail_fast(self.tools) if self.on_tool_failure == "fail-fast" else _CONTINUE


class AgentKind:
    """The agent workflow."""

    section = AgentSection
    templates: Mapping[str, PromptTemplate] = {
        "step": PromptTemplate(
            "Topic: {topic}\n\nWork on this topic in {steps} steps, one an answer. After each "
            "step you are told what your tools found. Take step 1 now.",
            needed=("topic",),
            optional=("steps",),
        ),
        "tools": PromptTemplate(
            "Topic: {topic}\n\nYou are tool {number} of an agent. Find out what helps with this "
            "step, and answer in a few sentences:\n\n{step}",
            needed=("step",),
            optional=("topic", "number"),
            system="You are a tool of an agent.",
        ),
    }

    def phases(self, section: AgentSection) -> tuple[PhaseInfo, ...]:
        """Return the two phases, which alternate."""
        step = PhaseInfo(name="step", setting="step")
        return (step, PhaseInfo(name="tools", setting="tools"))

    def layout(
        self, section: AgentSection, prompts: Prompts, topic: str, most: Mapping[str, int]
    ) -> Layout:
        """Return the calls of a workflow. Each step reads the output of all calls before it."""
        said = _first(section, prompts, topic)
        written = 0
        parts: list[Layout] = []
        for step in range(1, section.steps + 1):
            parts.append(PlannedCall("step", tokens_of(said) + written))
            if step < section.steps:
                asked = _tool_prompts(section, prompts, topic, "")
                calls = [PlannedCall("tools", tokens_of(one) + most["step"]) for one in asked]
                parts.append(InParallel(tuple(calls)))
                empty = Message("assistant", "")
                said = _joined(section, said, step, empty, [""] * section.tools)
                written += most["step"] + section.tools * most["tools"]
        return InSequence(tuple(parts))

    def program(self, context: WorkflowContext[AgentSection]) -> Program[str]:
        """Run one workflow and return the answer of its last step."""
        section, prompts, topic = context.section, context.prompts, context.topic
        said = _first(section, prompts, topic)
        reply = yield from context.call("step", said)
        for step in range(1, section.steps):
            answers: list[str | None] = []
            if section.tools:
                asked = _tool_prompts(section, prompts, topic, reply.answer)
                found = yield from context.fan_out("tools", asked, section.partial)
                answers = [one.answer if one.outcome == OK else None for one in found]
            said = _joined(section, said, step, _told(section, reply), answers)
            reply = yield from context.call("step", said)
        return reply.answer


AGENT: WorkflowKind[AgentSection] = AgentKind()


def _first(section: AgentSection, prompts: Prompts, topic: str) -> tuple[Message, ...]:
    return prompts.messages("step", topic=topic, steps=str(section.steps))


def _tool_prompts(
    section: AgentSection, prompts: Prompts, topic: str, step: str
) -> list[tuple[Message, ...]]:
    return [
        prompts.messages("tools", topic=topic, number=str(number), step=step)
        for number in range(1, section.tools + 1)
    ]


def _told(section: AgentSection, reply: Completion) -> Message:
    """Return the message of a step as the next step sees it."""
    if section.return_reasoning:
        return Message("assistant", reply.answer, reply.reasoning)
    carried = carried_reasoning(reply.reasoning, section.carry_tokens)
    return Message("assistant", f"{carried}\n\n{reply.answer}" if carried else reply.answer)


def _joined(
    section: AgentSection,
    said: tuple[Message, ...],
    step: int,
    answer: Message,
    found: Sequence[str | None],
) -> tuple[Message, ...]:
    """Return the context of the next step; an answer of None is a tool that failed."""
    tools = (
        Message("user", f"Tool {number}: {'failed; go on without it' if one is None else one}")
        for number, one in enumerate(found, 1)
    )
    last = Message("user", f"Take step {step + 1} of {section.steps} now.")
    return (*said, answer, *tools, last)
