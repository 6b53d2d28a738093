"""From a model's answer to sub-questions: pure text work.

Models asked for JSON wrap it in fences, put prose around it, repeat themselves, miscount, or send
only spaces. What can be read safely is read; the rest is an error in words that can be shown to
the model for one repair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_FENCE = re.compile(r"```[a-zA-Z]*\s*\n?(.*?)```", re.DOTALL)
_KEYS = ("sub_questions", "subquestions", "questions")


class DecompositionError(Exception):
    """The answer holds no usable list of sub-questions; the text says why, for the model."""


def parse_sub_questions(answer: str, count: int) -> list[str]:
    """Return exactly `count` distinct sub-questions out of a model's answer.

    More than `count` are cut to the first `count`. Raises DecompositionError when the answer is
    blank, holds no JSON list of questions, or too few distinct ones.
    """
    if not answer.strip():
        raise DecompositionError("the answer was blank")
    found = [questions for value in _json_values(answer) if (questions := _questions(value))]
    if not found:
        raise DecompositionError('the answer had no JSON object with a list "sub_questions"')
    distinct = max((_distinct(questions) for questions in found), key=len)
    if len(distinct) < count:
        raise DecompositionError(
            f"the answer had {len(distinct)} distinct sub-questions instead of {count}"
        )
    return distinct[:count]


def _json_values(text: str) -> Iterator[Any]:
    """Yield every JSON value that starts with a bracket: fenced blocks first, then anywhere."""
    for fenced in _FENCE.findall(text):
        yield from _bracketed(fenced)
    yield from _bracketed(text)


def _bracketed(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    position = 0
    while (match := re.compile(r"[\[{]").search(text, position)) is not None:
        try:
            value, position = decoder.raw_decode(text, match.start())
        except (json.JSONDecodeError, RecursionError):
            position = match.start() + 1
        else:
            yield value


def _questions(value: Any) -> list[str]:
    """Return the questions in a decoded JSON value, or nothing."""
    if isinstance(value, dict):
        lists = [value[key] for key in _KEYS if isinstance(value.get(key), list)]
        lists = lists or [inner for inner in value.values() if isinstance(inner, list)]
        value = lists[0] if lists else []
    if not isinstance(value, list):
        return []
    return [text for item in value if (text := _question(item))]


def _question(item: Any) -> str:
    if isinstance(item, dict):  # {"question": "…"}
        texts = [inner for inner in item.values() if isinstance(inner, str)]
        item = texts[0] if texts else ""
    return " ".join(item.split()) if isinstance(item, str) else ""


def _distinct(questions: list[str]) -> list[str]:
    """Drop repetitions, letter case and closing punctuation aside; the first one stays."""
    seen: dict[str, str] = {}
    for question in questions:
        seen.setdefault(question.casefold().rstrip(" ?.!"), question)
    return list(seen.values())
