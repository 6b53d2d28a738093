"""The built-in workflows, written as functions with the decorator `harness.workflow`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import harness
from harness.engine.effects import Message
from harness.workflows import agent as built_in_agent
from harness.workflows.prompts import Prompts
from harness.workflows.research.decomposition import DecompositionError, parse_sub_questions
from harness.workflows.research.prompts import TEMPLATES, findings_text, repair_messages

RESEARCH = Prompts(TEMPLATES, "")
AGENT = Prompts(built_in_agent.AGENT.templates, "")
Messages = list[dict[str, str]]


def told(messages: Iterable[Message]) -> Messages:
    return [{"role": one.role, "content": one.content} for one in messages]


@harness.workflow
async def research(
    ask: Any, topic: str, branches: int = 4, enough: float = 4, wait_for_all: bool = False
) -> str:
    with harness.phase("decompose"):
        questions = await decompose(ask, topic, branches)
    asked = [
        RESEARCH.messages("research", topic=topic, question=question, notes="")
        for question in questions
    ]
    found = await harness.gather(
        *(ask("fan_out", told(one)) for one in asked), enough=enough, wait_for_all=wait_for_all
    )
    answers = [None if one is None else one.text for one in found]
    findings = findings_text(tuple(zip(questions, answers, strict=True)))
    report = RESEARCH.messages("synthesize", topic=topic, findings=findings, notes="")
    return str(await ask("synthesize", told(report)))


async def decompose(ask: Any, topic: str, count: int) -> list[str]:
    asked = RESEARCH.messages("decompose", topic=topic, count=str(count))
    for is_repair in (False, True):
        answer = await ask("decompose", told(asked), json=True, raises=False)
        if answer.outcome not in ("ok", "empty_answer"):
            raise ValueError(f"decompose: {answer.outcome} ({answer.detail})")
        error = "the answer was blank"
        if answer.ok:
            try:
                return parse_sub_questions(answer.text, count)
            except DecompositionError as problem:
                error = str(problem)
        if is_repair:
            raise ValueError(f"decompose: after one repair {error}")
        asked = repair_messages(asked, answer.text, error, count)
    raise AssertionError


@harness.workflow
async def agent(
    ask: Any,
    topic: str,
    steps: int = 4,
    tools: int = 2,
    enough: int = 0,
    wait_for_all: bool = True,
) -> str:
    said = told(AGENT.messages("step", topic=topic, steps=str(steps)))
    answer = await ask("step", said)
    for step in range(1, steps):
        texts: list[str | None] = []
        if tools:
            asked = [
                AGENT.messages("tools", topic=topic, number=str(number), step=answer.text)
                for number in range(1, tools + 1)
            ]
            found = await harness.gather(
                *(ask("tools", told(one)) for one in asked),
                enough=enough,
                wait_for_all=wait_for_all,
            )
            texts = [None if one is None else one.text for one in found]
        said = [*said, {"role": "assistant", "content": answer.text}]
        for number, text in enumerate(texts, 1):
            result = "failed; go on without it" if text is None else text
            said.append({"role": "user", "content": f"Tool {number}: {result}"})
        said.append({"role": "user", "content": f"Take step {step + 1} of {steps} now."})
        answer = await ask("step", said)
    return str(answer)
