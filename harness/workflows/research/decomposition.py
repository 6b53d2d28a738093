"""Parses a model's answer into sub-questions.

Models that are asked for JSON put it into code fences or prose, repeat items, miscount, or send
only spaces. Errors have a text that can be shown to the model, for one repair.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

_KEYS = ("sub_questions", "subquestions", "questions")
_ITEM_KEYS = ("question", "sub_question", "subquestion")
_OPENING = re.compile(r"[\[{]")
_MAX_FAILED = 200
"""The limit of failed attempts to parse from a bracket, as each costs time."""


class DecompositionError(Exception):
    """The answer contains no usable list of sub-questions; the text explains it to the model."""


class _Found(NamedTuple):
    """A list of distinct questions; `named`: its key is one of `_KEYS`."""

    named: bool
    questions: list[str]


def parse_sub_questions(answer: str, count: int) -> list[str]:
    """Return the first `count` distinct sub-questions in a model's answer.

    Raises DecompositionError if it is blank, or has no JSON list of enough distinct questions.
    """
    if not answer.strip():
        raise DecompositionError("the answer was blank")
    found = [found for value in _json_values(answer) for found in _lists(value)]
    if not found:
        raise DecompositionError('the answer had no JSON object with a list "sub_questions"')
    questions = max(found, key=lambda one: (one.named, len(one.questions))).questions
    if len(questions) < count:
        raise DecompositionError(
            f"the answer had {len(questions)} distinct sub-questions instead of {count}"
        )
    return questions[:count]


def _json_values(text: str) -> Iterator[Any]:
    """Yield every JSON object or list in the text."""
    decoder = json.JSONDecoder(strict=False)  # line breaks inside a string are common
    position = failed = 0
    while failed < _MAX_FAILED and (match := _OPENING.search(text, position)) is not None:
        try:
            value, position = decoder.raw_decode(text, match.start())
        except RecursionError:
            return  # no list of questions is that deep
        except ValueError:  # not JSON, or a number too long for Python
            position = match.start() + 1
            failed += 1
        else:
            yield value


def _lists(value: Any) -> Iterator[_Found]:
    """Yield the lists of questions in a decoded JSON value, outer ones first.

    Values within a list of questions are ignored.
    """
    waiting: deque[tuple[bool, Any]] = deque([(False, value)])
    while waiting:
        named, here = waiting.popleft()
        if named and isinstance(here, dict):  # {"sub_questions": {"1": "…", "2": "…"}}
            questions = _distinct(text for text in here.values() if isinstance(text, str))
        elif isinstance(here, list):
            questions = _distinct(map(_question, here))
        else:
            questions = []
        if questions:
            yield _Found(named, questions)
        elif isinstance(here, list):
            waiting.extend((False, inner) for inner in here)
        elif isinstance(here, dict):
            waiting.extend((key in _KEYS, inner) for key, inner in here.items())


def _question(item: Any) -> str:
    """Return the text of a question: a string, or the most likely field of an object."""
    if isinstance(item, dict):
        texts = {key: text for key, text in item.items() if isinstance(text, str)}
        named = [texts[key] for key in _ITEM_KEYS if key in texts]
        return named[0] if named else max(texts.values(), key=len, default="")
    return item if isinstance(item, str) else ""


def _distinct(questions: Iterable[str]) -> list[str]:
    """Remove blank and repeated questions; case and final punctuation are ignored."""
    seen: dict[str, str] = {}
    for question in questions:
        # JSON can contain half a surrogate pair, which cannot be sent in a request.
        text = " ".join(question.encode(errors="replace").decode().split())
        key = text.casefold().rstrip(" ?.!…")
        if key:
            seen.setdefault(key, text)
    return list(seen.values())
