"""One admitted request on the wire: writes what is due and remembers what the log will say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.clock import Now
from harness.histogram import Histogram, bucket
from harness.provider import wire
from harness.provider.http import Reply
from harness.provider.model import Due
from harness.provider.simulation import Completion, Piece
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

    def deliver(self, dues: Sequence[Due], last: bool) -> None:
        """Write all that is due, in one go; `last` when nothing comes after it."""
        texts = [due.at for due in dues if due.write is not None]
        if not texts:
            self._keep_alive()
            return
        pieces = [self.completion.next_piece() for _ in texts]
        data = self._streamed(pieces, last) if self._ask.stream else self._whole(pieces[0])
        written = self._now()
        if not last:
            self._reply.write(data)
        elif self._begun:
            self._reply.end(data)
        else:
            self._reply.send(200, wire.JSON_HEADERS | self._headers, data)
        self._note(texts, pieces, written)

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

    def _streamed(self, pieces: Sequence[Piece], last: bool) -> bytes:
        events, parts = self._events, []
        for piece in pieces:
            if piece.reasoning_tokens:
                parts.append(events.reasoning(piece.reasoning))
            else:
                parts.append(events.answer(piece.answer))
        if last:
            parts.append(events.finish(self.completion.finish_reason))
            if self._ask.include_usage:
                parts.append(events.usage(self.completion.tokens))
            parts.append(wire.DONE)
        return b"".join(parts)

    def _whole(self, piece: Piece) -> bytes:
        completion = self.completion
        return wire.whole(
            completion.name,
            self._created,
            self._ask.model,
            piece.reasoning,
            piece.answer,
            completion.finish_reason,
            completion.tokens,
        )

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
            self._output += piece.reasoning_tokens + piece.answer_tokens
            self._reasoning += piece.reasoning_tokens
            if piece.answer_tokens and self._first_answer is None:
                self._first_answer = written
        self._last_scheduled = scheduled[-1]
        self._chunks += len(pieces)
