"""Parses a model's answer into sub-questions.

Models that are asked for JSON put it into code fences or prose, write a draft first, repeat items,
miscount, end lists with a comma, write a numbered list, or send only spaces. Errors have a text
that can be shown to the model, for one repair.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

_KEYS = ("sub_questions", "subquestions", "questions")
_ITEM_KEYS = ("question", "sub_question", "subquestion", "query", "text", "title", "content")
_OTHER_THINGS = re.compile(
    r"keyword|tag|source|reference|link|rationale|reason|explan|assumption|note|entit|"
    r"consider|draft|reject|discard",
    re.IGNORECASE,
)
"""Keys of lists that have no questions, or not the final ones."""
_NUMBERED_KEY = re.compile(r"(?:sub)?[ _-]?(?:question|q)[ _-]?\d+", re.IGNORECASE)
_OPENING = re.compile(r"[\[{]")
_TRAILING_COMMA = re.compile(r",(?=\s*[\]}])")
_NUMBERED = re.compile(r"[ \t]*(?:\*\*)?Q?(\d{1,3})[.):][ \t]+(\S.*)", re.IGNORECASE)
_BULLET = re.compile(r"[ \t]*[-*•][ \t]+(\S.*)")
_MOST_CHARACTERS = 1_000_000
"""Only so many characters at the end of the answer are parsed: the final JSON is there."""
_MOST_PASSES = 8
"""The characters that attempts to parse may consume in all, in lengths of the text."""
_PRICE_OF_A_VALUE = 100
"""A value that is read counts as so many characters, because thousands of `[]` cost time too."""
_MOST_FAILED = 200
"""The limit of failed attempts to parse from a bracket."""


class DecompositionError(Exception):
    """The answer contains no usable list of sub-questions; the text explains it to the model."""


class _Found(NamedTuple):
    """A list of distinct questions; `rank`: how much it looks like what was asked for."""

    rank: int
    questions: list[str]


def parse_sub_questions(answer: str, count: int) -> list[str]:
    """Return the first `count` distinct sub-questions in a model's answer.

    The last list of the kind that looks most like sub-questions counts. Raises DecompositionError
    if the answer is blank, or has no list of enough distinct questions.
    """
    answer = answer[-_MOST_CHARACTERS:]
    if not answer.strip():
        raise DecompositionError("the answer was blank")
    found = _best(_of_json(answer), count)
    if len(found) < count and (commas := _TRAILING_COMMA.sub("", answer)) != answer:
        found = max(_best(_of_json(commas), count), found, key=len)
    if len(found) < count:
        found = max(_best(_of_lines(answer), count), found, key=len)
    if not found:
        raise DecompositionError('the answer had no JSON object with a list "sub_questions"')
    if len(found) < count:
        raise DecompositionError(
            f"the answer had {len(found)} distinct sub-questions instead of {count}"
        )
    return found[:count]


def _best(lists: Iterable[_Found], count: int) -> list[str]:
    """Return the list that looks most like what was asked for; the later one of two."""
    best = _Found(-1, [])
    for one in lists:
        if _order(one, count) >= _order(best, count):
            best = one
    return best.questions


def _order(found: _Found, count: int) -> tuple[int, int]:
    return found.rank, min(len(found.questions), count)


def _of_json(text: str) -> Iterator[_Found]:
    """Yield the lists of questions in the JSON of a text, inner ones before outer ones."""
    for value in _json_values(text):
        yield from reversed(list(_lists(value)))


def _json_values(text: str) -> Iterator[Any]:
    """Yield the JSON objects and lists in the text, in a time proportional to its length."""
    decoder = json.JSONDecoder(strict=False)  # line breaks inside a string are common
    position = failed = consumed = 0
    while failed < _MOST_FAILED and consumed <= _MOST_PASSES * len(text):
        match = _OPENING.search(text, position)
        if match is None:
            return
        position = match.start() + 1
        try:
            value, position = decoder.raw_decode(text, match.start())
        except RecursionError:
            return  # no list of questions is that deep
        except json.JSONDecodeError as error:
            consumed += error.pos - match.start()
            # A string without an end is reported at its beginning, but is read to the end.
            consumed += len(text) - error.pos if "string" in error.msg else 0
            failed += 1
        except ValueError:  # a number too long for Python
            consumed += len(text) - match.start()
            failed += 1
        else:
            consumed += _PRICE_OF_A_VALUE
            yield value


def _lists(value: Any) -> Iterator[_Found]:
    """Yield the lists of questions in a decoded JSON value, outer ones first.

    Values within a list of questions are ignored.
    """
    waiting: deque[tuple[str, Any]] = deque([("", value)])
    while waiting:
        key, here = waiting.popleft()
        questions = _questions(key, here)
        if questions:
            if rank := _rank(key, questions):
                yield _Found(rank, questions)
        elif isinstance(here, list):
            waiting.extend((key, inner) for inner in here)
        elif isinstance(here, dict):
            waiting.extend(here.items())


def _questions(key: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return _distinct(map(_question, value))
    if not isinstance(value, dict):
        return []
    if key in _KEYS:  # {"sub_questions": {"1": "…", "2": "…"}}
        return _distinct(text for text in value.values() if isinstance(text, str))
    numbered = [
        text
        for name, text in value.items()  # {"question_1": "…", "question_2": "…"}
        if isinstance(text, str) and _NUMBERED_KEY.fullmatch(name)
    ]
    return _distinct(numbered) if len(numbered) > 1 else []


def _rank(key: str, questions: list[str]) -> int:
    """Return how much a list looks like the one that was asked for; 0 for something else."""
    if key in _KEYS:
        return 5
    asks = 2 * sum(text.endswith("?") for text in questions) >= len(questions)
    if _OTHER_THINGS.search(key):
        return 1 if asks else 0
    if "question" in key.lower():
        return 4
    return 3 if asks else 2


def _question(item: Any) -> str:
    """Return the text of a question: a string, or the most likely field of an object."""
    if not isinstance(item, dict):
        return item if isinstance(item, str) else ""
    texts = {key: text for key, text in item.items() if isinstance(text, str)}
    named = [texts[key] for key in _ITEM_KEYS if key in texts]
    asking = [text for text in texts.values() if text.rstrip().endswith("?")]
    others = [text for key, text in texts.items() if not _OTHER_THINGS.search(key)]
    return next(iter([*named, *asking, *sorted(others, key=len, reverse=True)]), "")


def _of_lines(text: str) -> Iterator[_Found]:
    """Yield the lists that are written as lines: numbered, or with bullets that ask something."""
    numbered: list[str] = []
    bullets: list[str] = []
    last = 0
    for line in text.splitlines():
        if match := _NUMBERED.fullmatch(line):
            number = int(match[1])
            if number <= last:
                yield from _of_items(numbered)
                numbered = []
            numbered.append(match[2])
            last = number
        elif match := _BULLET.fullmatch(line):
            bullets.append(match[1])
        elif line.strip():
            yield from _of_items(bullets, asks=True)
            bullets = []
    yield from _of_items(bullets, asks=True)
    yield from _of_items(numbered)


def _of_items(items: list[str], asks: bool = False) -> Iterator[_Found]:
    """Yield the list of some items; `asks`: only if most of them are questions."""
    questions = _distinct(item.replace("**", "").strip(' \t"') for item in items)
    rank = _rank("", questions) if questions else 0
    if questions and (rank == 3 or not asks):
        yield _Found(rank, questions)


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
