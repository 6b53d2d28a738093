"""From a model's answer to sub-questions: pure text work.

Models asked for JSON wrap it in fences, put prose around it, repeat themselves, miscount, or send
only spaces. What can be read safely is read; the rest is an error in words that can be shown to
the model for one repair.
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
"""Brackets to try in vain: each costs time in which no other answer is read."""


class DecompositionError(Exception):
    """The answer holds no usable list of sub-questions; the text says why, for the model."""


class _Found(NamedTuple):
    """A list of distinct questions; `named`: it stands under a key that says so."""

    named: bool
    questions: list[str]


def parse_sub_questions(answer: str, count: int) -> list[str]:
    """Return exactly `count` distinct sub-questions out of a model's answer.

    More than `count` are cut to the first `count`. Raises DecompositionError when the answer is
    blank, holds no JSON list of questions, or too few distinct ones.
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
    """Yield every JSON value that starts with a bracket, whatever stands around it."""
    decoder = json.JSONDecoder(strict=False)  # line breaks inside a string are common
    position = failed = 0
    while failed < _MAX_FAILED and (match := _OPENING.search(text, position)) is not None:
        try:
            value, position = decoder.raw_decode(text, match.start())
        except RecursionError:
            return  # no list of questions is that deep
        except ValueError:  # no JSON, or a number beyond what Python converts
            position = match.start() + 1
            failed += 1
        else:
            yield value


def _lists(value: Any) -> Iterator[_Found]:
    """Yield the lists of questions in a decoded JSON value, outer ones first.

    What a list of questions holds besides is detail and not looked into.
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
    """Return the text of a question: a string, or an object's field that looks most like it."""
    if isinstance(item, dict):
        texts = {key: text for key, text in item.items() if isinstance(text, str)}
        named = [texts[key] for key in _ITEM_KEYS if key in texts]
        return named[0] if named else max(texts.values(), key=len, default="")
    return item if isinstance(item, str) else ""


def _distinct(questions: Iterable[str]) -> list[str]:
    """Drop blanks and repetitions, letter case and closing punctuation aside; the first stays."""
    seen: dict[str, str] = {}
    for question in questions:
        # JSON can escape half a surrogate pair, which no later request could carry.
        text = " ".join(question.encode(errors="replace").decode().split())
        key = text.casefold().rstrip(" ?.!…")
        if key:
            seen.setdefault(key, text)
    return list(seen.values())
