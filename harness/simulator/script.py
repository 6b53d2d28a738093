"""The content of one completion: its length, its text, and its division into writes.

The text is made on demand, so that a caller that needs only the times does not make it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import NamedTuple

from harness.simulator import text
from harness.simulator.draws import Draws
from harness.simulator.plan import Strike
from harness.simulator.profiles import Length, Profile
from harness.simulator.request_parser import ChatRequest


class TextChunk(NamedTuple):
    """One chunk of text: `tokens` tokens of the reasoning or of the answer."""

    text: str
    tokens: int
    is_reasoning: bool


class Script:
    """The lengths, in tokens, and the text of one completion.

    `ends`: the number of tokens after each write, in ascending order. `first`: the tokens of the
    first chunk of a stream; they come at the end of the wait, the others one by one after it. A
    fault in the text shortens it; with a fault that leaves no text, there are no tokens.
    `finish_reason`: of a text with a proper end.
    """

    __slots__ = ("_ask", "_chunk", "_draws", "_told", "answer", "ends", "finish_reason", "first",
                 "reasoning")  # fmt: skip

    def __init__(
        self,
        profile: Profile,
        ask: ChatRequest,
        draws: Draws,
        seed: int,
        every_chunk: bool,
        fault: Strike | None,
    ) -> None:
        self._ask = ask
        self._draws = draws
        self._chunk = profile.tokens_per_chunk
        self._told: text.TokenizedText | None = None
        self.finish_reason = "stop"
        self.reasoning = self.answer = self.first = 0
        self.ends: Sequence[int] = ()
        if fault is not None and fault.kind.place == "silence":
            return
        if fault is not None and fault.kind.place == "instead":
            self.ends = (0,)
            return
        self._measure(profile, seed)
        if fault is not None:
            self._cut_short(fault)
        self.first = min(self._chunk, self.reasoning or self.answer)
        self.ends = self._cut(every_chunk)

    def _measure(self, profile: Profile, seed: int) -> None:
        """Draw the lengths and apply the limits."""
        ask, draws = self._ask, self._draws
        thinking, answering = profile.lengths(ask.phase, ask.items is not None)
        reasoning = _length("reasoning", thinking, draws, (seed, ask.subject)) if thinking else 0
        answer = _length("answer", answering, draws, (seed, ask.subject)) if answering else None
        if ask.items is not None:
            chance = draws.generator("answer text")
            told = text.json_list(ask.key, ask.subject, ask.items, chance)
            self._told = text.cut(told, answer)
            answer = self._told.number
        assert answer is not None
        limit = min(profile.max_output_tokens, ask.max_tokens or profile.max_output_tokens)
        self.finish_reason = "stop" if reasoning + answer <= limit else "length"
        self.reasoning = min(reasoning, limit)
        self.answer = min(answer, limit - self.reasoning)

    def _cut_short(self, fault: Strike) -> None:
        """Shorten the text to the point of the fault: at least one token, except `empty_answer`."""
        self.finish_reason = fault.kind.finish_reason or self.finish_reason
        if fault.kind.name == "empty_answer":
            self.answer = 0
            return
        thinks = fault.kind.name == "stall" and self.reasoning
        whole = self.reasoning if thinks else self.reasoning + self.answer
        told = min(max(1, round(fault.at * whole)), whole)
        self.answer = max(0, told - self.reasoning)
        self.reasoning = min(self.reasoning, told)

    @property
    def writes(self) -> list[int]:
        """The tokens between the first chunk and each write."""
        return [end - self.first for end in self.ends]

    def chunks(self, tokens: int | None = None) -> int:
        """Return the number of complete chunks in the first `tokens` of a stream, by default all.

        The last chunk of the reasoning and of the answer can be smaller.
        """
        total, size = self.reasoning + self.answer, self._chunk
        told = total if tokens is None else min(tokens, total)
        if told < self.reasoning:
            return told // size
        thoughts = -(-self.reasoning // size)
        rest = told - self.reasoning
        return thoughts + (rest // size if told < total else -(-rest // size))

    def thoughts(self) -> Iterator[str]:
        """Yield the tokens of the reasoning, and then endless further ones."""
        return text.thoughts(self._ask.subject, self._draws.choices("reasoning text"))

    def statements(self) -> Iterator[str]:
        """Yield the tokens of the answer, and possibly further ones."""
        if self._told is not None:
            return iter(self._told.tokens())
        return text.statements(self._ask.subject, self._draws.choices("answer text"))

    def reasoning_text(self) -> str:
        """Return the text of the reasoning."""
        if not self.reasoning:
            return ""
        choices = self._draws.choices("reasoning text")
        return text.thoughts_at_once(self._ask.subject, choices, self.reasoning)

    def answer_text(self) -> str:
        """Return the text of the answer."""
        if self._told is not None:
            return self._told.first(self.answer)
        choices = self._draws.choices("answer text")
        return text.statements_at_once(self._ask.subject, choices, self.answer)

    def pieces(self) -> Iterator[TextChunk]:
        """Yield the text of each write of a stream, in order."""
        thoughts, statements, told = self.thoughts(), self.statements(), 0
        for end in self.ends:
            tokens, is_reasoning = end - told, told < self.reasoning
            source = thoughts if is_reasoning else statements
            yield TextChunk("".join(islice(source, tokens)), tokens, is_reasoning)
            told = end

    def _cut(self, every_chunk: bool) -> Sequence[int]:
        reasoning, total, size = self.reasoning, self.reasoning + self.answer, self._chunk
        if not self._ask.stream:
            return [total]
        if not total:
            return [0]
        if not every_chunk:
            answered = min(reasoning + size, total) if self.answer else total
            return sorted({self.first, answered, total})
        thoughts = chain(range(size, reasoning, size), [reasoning] if reasoning else [])
        rest = chain(range(reasoning + size, total, size), [total] if self.answer else [])
        return [*thoughts, *rest]


def _length(purpose: str, length: Length, draws: Draws, topic: tuple[int, str]) -> int:
    median = _topic_median(*topic, purpose, length.median, length.topic_sigma)
    return max(1, round(draws.lognormal(purpose, median, length.sigma)))


@lru_cache(maxsize=1024)
def _topic_median(seed: int, subject: str, purpose: str, median: float, sigma: float) -> float:
    """Return the median length of all texts about a subject; cached."""
    return Draws(seed, "any", subject.encode()).lognormal(purpose, median, sigma)
