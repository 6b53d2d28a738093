"""Text that reads like an answer and says nothing: deterministic prose about the prompt's words.

A token is one piece of text; joined, the pieces are the answer.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

_Shape: TypeAlias = tuple[tuple[str, ...] | str, ...]
"""A sentence: for each word what it may be, or what follows the subject where that stands."""

_THOUGHTS = (
    "So the question is really about how {noun} and {noun} meet in {subject}.",
    "Let me first set out what is known about the {adjective} {noun}.",
    "Wait, the {noun} may depend on the {adjective} {noun} instead.",
    "If that holds, then {subject} should show a {adjective} {noun}.",
    "I should weigh the {noun} against the {noun} before going on.",
    "Another way to see it: the {noun} of {subject} limits the {noun}.",
    "Hmm, that leaves the {adjective} case, where the {noun} is small.",
    "On balance the {adjective} {noun} seems to be the better guide.",
)
_STATEMENTS = (
    "The {adjective} {noun} of {subject} follows from its {noun}.",
    "Most accounts agree that the {noun} matters more than the {noun}.",
    "In practice, {subject} is shaped by {adjective} {noun} and by {noun}.",
    "Where the {noun} is {adjective}, the {noun} grows with it.",
    "Two things set the pace: a {adjective} {noun}, and the {noun} behind it.",
    "By contrast, the {noun} stays {adjective} over long periods.",
    "This makes {subject} a {adjective} example of the {noun} at work.",
    "What remains open is how far the {adjective} {noun} carries over.",
)
_WORDS = {
    "noun": (
        "balance", "cause", "change", "cost", "cycle", "demand", "design", "effect", "energy",
        "flow", "growth", "history", "limit", "market", "method", "model", "origin", "pattern",
        "policy", "process", "range", "record", "risk", "scale", "source", "supply", "timing",
        "trend", "use", "value",
    ),
    "adjective": (
        "broad", "careful", "central", "clear", "common", "direct", "faint", "gradual", "large",
        "local", "modern", "narrow", "recent", "regional", "robust", "shared", "simple", "slow",
        "steady", "stronger", "technical", "typical", "varied", "wide",
    ),
}  # fmt: skip
_QUESTIONS = (
    "What role does {noun} play in {subject} {time}, and which evidence supports that view best?",
    "How has the {noun} of {subject} developed {time}, and which causes explain that change best?",
    "Which limits does {noun} set to {subject} {time}, and how can these limits be put to test?",
    "Who depends on the {noun} of {subject} {time}, and what would change for these without it?",
    "Where do experts disagree about the {noun} of {subject} {time}, and what are their reasons?",
    "How is the {noun} of {subject} measured {time}, and how far can any such results be trusted?",
)
_TIMES = (
    "today", "over the last decade", "in the next decade", "in its early days",
    "in dense regions", "in remote regions", "at large scale", "at small scale",
)  # fmt: skip


def thoughts(subject: str, chance: random.Random) -> Iterator[str]:
    """Yield without end the tokens of someone thinking about `subject`."""
    return _prose(_THOUGHT_SHAPES, subject, chance)


def statements(subject: str, chance: random.Random) -> Iterator[str]:
    """Yield without end the tokens of an answer about `subject`."""
    return _prose(_STATEMENT_SHAPES, subject, chance)


def decomposition(subject: str, count: int, chance: random.Random) -> str:
    """Return `{"sub_questions": [...]}` with `count` distinct questions about `subject`."""
    nouns, shapes = _WORDS["noun"], len(_QUESTIONS)
    total = shapes * len(nouns) * len(_TIMES)
    questions = []
    for number in chance.sample(range(total), count):
        rest, shape = divmod(number, shapes)
        time, noun = divmod(rest, len(nouns))
        questions.append(
            _QUESTIONS[shape].format(noun=nouns[noun], subject=subject, time=_TIMES[time])
        )
    return msgspec.json.encode({"sub_questions": questions}).decode()


def pieces(text: str, count: int | None) -> list[str]:
    """Cut `text` evenly into `count` tokens, or into tokens of four characters at most."""
    if count is None:
        count = -(-len(text) // 4)
    count = max(1, min(count, len(text)))
    cuts = [position * len(text) // count for position in range(count + 1)]
    return [text[start:end] for start, end in itertools.pairwise(cuts)]


def _prose(shapes: Sequence[_Shape], subject: str, chance: random.Random) -> Iterator[str]:
    pick, words = chance.random, [" " + word for word in subject.split()]
    for number in itertools.count():
        tokens: list[str] = []
        for part in shapes[int(pick() * len(shapes))]:
            if isinstance(part, str):
                tokens += words[:-1]
                tokens.append(words[-1] + part)
            else:
                tokens.append(part[int(pick() * len(part))])
        if number % 5 == 0:
            tokens[0] = ("\n\n" if number else "") + tokens[0].lstrip()
        yield from tokens


def _shape(sentence: str) -> _Shape:
    return tuple(_part(word) for word in sentence.split())


def _part(word: str) -> tuple[str, ...] | str:
    core = word.rstrip(",:.")
    closing = word[len(core) :]
    if core == "{subject}":
        return closing
    return tuple(f" {one}{closing}" for one in _WORDS.get(core.strip("{}"), (core,)))


_THOUGHT_SHAPES = tuple(map(_shape, _THOUGHTS))
_STATEMENT_SHAPES = tuple(map(_shape, _STATEMENTS))
