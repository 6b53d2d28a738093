"""One admitted request on the wire: writes what is due and remembers what the log will say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from harness.clock import Now
from harness.histogram import Histogram, bucket
from harness.provider import wire
from harness.provider.http import Reply
from harness.provider.script import Piece
from harness.provider.simulation import Completion
from harness.records import Served, Tokens

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\Z")


class Caller(NamedTuple):
    """Who sent a request, and when it had arrived whole."""

    trace_id: str | None
    span_id: str | None
    cell: str | None
    repeat: int
    arrived: int


def trace_context(headers: Mapping[bytes, bytes]) -> tuple[str | None, str | None]:
    """Return trace and span id of a `traceparent` header (W3C Trace Context), None without."""
    match = _TRACEPARENT.match(headers.get(b"traceparent", b""))
    return (match[1].decode(), match[2].decode()) if match else (None, None)


class Exchange:
    """One request in flight. Times are nanoseconds since the provider's anchor."""

    def __init__(
        self, reply: Reply, completion: Completion, caller: Caller, now: Now, created: int
    ) -> None:
        self.completion = completion
        self._ask = completion.ask
        self._reply = reply
        self._caller = caller
        self._now = now
        self._created = created
        self._headers = {"x-request-id": wire.request_id(completion.name)}
        self._pieces = completion.script.pieces()
        self._begun = False
        self._first_scheduled: int | None = None
        self._first_written: int | None = None
        self._first_answer: int | None = None
        self._last_scheduled: int | None = None
        self._last_written: int | None = None
        self._chunks = 0
        self._output = 0
        self._reasoning = 0
        self._gaps: Histogram = {}
        self._lateness: Histogram = {}
        reasons = bool(completion.tokens.reasoning)
        self._events = wire.Chunks(completion.name, created, self._ask.model, reasons)
        if self._ask.stream:
            self._begun = True
            reply.begin(200, wire.STREAM_HEADERS | self._headers, self._events.role())

    def deliver(self, scheduled: Sequence[int], last: bool) -> None:
        """Write the text that was due at the moments `scheduled`, in one go; the end if `last`.

        No moment at all stands for a keep-alive.
        """
        if not scheduled:
            self._keep_alive()
        elif self._ask.stream:
            pieces = list(islice(self._pieces, len(scheduled)))
            data = b"".join(map(self._events.text, pieces))
            if last:
                data += self._closing()
            written = self._now()
            if last:
                self._reply.end(data)
            else:
                self._reply.write(data)
            self._note(scheduled, pieces, written)
        else:
            self._whole(scheduled)

    def abort(self) -> None:
        """Drop the client's connection."""
        self._reply.abort()

    def served(self, outcome: str) -> Served:
        """Return the line for the log, now that the request has ended."""
        caller, completion = self._caller, self.completion
        return Served(
            trace_id=caller.trace_id,
            span_id=caller.span_id,
            cell=caller.cell,
            repeat=caller.repeat,
            arrival=completion.arrival,
            streamed=self._ask.stream,
            arrived=caller.arrived,
            first_scheduled=self._first_scheduled,
            first_written=self._first_written,
            first_answer_written=self._first_answer,
            last_scheduled=self._last_scheduled,
            last_written=self._last_written,
            done=self._now(),
            outcome=outcome,
            status=200,
            active=completion.active,
            tokens=Tokens(
                input=completion.tokens.input,
                cached=completion.tokens.cached,
                output=self._output,
                reasoning=self._reasoning,
            ),
            chunks=self._chunks,
            gaps=self._gaps,
            lateness=self._lateness,
        )

    def _keep_alive(self) -> None:
        if self._ask.stream:
            self._reply.write(wire.KEEP_ALIVE)
        elif self._begun:
            self._reply.write(wire.BLANK_LINE)
        else:
            self._begun = True
            self._reply.begin(200, wire.JSON_HEADERS | self._headers, wire.BLANK_LINE)

    def _closing(self) -> bytes:
        events, completion = self._events, self.completion
        usage = events.usage(completion.tokens) if self._ask.include_usage else b""
        return events.finish(completion.finish_reason) + usage + wire.DONE

    def _whole(self, scheduled: Sequence[int]) -> None:
        completion = self.completion
        tokens = completion.tokens
        script = completion.script
        data = wire.whole(
            completion.name, self._created, self._ask.model, script.reasoning_text(),
            script.answer_text(), completion.finish_reason, tokens,
        )  # fmt: skip
        written = self._now()
        if self._begun:
            self._reply.end(data)
        else:
            self._reply.send(200, wire.JSON_HEADERS | self._headers, data)
        thought = tokens.reasoning or 0
        self._note(scheduled, [Piece("", (tokens.output or 0) - thought, False)], written)
        self._reasoning += thought
        self._output += thought

    def _note(self, scheduled: Sequence[int], pieces: Sequence[Piece], written: int) -> None:
        if self._first_written is None:
            self._first_scheduled, self._first_written = scheduled[0], written
        for at, piece in zip(scheduled, pieces, strict=True):
            late = bucket(written - at)
            self._lateness[late] = self._lateness.get(late, 0) + 1
            if self._last_written is not None:
                gap = bucket(written - self._last_written)
                self._gaps[gap] = self._gaps.get(gap, 0) + 1
            self._last_written = written
            self._output += piece.tokens
            if piece.is_reasoning:
                self._reasoning += piece.tokens
            elif self._first_answer is None and piece.tokens:
                self._first_answer = written
        self._last_scheduled = scheduled[-1]
        self._chunks += len(pieces)
