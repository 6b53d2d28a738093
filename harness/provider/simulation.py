"""The whole simulated provider but for its clock and its wire: requests in, due text out.

Whoever drives it gives the time, in integer nanoseconds, real or virtual.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Literal, NamedTuple

from harness.clock import SECOND
from harness.provider import text
from harness.provider.ask import Ask
from harness.provider.draws import Draws
from harness.provider.model import Job, Model, Speed
from harness.provider.profiles import Length, Profile
from harness.records import Tokens


class Refused(NamedTuple):
    """A request over the cap: 429. `retry_after` in real nanoseconds, None when not told."""

    arrival: int
    active: int
    name: str
    retry_after: int | None


class Piece(NamedTuple):
    """One chunk of text: `tokens` of reasoning or of the answer."""

    text: str
    tokens: int
    is_reasoning: bool


class Completion:
    """A request that was let in, with the text that it will get.

    `name`: 16 hexadecimal digits, the same whenever the same request comes again in the same
    trial order. `active`: how many requests were being served when it came.
    """

    def __init__(
        self, ask: Ask, job: Job, script: _Script, arrival: int, active: int, name: str
    ) -> None:
        self.ask = ask
        self.job = job
        self.arrival = arrival
        self.active = active
        self.name = name
        self.finish_reason = script.finish_reason
        self.tokens = Tokens(
            input=ask.input_tokens,
            cached=0,
            output=script.reasoning + script.answer,
            reasoning=script.reasoning,
        )
        self._thoughts = script.thoughts
        self._statements = script.statements
        self._reasoning = script.reasoning
        self._ends = script.ends
        self._told = 0

    def next_piece(self) -> Piece:
        """Return the text of the next chunk of a stream."""
        end = next(self._ends)
        tokens = end - self._told
        self._told = end
        is_reasoning = end <= self._reasoning
        source = self._thoughts if is_reasoning else self._statements
        text = next(source) if tokens == 1 else "".join(islice(source, tokens))
        return Piece(text, tokens, is_reasoning)

    def whole(self) -> tuple[str, str]:
        """Return all of the reasoning and all of the answer."""
        output, reasoning = self.tokens.output or 0, self._reasoning
        return (
            "".join(islice(self._thoughts, reasoning)),
            "".join(islice(self._statements, output - reasoning)),
        )


class _Script(NamedTuple):
    """Lengths and text of one completion, and after how many tokens each write ends."""

    reasoning: int
    answer: int
    finish_reason: Literal["stop", "length"]
    thoughts: Iterator[str]
    statements: Iterator[str]
    writes: list[int]
    ends: Iterator[int]


class Simulation:
    """One trial at one provider. A fresh trial is a fresh Simulation."""

    def __init__(self, profile: Profile, seed: int, time_scale: float, cell: str | None) -> None:
        nanoseconds = SECOND * time_scale
        self._profile = profile
        self._seed = seed
        self._nanoseconds = nanoseconds
        self._cell = cell
        self._arrivals: dict[tuple[int, bytes], int] = {}
        self._patience = _scaled(profile.keep_alive_every, nanoseconds)
        self._retry_after = _scaled(profile.retry_after, nanoseconds)
        self._model = Model(
            Speed(
                profile.itl_a * nanoseconds,
                profile.itl_b * nanoseconds,
                profile.itl_c * nanoseconds,
                profile.background,
            ),
            profile.concurrency_cap,
        )

    @property
    def active(self) -> int:
        """How many requests are being served."""
        return self._model.active

    def count(self, repeat: int, prompt: bytes) -> int:
        """Count one more arrival of this prompt in this trial and return which one it is."""
        key = (repeat, prompt)
        self._arrivals[key] = arrival = self._arrivals.get(key, 0) + 1
        return arrival

    def arrive(self, now: int, ask: Ask, repeat: int) -> Completion | Refused:
        """Let a request in, or refuse it with 429."""
        arrival = self.count(repeat, ask.prompt)
        draws = Draws(self._seed, repeat, ask.prompt)
        name = draws.name(self._cell, arrival)
        self._model.settle(now)
        active = self._model.active
        script = _script(self._profile, ask, draws)
        job = self._model.arrive(now, self._wait(ask, draws), script.writes, self._patience)
        if job is None:
            return Refused(arrival, active, name, self._retry_after)
        return Completion(ask, job, script, arrival, active, name)

    def cancel(self, now: int, completion: Completion) -> None:
        """Free the place of a request whose client has gone."""
        self._model.cancel(now, completion.job)

    def next_due(self) -> int | None:
        """Return when to call `pop_due` next, None when nothing is under way."""
        return self._model.next_due()

    def pop_due(self, now: int) -> dict[Job, list[int]]:
        """Return for each request the moments until `now` at which text was due.

        An empty list stands for a keep-alive.
        """
        return self._model.pop_due(now)

    def _wait(self, ask: Ask, draws: Draws) -> int:
        ttft = self._profile.ttft
        seconds = draws.lognormal("ttft", ttft.median, ttft.sigma)
        seconds += ttft.per_1k_input_tokens * ask.input_tokens / 1000
        return round(seconds * self._nanoseconds)


def _scaled(seconds: float | None, nanoseconds: float) -> int | None:
    return None if seconds is None else max(1, round(seconds * nanoseconds))


def _script(profile: Profile, ask: Ask, draws: Draws) -> _Script:
    """Decide what is said, how long it is, and how it is cut into writes."""
    thinking, answering = profile.lengths(ask.kind)
    reasoning = _length("reasoning", thinking, draws) if thinking else 0
    answer = _length("answer", answering, draws) if answering else None
    if ask.kind == "decompose":
        told = text.decomposition(ask.subject, ask.sub_questions, draws.generator("answer text"))
        cut = text.pieces(told, answer)
        answer, statements = len(cut), iter(cut)
    else:
        assert answer is not None
        statements = text.statements(ask.subject, draws.generator("answer text"))
    limit = min(profile.max_output_tokens, ask.max_tokens or profile.max_output_tokens)
    finish: Literal["stop", "length"] = "stop" if reasoning + answer <= limit else "length"
    reasoning = min(reasoning, limit)
    answer = min(answer, limit - reasoning)
    ends, first = _cut(reasoning, answer, profile.tokens_per_chunk)
    if not ask.stream:
        ends = [reasoning + answer]
    return _Script(
        reasoning=reasoning,
        answer=answer,
        finish_reason=finish,
        thoughts=text.thoughts(ask.subject, draws.generator("reasoning text")),
        statements=statements,
        writes=[end - first for end in ends],
        ends=iter(ends),
    )


def _length(purpose: str, length: Length, draws: Draws) -> int:
    return max(1, round(draws.lognormal(purpose, length.median, length.sigma)))


def _cut(reasoning: int, answer: int, chunk: int) -> tuple[list[int], int]:
    """Return after how many tokens each chunk ends, and how many the first one has."""
    total = reasoning + answer
    thoughts = chain(range(chunk, reasoning, chunk), [reasoning] if reasoning else [])
    rest = chain(range(reasoning + chunk, total, chunk), [total] if answer else [])
    ends = [*thoughts, *rest]
    return ends, ends[0]
