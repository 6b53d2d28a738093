"""The built-in research workflow as a program: with `ask`, and with the openai package."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

from openai import AsyncOpenAI

import harness
from harness.engine.effects import Message
from harness.workflows.prompts import Prompts
from harness.workflows.research.decomposition import parse_sub_questions
from harness.workflows.research.prompts import TEMPLATES, findings_text

PROMPTS = Prompts(TEMPLATES, "")
BRANCHES = 4
MODEL = os.environ.get("MODEL", "deepseek-reasoner")


def _plan(topic: str) -> list[dict[str, str]]:
    return _sent(PROMPTS.messages("decompose", topic=topic, count=str(BRANCHES)))


def _research(topic: str, question: str) -> list[dict[str, str]]:
    return _sent(PROMPTS.messages("research", topic=topic, question=question, notes=""))


def _report(topic: str, questions: list[str], answers: Iterable[str]) -> list[dict[str, str]]:
    findings = findings_text(tuple(zip(questions, answers, strict=True)))
    return _sent(PROMPTS.messages("synthesize", topic=topic, findings=findings, notes=""))


def _sent(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": one.role, "content": one.content} for one in messages]


@harness.workflow
async def with_ask(ask: Any, topic: str) -> str:
    """Research a topic by the calls of the harness."""
    plan = await ask("decompose", _plan(topic), json=True)
    questions = parse_sub_questions(plan.text, BRANCHES)
    found = await harness.gather(*(ask("fan_out", _research(topic, one)) for one in questions))
    report = await ask("synthesize", _report(topic, questions, map(str, found)))
    return str(report)


async def with_openai(client: AsyncOpenAI, topic: str) -> str:
    """Research a topic with a client of the openai package."""
    with harness.phase("decompose"):
        plan = await _streamed(client, _plan(topic), response_format={"type": "json_object"})
    questions = parse_sub_questions(plan, BRANCHES)
    with harness.phase("fan_out"):
        found = await asyncio.gather(
            *(_streamed(client, _research(topic, one)) for one in questions)
        )
    with harness.phase("synthesize"):
        return await _streamed(client, _report(topic, questions, found))


async def _streamed(client: AsyncOpenAI, messages: Any, **options: Any) -> str:
    """Return the text of a streamed answer, as the built-in workflow reads it."""
    parts = []
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=messages,
        stream=True,
        stream_options={"include_usage": True},
        **options,
    )
    async for chunk in stream:
        if chunk.choices:
            parts.append(chunk.choices[0].delta.content or "")
    return "".join(parts)
