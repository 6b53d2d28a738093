"""The words that go to the model.

`nonce` stands at the start of each prompt, before anything shared, where it keeps a provider's
prefix cache from making later cells faster than earlier ones; it is empty where caching is wanted
or cannot happen.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.workflow.effects import Message

_ROLE = "You are a careful research assistant."


def decompose(topic: str, count: int, nonce: str) -> tuple[Message, ...]:
    """Ask for exactly `count` sub-questions as JSON."""
    text = (
        f"Break the topic below into exactly {count} sub-questions that can be researched "
        "independently of each other and together cover it.\n"
        'Answer with one JSON object and nothing else: {"sub_questions": ["...", ...]}\n\n'
        f"Topic: {topic}"
    )
    return _chat(text, nonce)


def repair(asked: tuple[Message, ...], answer: str, error: str, count: int) -> tuple[Message, ...]:
    """Show the model its answer and what was wrong with it, and ask once more."""
    text = (
        f"That cannot be used: {error}. Answer again with one JSON object that has exactly "
        f'{count} distinct sub-questions: {{"sub_questions": ["...", ...]}}'
    )
    return (*asked, Message("assistant", answer.strip() or "(blank)"), Message("user", text))


def research(topic: str, question: str, reasoning: str, nonce: str) -> tuple[Message, ...]:
    """Ask for the answer to one sub-question."""
    text = (
        f"Topic: {topic}\n{_notes(reasoning)}\n"
        f"Answer this sub-question thoroughly and concisely: {question}"
    )
    return _chat(text, nonce)


def synthesize(
    topic: str, findings: Sequence[tuple[str, str | None]], reasoning: str, nonce: str
) -> tuple[Message, ...]:
    """Ask for the report; a finding of None is named as missing."""
    parts = []
    missing = []
    for question, finding in findings:
        if finding is None:
            missing.append(question)
        else:
            parts.append(f"Sub-question: {question}\nFinding: {finding}")
    gaps = ""
    if missing:
        listed = "\n".join(f"- {question}" for question in missing)
        gaps = f"\n\nNo finding could be had for these; say so in the report:\n{listed}"
    joined = "\n\n".join(parts)
    text = (
        f"Topic: {topic}\n{_notes(reasoning)}\n"
        f"Write a report that brings these findings together.\n\n{joined}{gaps}"
    )
    return _chat(text, nonce)


def _chat(text: str, nonce: str) -> tuple[Message, ...]:
    system = f"[{nonce}] {_ROLE}" if nonce else _ROLE
    return (Message("system", system), Message("user", text))


def _notes(reasoning: str) -> str:
    return f"\nNotes from planning:\n{reasoning}\n" if reasoning else ""
