"""The words that go to the model.

A phase's words are a text with placeholders: a name in braces, `{topic}`, stands for its value,
and `{{topic}}` for the braces themselves; every other brace is what it is, so that JSON can be
shown as it is. `nonce` stands at the start of each prompt, before anything shared, where it keeps
a provider's prefix cache from making later cells faster than earlier ones; it is empty where
caching is wanted or cannot happen.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.engine.effects import Message

_ROLE = "You are a careful research assistant."
_SYSTEM = Message("system", _ROLE)
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")


class Prompts(NamedTuple):
    """The words of each phase.

    `{topic}` and `{count}` in the first; `{topic}`, `{question}` and `{notes}` in the second;
    `{topic}`, `{findings}` and `{notes}` in the third. Notes are the reasoning of the
    decomposition, empty unless it is carried on. Findings name the questions without one too.
    """

    decompose: str = (
        "Break the topic below into exactly {count} sub-questions that can be researched "
        "independently of each other and together cover it.\n"
        'Answer with one JSON object and nothing else: {"sub_questions": ["...", ...]}\n\n'
        "Topic: {topic}"
    )
    research: str = (
        "Topic: {topic}\n{notes}\nAnswer this sub-question thoroughly and concisely: {question}"
    )
    synthesize: str = (
        "Topic: {topic}\n{notes}\nWrite a report that brings these findings together.\n\n{findings}"
    )


_NEEDED: Mapping[str, tuple[str, ...]] = {
    "decompose": ("topic", "count"),
    "research": ("question",),
    "synthesize": ("findings",),
}
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "decompose": ("topic", "count"),
    "research": ("topic", "question", "notes"),
    "synthesize": ("topic", "findings", "notes"),
}


def prompt_objection(phase: str, words: str, notes: bool) -> str | None:
    """Say in one line why `words` cannot be those of `phase`; None when they can.

    `notes`: reasoning is carried on, so that a text without `{notes}` would lose it.
    """
    found = {name for _, name in _PLACEHOLDER.findall(words) if name}
    allowed = _ALLOWED[phase]
    for name in sorted(found - set(allowed)):
        close = difflib.get_close_matches(name, allowed, n=1)
        nearest = f" (did you mean {{{close[0]}}}?)" if close else ""
        known = ", ".join(f"{{{one}}}" for one in allowed)
        return (
            f"unknown placeholder {{{name}}}{nearest}; known here: {known}; "
            f"write {{{{{name}}}}} for the braces themselves"
        )
    needed = _NEEDED[phase] + (("notes",) if notes and "notes" in allowed else ())
    missing = [f"{{{name}}}" for name in needed if name not in found]
    return f"has no {' and no '.join(missing)}; put it where it belongs" if missing else None


def decompose_messages(words: Prompts, topic: str, count: int, nonce: str) -> tuple[Message, ...]:
    """Ask for exactly `count` sub-questions as JSON."""
    return _chat(_fill(words.decompose, {"topic": topic, "count": str(count)}), nonce)


def repair_messages(
    asked: tuple[Message, ...], answer: str, error: str, count: int
) -> tuple[Message, ...]:
    """Show the model its answer and what was wrong with it, and ask once more."""
    text = (
        f"That cannot be used: {error}. Answer again with one JSON object that has exactly "
        f'{count} distinct sub-questions: {{"sub_questions": ["...", ...]}}'
    )
    return (*asked, Message("assistant", answer.strip() or "(blank)"), Message("user", text))


def research_messages(
    words: Prompts, topic: str, question: str, reasoning: str, nonce: str
) -> tuple[Message, ...]:
    """Ask for the answer to one sub-question."""
    values = {"topic": topic, "question": question, "notes": _notes(reasoning)}
    return _chat(_fill(words.research, values), nonce)


def synthesize_messages(
    words: Prompts,
    topic: str,
    findings: Sequence[tuple[str, str | None]],
    reasoning: str,
    nonce: str,
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
    values = {"topic": topic, "findings": "\n\n".join(parts) + gaps, "notes": _notes(reasoning)}
    return _chat(_fill(words.synthesize, values), nonce)


def _fill(words: str, values: Mapping[str, str]) -> str:
    """Put the values in; what stands in a value is never taken for a placeholder."""
    return _PLACEHOLDER.sub(
        lambda found: f"{{{found[1]}}}" if found[1] else values[found[2]], words
    )


def _chat(text: str, nonce: str) -> tuple[Message, ...]:
    system = Message("system", f"[{nonce}] {_ROLE}") if nonce else _SYSTEM
    return (system, Message("user", text))


def _notes(reasoning: str) -> str:
    return f"\nNotes from planning:\n{reasoning}\n" if reasoning else ""
