"""The content of one completion: its length, its text, and its division into writes.

The text is made on demand, so that a caller that needs only the times does not make it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import NamedTuple

from harness.records.schema import Tokens
from harness.simulator import json_answers, text
from harness.simulator.draws import Draws
from harness.simulator.plan import Strike
from harness.simulator.profiles import Length, Profile
from harness.simulator.request_parser import ChatRequest
from harness.simulator.tool_choice import chosen_tool


class TextChunk(NamedTuple):
    """One chunk of text: `tokens` tokens of the reasoning or of the answer."""

    text: str
    tokens: int
    is_reasoning: bool


class CalledTool(NamedTuple):
    """The tool that an answer calls, and the id of the call."""

    id: str
    name: str


class ChunkLayout(NamedTuple):
    """The division of a text into chunks of `size` tokens: first `reasoning`, then `answer` tokens.

    The last chunk of either part can be smaller.
    """

    reasoning: int
    answer: int
    size: int

    @property
    def thoughts(self) -> int:
        """The number of chunks of the reasoning."""
        return -(-self.reasoning // self.size)

    def end(self, chunk: int) -> int:
        """Return the number of tokens in the first `chunk` chunks."""
        reasoning, answer, size = self
        thoughts = -(-reasoning // size)
        if chunk <= thoughts:
            return min(chunk * size, reasoning)
        return reasoning + min((chunk - thoughts) * size, answer)

    def chunks(self, tokens: int | None = None) -> int:
        """Return the number of complete chunks in the first `tokens`, by default in all."""
        reasoning, answer, size = self
        if tokens is None or tokens >= reasoning + answer:
            return -(-reasoning // size) - (-answer // size)
        if tokens < reasoning:
            return tokens // size
        return self.thoughts + (tokens - reasoning) // size

    def sizes(self, chunks: int) -> dict[int, int]:
        """Return the sizes of chunks 2 to `chunks`, with the number of chunks of each size."""
        counts: dict[int, int] = {}
        for first, last in ((2, self.thoughts), (max(self.thoughts + 1, 2), chunks)):
            last = min(last, chunks)
            if last < first:
                continue
            small = self.end(last) - self.end(last - 1)
            counts[small] = counts.get(small, 0) + 1
            if last > first:
                counts[self.size] = counts.get(self.size, 0) + last - first
        return counts


class Script:
    """The lengths, in tokens, and the text of one completion.

    `ends`: the number of tokens after each write, in ascending order. `first`: the tokens of the
    first chunk of a stream; they come at the end of the wait, the others one by one after it.
    `writes`: the `ends` without the tokens of the first chunk. `first_answer`: the first write with
    text of the answer, from 0. `chunks`: of a stream. A fault in the text shortens it; with a fault
    that leaves no text, there are no tokens. `finish_reason`: of a text with a proper end. `tool`:
    the tool that the answer calls; the text of the answer is then its arguments.
    """

    __slots__ = (
        "_chunk", "_draws", "_json", "_layout", "_request", "_texts", "answer", "chunks", "ends",
        "finish_reason", "first", "first_answer", "reasoning", "tokens", "tool", "writes",
    )  # fmt: skip

    def __init__(
        self,
        profile: Profile,
        request: ChatRequest,
        draws: Draws,
        seed: int,
        every_chunk: bool,
        fault: Strike | None,
    ) -> None:
        self._request = request
        self._draws = draws
        self._chunk = profile.tokens_per_chunk
        self._json: text.TokenizedText | None = None
        self.tool: CalledTool | None = None
        self._texts: dict[text.Prose, str] = {}
        self.finish_reason = "stop"
        self.reasoning = self.answer = self.first = 0
        self.ends: Sequence[int] = ()
        if fault is not None and fault.kind.place == "instead":
            self.ends = (0,)
        elif fault is None or fault.kind.place != "silence":
            self._measure(profile, seed)
            if fault is not None:
                self._cut_short(fault)
            if not self.answer:
                self.tool = None  # the response ends before the call begins
            self.first = min(self._chunk, self.reasoning or self.answer)
            self.ends = self._cut(every_chunk)
        self._layout = ChunkLayout(self.reasoning, self.answer, self._chunk)
        self.chunks = self._layout.chunks()
        self.first_answer = bisect_right(self.ends, self.reasoning)
        self.writes = [end - self.first for end in self.ends]
        output = self.reasoning + self.answer
        if not request.is_for_text:
            self.tokens = Tokens(input=request.input_tokens, output=0)
        else:
            cached = round(profile.cached(request.phase) * request.input_tokens)
            self.tokens = Tokens(
                input=request.input_tokens, cached=cached, output=output, reasoning=self.reasoning
            )

    def _measure(self, profile: Profile, seed: int) -> None:
        """Draw the lengths and apply the limits."""
        request, draws = self._request, self._draws
        if not request.is_for_text:
            return  # vectors are no text
        in_json, is_list = self._in_json(profile)
        thinking, answering = profile.lengths(request.phase, is_list)
        if request.lengths is not None:
            reasoning, answer = request.lengths
            if in_json is not None:
                self._json = text.cut(in_json, answer)
                answer = self._json.number
        else:
            reasoning = (
                _length("reasoning", thinking, draws, (seed, request.subject)) if thinking else 0
            )
            if in_json is not None:
                length = answering if is_list else None
                tokens = None if length is None else self._drawn(length, seed)
                self._json = text.cut(in_json, tokens)
                answer = self._json.number
            else:
                assert answering is not None, "only a list needs no length"
                answer = self._drawn(answering, seed)
        limit = min(profile.max_output_tokens, request.max_tokens or profile.max_output_tokens)
        finish = "stop" if self.tool is None else "tool_calls"
        self.finish_reason = finish if reasoning + answer <= limit else "length"
        self.reasoning = min(reasoning, limit)
        self.answer = min(answer, limit - self.reasoning)

    def _drawn(self, length: Length, seed: int) -> int:
        return _length("answer", length, self._draws, (seed, self._request.subject))

    def _in_json(self, profile: Profile) -> tuple[str | None, bool]:
        """Return the answer if it is JSON, and whether it is a list, which has a length of its own.

        If the answer calls a tool, the JSON is its arguments.
        """
        request, draws = self._request, self._draws
        form, key = request.form, request.key
        if form is not None:
            tool = chosen_tool(form, profile.tool_call_share, profile.tool_rounds, draws)
            if tool is not None:
                self.tool = CalledTool(f"call_{draws.name(None, 0)}", tool.name)
                chance = draws.generator(f"arguments of {tool.name}")
                return json_answers.arguments(tool.parameters, request.subject, chance), False
        if request.items is None:
            return None, False
        chance = draws.generator("answer text")
        if form is not None and form.schema:
            named = json_answers.list_key(form.schema)
            if named is None:
                subject, items = request.subject, request.items
                return json_answers.conforming(form.schema, subject, items, chance), False
            key = named
        return text.json_list(key, request.subject, request.items, chance), True

    def _cut_short(self, fault: Strike) -> None:
        """Shorten the text to the point of the fault: at least one token, except `empty_answer`."""
        self.finish_reason = fault.kind.finish_reason or self.finish_reason
        if fault.kind.name == "empty_answer":
            self.answer = 0
            return
        thinks = fault.kind.name == "stall" and self.reasoning
        total = self.reasoning if thinks else self.reasoning + self.answer
        kept = min(max(1, round(fault.at * total)), total)
        self.answer = max(0, kept - self.reasoning)
        self.reasoning = min(self.reasoning, kept)

    def layout(self) -> ChunkLayout:
        """Return the division of a stream into chunks."""
        return self._layout

    def text_tokens(self, kind: text.Prose) -> Iterator[str]:
        """Yield the tokens of the reasoning or of the answer, and possibly further ones."""
        if kind == "answer" and self._json is not None:
            return iter(self._json.tokens())
        return text.prose(kind, self._request.subject, self._draws.choices(f"{kind} text"))

    def text_at_once(self, kind: text.Prose) -> str:
        """Return the text of the reasoning or of the answer."""
        if kind not in self._texts:
            self._texts[kind] = self._whole_text(kind)
        return self._texts[kind]

    def _whole_text(self, kind: text.Prose) -> str:
        count = self.answer if kind == "answer" else self.reasoning
        if kind == "answer" and self._json is not None:
            return self._json.first(count)
        choices = self._draws.choices(f"{kind} text")
        return text.prose_at_once(kind, self._request.subject, choices, count) if count else ""

    def pieces(self) -> Iterator[TextChunk]:
        """Yield the text of each write of a stream, in order."""
        reasoning, answer = self.text_tokens("reasoning"), self.text_tokens("answer")
        start = 0
        for end in self.ends:
            tokens, is_reasoning = end - start, start < self.reasoning
            source = reasoning if is_reasoning else answer
            yield TextChunk("".join(islice(source, tokens)), tokens, is_reasoning)
            start = end

    def _cut(self, every_chunk: bool) -> Sequence[int]:
        reasoning, total, size = self.reasoning, self.reasoning + self.answer, self._chunk
        if not self._request.stream:
            return [total]
        if not total:
            return [0]
        if not every_chunk:
            if not reasoning:
                return [self.first, total] if self.first < total else [total]
            answered = min(reasoning + size, total) if self.answer else total
            return sorted({self.first, answered, total})
        thoughts = chain(range(size, reasoning, size), [reasoning] if reasoning else [])
        rest = chain(range(reasoning + size, total, size), [total] if self.answer else [])
        return [*thoughts, *rest]


def _length(purpose: str, length: Length, draws: Draws, topic: tuple[int, str]) -> int:
    median = length.median
    if length.topic_sigma:
        median = _topic_median(*topic, purpose, median, length.topic_sigma)
    return max(1, round(draws.lognormal(purpose, median, length.sigma)))


@lru_cache(maxsize=1 << 14)
def _topic_median(seed: int, subject: str, purpose: str, median: float, sigma: float) -> float:
    return Draws(seed, "any", subject.encode()).lognormal(purpose, median, sigma)
