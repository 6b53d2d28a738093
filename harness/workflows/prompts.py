"""Prompts as texts with fields, which a scenario can replace.

A name in braces, `{topic}`, is a field; `{{topic}}` means literal braces. Other braces have no
meaning, so that prompts can contain JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from harness.config.tables import nearest
from harness.engine.effects import Message
from harness.workflows.layout import CHARACTERS_A_TOKEN

_FIELD = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
_NOTES = "notes"
SYSTEM = "You are a careful assistant."
"""The default system message."""


class PromptTemplate(NamedTuple):
    """One prompt: its text, and the fields that a text must (`needed`) or can have (`optional`).

    The field `{notes}` is for carried reasoning: it is needed if the reasoning is carried.
    `system`: the system message. `json`: the answer should be a JSON object.
    """

    text: str
    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    system: str = SYSTEM
    json: bool = False

    def objection(self, text: str, carry_reasoning: bool) -> str | None:
        """Return in one line why `text` cannot replace this prompt; None if it can."""
        found = {name for _, name in _FIELD.findall(text) if name}
        allowed = (*self.needed, *self.optional)
        for name in sorted(found - set(allowed)):
            known = ", ".join(map(_braced, allowed))
            return (
                f"unknown placeholder {{{name}}}{nearest(name, allowed, _braced)}; "
                f"known here: {known}; write {{{{{name}}}}} for literal braces"
            )
        carried = (_NOTES,) if carry_reasoning and _NOTES in self.optional else ()
        missing = [f"{{{name}}}" for name in self.needed + carried if name not in found]
        if not missing:
            return None
        return f"has no {' and no '.join(missing)}; add the missing fields"


@cache
def _parts(text: str) -> tuple[tuple[bool, str], ...]:
    """Return the parts of a prompt in order: literal text (False) and names of fields (True)."""
    parts, position = list[tuple[bool, str]](), 0
    for found in _FIELD.finditer(text):
        literal = text[position : found.start()] + (f"{{{found[1]}}}" if found[1] else "")
        parts += [(False, literal), *([(True, found[2])] if found[2] else [])]
        position = found.end()
    return (*parts, (False, text[position:]))


def _braced(name: str) -> str:
    return f"{{{name}}}"


@lru_cache(maxsize=64)
def _system_message(text: str) -> Message:
    return Message("system", text)


class Prompts(NamedTuple):
    """The prompts of one workflow.

    `nonce` is the beginning of every prompt, so a provider's prefix cache cannot make later cells
    faster than earlier ones. It is empty if caching is wanted, or if there is no cache.
    """

    templates: Mapping[str, PromptTemplate]
    nonce: str = ""

    def messages(self, key: str, **values: str) -> tuple[Message, ...]:
        """Return the messages of the template `key`; fields inside values have no meaning."""
        return _filled(self.templates[key], self.nonce, tuple(values.items()))

    def chat(self, text: str, system: str = SYSTEM) -> tuple[Message, ...]:
        """Return a system message and a user message."""
        begin = f"[{self.nonce}] " if self.nonce else ""
        return (_system_message(begin + system), Message("user", text))


@lru_cache(maxsize=512)
def _filled(
    template: PromptTemplate, nonce: str, fields: tuple[tuple[str, str], ...]
) -> tuple[Message, ...]:
    # In virtual time the same prompts come in each cell: the cache saves 2 us a call.
    return Prompts({}, nonce).chat(fill_fields(template.text, **dict(fields)), template.system)


def fill_fields(text: str, **values: str) -> str:
    """Return a text with its fields filled in; fields inside values have no meaning."""
    return "".join(values[part] if is_field else part for is_field, part in _parts(text))


def carried_reasoning(reasoning: str, tokens: int | None) -> str:
    """Return the end of a reasoning, about so many tokens; all of it for None.

    Its end has the conclusions. It begins with a whole word.
    """
    most = len(reasoning) if tokens is None else tokens * CHARACTERS_A_TOKEN
    if len(reasoning) <= most:
        return reasoning
    end = reasoning[len(reasoning) - most :]
    begin, space, rest = end.partition(" ")
    return rest if space else begin


def notes(reasoning: str) -> str:
    """Return the value of the field `{notes}`."""
    return f"\nNotes from planning:\n{reasoning}\n" if reasoning else ""
