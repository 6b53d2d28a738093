"""The prompts of the research workflow."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from harness.engine.effects import Message
from harness.workflows.prompts import PromptTemplate

_SYSTEM = "You are a careful research assistant."

TEMPLATES: Mapping[str, PromptTemplate] = {
    "decompose": PromptTemplate(
        "Break the topic below into exactly {count} sub-questions that can be researched "
        "independently of each other and together cover it.\n"
        'Answer with one JSON object and nothing else: {"sub_questions": ["...", ...]}\n\n'
        "Topic: {topic}",
        needed=("topic", "count"),
        system=_SYSTEM,
        json=True,
    ),
    "research": PromptTemplate(
        "Topic: {topic}\n{notes}\nAnswer this sub-question thoroughly and concisely: {question}",
        needed=("question",),
        optional=("topic", "notes"),
        system=_SYSTEM,
    ),
    "synthesize": PromptTemplate(
        "Topic: {topic}\n{notes}\n"
        "Write a report that brings these findings together.\n\n{findings}",
        needed=("findings",),
        optional=("topic", "notes"),
        system=_SYSTEM,
    ),
}


def repair_messages(
    asked: tuple[Message, ...], answer: str, error: str, count: int
) -> tuple[Message, ...]:
    """Return messages that show the model its answer and the error, and ask again."""
    text = (
        f"That cannot be used: {error}. Answer again with one JSON object that has exactly "
        f'{count} distinct sub-questions: {{"sub_questions": ["...", ...]}}'
    )
    return (*asked, Message("assistant", answer.strip() or "(blank)"), Message("user", text))


@lru_cache(maxsize=128)
def findings_text(findings: tuple[tuple[str, str | None], ...]) -> str:
    """Return the value of the field `{findings}`; a finding of None is named as missing."""
    # In virtual time the same findings come in each cell: the cache saves 1 us a call.
    parts = [
        f"Sub-question: {question}\nFinding: {one}" for question, one in findings if one is not None
    ]
    missing = [f"- {question}" for question, one in findings if one is None]
    if missing:
        heading = "No finding could be had for these; say so in the report:"
        parts.append("\n".join([heading, *missing]))
    return "\n\n".join(parts)
