"""Generates deterministic, meaningless prose about the subject of a prompt.

A token is one piece of text; the joined pieces are the answer.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Literal, NamedTuple, TypeAlias

import msgspec

Prose = Literal["reasoning", "answer"]
"""The kinds of text: each has sentences of its own."""

_Shape: TypeAlias = tuple[tuple[str, ...] | str, ...]
"""A sentence: for each word its variants; for the subject, the punctuation after it."""

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
_PARAGRAPHS = 256
_SENTENCES = 5
_MARK = "\0"
_TIMES = (
    "today", "over the last decade", "in the next decade", "in its early days",
    "in dense regions", "in remote regions", "at large scale", "at small scale",
)  # fmt: skip


def json_list(key: str, subject: str, count: int, chance: random.Random) -> str:
    """Return a JSON object: under `key`, `count` distinct questions about `subject`."""
    total = len(_QUESTIONS) * len(_WORDS["noun"]) * len(_TIMES)
    numbers = chance.sample(range(total), count)
    questions = [_question(number).replace(_MARK, subject) for number in numbers]
    return msgspec.json.encode({key: questions}).decode()


def prose_sentence(subject: str, chance: random.Random) -> str:
    """Return one sentence about `subject`."""
    _, phrase = _subject(subject)
    parts = chance.choice(_SHAPES["answer"])
    words = [phrase + part if isinstance(part, str) else chance.choice(part) for part in parts]
    return "".join(words).lstrip()


@cache  # to format 8 questions would take as long as to draw them
def _question(number: int) -> str:
    """Return a question; a mark is a placeholder for the subject."""
    nouns = _WORDS["noun"]
    rest, shape = divmod(number, len(_QUESTIONS))
    time, noun = divmod(rest, len(nouns))
    return _QUESTIONS[shape].format(noun=nouns[noun], subject=_MARK, time=_TIMES[time])


class TokenizedText(NamedTuple):
    """A text that is divided evenly into `number` tokens of at least one character."""

    text: str
    number: int

    def first(self, tokens: int) -> str:
        """Return the text of the first `tokens` tokens."""
        return self.text[: tokens * len(self.text) // self.number]

    def tokens(self) -> list[str]:
        """Return all tokens."""
        size, number = len(self.text), self.number
        ends = [place * size // number for place in range(number + 1)]
        return [self.text[start:end] for start, end in itertools.pairwise(ends)]


def cut(text: str, count: int | None) -> TokenizedText:
    """Divide `text` into `count` tokens; if None, into tokens of at most four characters."""
    if count is None:
        count = -(-len(text) // 4)
    return TokenizedText(text, max(1, min(count, len(text))))


class _Paragraph(NamedTuple):
    """Some sentences, as a text and as tokens. A mark is a placeholder for the subject.

    `ends`: the lengths of the text of the first 0, 1, 2 ... tokens. `marks`: the indices of the
    tokens that start with a mark. `sizes`: the numbers of tokens and of marks.
    """

    text: str
    tokens: tuple[str, ...]
    ends: tuple[int, ...]
    marks: tuple[int, ...]
    sizes: tuple[int, int]


def prose(kind: Prose, subject: str, choices: Iterable[int]) -> Iterator[str]:
    """Yield the tokens of a text about `subject`: a paragraph for each choice, 0 to 255."""
    words, _ = _subject(subject)
    between = ""
    for choice in choices:
        tokens = _expand(_paragraph(kind, choice), words)
        tokens[0] = between + tokens[0]
        yield from tokens
        between = "\n\n"


def prose_at_once(kind: Prose, subject: str, choices: Iterable[int], count: int) -> str:
    """Return the first `count` tokens of `prose` as one text."""
    words, phrase = _subject(subject)
    lengths, whole = _lengths(kind, len(words)), _texts(kind)
    texts, begin, end = [], "", ""
    for choice in choices:
        length = lengths[choice]
        if length >= count:
            begin, end = _begin(_paragraph(kind, choice), words, count)
            break
        texts.append(whole[choice])
        count -= length
    texts.append(begin)
    return "\n\n".join(texts).replace(_MARK, phrase) + end


def _begin(paragraph: _Paragraph, words: list[str], count: int) -> tuple[str, str]:
    """Return the text of the first `count` tokens, without making each of them.

    It is in two parts: one in which a mark is a placeholder, and the begun subject at its end.
    """
    more, end = len(words) - 1, ""
    for place in paragraph.marks:
        if count <= place:
            break
        if count - place <= more:  # the text ends within the subject
            count, end = place, "".join(words[: count - place])
            break
        count -= more
    return paragraph.text[: paragraph.ends[count]], end


@lru_cache(maxsize=1 << 14)
def _subject(subject: str) -> tuple[list[str], str]:
    """Return the tokens of the subject, and their joined text."""
    words = [" " + word for word in subject.split()]
    return words, "".join(words)


def _expand(paragraph: _Paragraph, words: list[str]) -> list[str]:
    if not paragraph.marks:
        return list(paragraph.tokens)
    tokens: list[str] = []
    for token in paragraph.tokens:
        if token[0] == _MARK:
            tokens += words[:-1]
            tokens.append(words[-1] + token[1:])
        else:
            tokens.append(token)
    return tokens


@lru_cache(maxsize=2 * _PARAGRAPHS)
def _paragraph(kind: Prose, number: int) -> _Paragraph:
    chance = random.Random(number)  # noqa: S311 - not for cryptography
    shapes, tokens = _SHAPES[kind], []
    for _ in range(_SENTENCES):
        for part in chance.choice(shapes):
            tokens.append(_MARK + part if isinstance(part, str) else chance.choice(part))
    tokens[0] = tokens[0].lstrip()
    marks = tuple(place for place, token in enumerate(tokens) if token[0] == _MARK)
    return _Paragraph(
        "".join(tokens),
        tuple(tokens),
        tuple(itertools.accumulate(map(len, tokens), initial=0)),
        marks,
        (len(tokens), len(marks)),
    )


@cache
def _texts(kind: Prose) -> tuple[str, ...]:
    """Return the texts of all paragraphs."""
    return tuple(_paragraph(kind, number).text for number in range(_PARAGRAPHS))


@lru_cache(maxsize=64)
def _lengths(kind: Prose, words: int) -> tuple[int, ...]:
    """Return the numbers of tokens of all paragraphs about a subject of `words` words."""
    sizes = (_paragraph(kind, number).sizes for number in range(_PARAGRAPHS))
    return tuple(tokens + marks * (words - 1) for tokens, marks in sizes)


def _shape(sentence: str) -> _Shape:
    return tuple(_part(word) for word in sentence.split())


def _part(word: str) -> tuple[str, ...] | str:
    core = word.rstrip(",:.")
    closing = word[len(core) :]
    if core == "{subject}":
        return closing
    return tuple(f" {one}{closing}" for one in _WORDS.get(core.strip("{}"), (core,)))


_SHAPES: dict[Prose, tuple[_Shape, ...]] = {
    "reasoning": tuple(map(_shape, _THOUGHTS)),
    "answer": tuple(map(_shape, _STATEMENTS)),
}
