"""Writes the response of one admitted request and collects its values for the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from harness.config.faults import FaultKind
from harness.network.http_server import HttpResponse
from harness.records.clock import ReadClock
from harness.records.histogram import Histogram, bucket
from harness.records.provider_log import Served
from harness.simulator import wire
from harness.simulator.apis import make_rendering
from harness.simulator.fault_responses import instead, retry_headers, stream_end
from harness.simulator.rendering import Rendering, WholeAnswer
from harness.simulator.script import TextChunk
from harness.simulator.simulation import ServedCompletion


class Caller(NamedTuple):
    """The sender of a request, and when the complete request had arrived."""

    trace_id: str | None
    span_id: str | None
    cell: str | None
    repeat: int
    arrived: int


@dataclass
class Writes:
    """What the log says about the writes of a response. The fields are those of `Served`."""

    first_scheduled: int | None = None
    first_written: int | None = None
    first_answer_written: int | None = None
    last_scheduled: int | None = None
    last_written: int | None = None
    chunks: int = 0
    gaps: Histogram = field(default_factory=dict)
    lateness: Histogram = field(default_factory=dict)


def rendering_of(completion: ServedCompletion, created: int) -> Rendering:
    """Return what renders the answer of a completion; `created`: in seconds since 1970."""
    tool, reasons = completion.script.tool, bool(completion.tokens.reasoning)
    return make_rendering(completion.request, completion.name, created, tool, reasons=reasons)


class ResponseWriter:
    """Writes the response of one request. Times are nanoseconds since the provider's anchor."""

    def __init__(
        self,
        reply: HttpResponse,
        completion: ServedCompletion,
        caller: Caller,
        now: ReadClock,
        created: int,
        time_scale: float,
    ) -> None:
        self.completion = completion
        self._request = completion.request
        self._reply = reply
        self._caller = caller
        self._now = now
        self._time_scale = time_scale
        self._fault = None if completion.fault is None else completion.fault.kind
        self._headers = {"x-request-id": wire.request_id(completion.name)}
        self._pieces = completion.script.pieces()
        self._begun = False
        self._writes = Writes()
        self._output = 0
        self._reasoning = 0
        self._events = rendering_of(completion, created)
        mute = self._fault is not None and (
            self._fault.place == "instead" or self._fault.name == "silent"
        )
        self._status = None if mute else 200
        if self._request.stream and not mute:
            self._begun = True
            reply.begin(200, wire.STREAM_HEADERS | self._headers, self._events.begin())

    def deliver(self, scheduled: Sequence[int], last: bool) -> None:
        """Write the text that was due at the times `scheduled` at once; end the response if `last`.

        An empty `scheduled` means a keep-alive.
        """
        fault = self._fault
        if not scheduled:
            self._keep_alive()
        elif fault is not None and fault.place == "instead":
            self._replace(fault)
        elif self._request.stream:
            self._stream(scheduled, last)
        elif fault is not None and fault.name == "reset_in_body":
            self._partial()
        else:
            self._complete(scheduled)

    def abort(self) -> None:
        """Close the client's connection at once."""
        self._reply.abort()

    def served(self, outcome: str, by: FaultKind | None = None) -> Served:
        """Return the log line of the request, which has ended.

        `by`: the fault that ended it, if it is not its own.
        """
        fault = by or self._fault
        completion = self.completion
        return Served(
            **self._caller._asdict(),
            **vars(self._writes),
            arrival=completion.arrival,
            streamed=self._request.stream,
            done=self._now(),
            outcome=outcome,
            status=self._status,
            active=completion.active,
            tokens=replace(completion.tokens, output=self._output, reasoning=self._reasoning),
            fault=None if fault is None else fault.name,
        )

    def _stream(self, scheduled: Sequence[int], last: bool) -> None:
        pieces = list(islice(self._pieces, len(scheduled)))
        data = b"".join(self._events.text(piece) for piece in pieces if piece.tokens)
        if last:
            data += self._closing()
        written = self._now()
        if not last:
            self._reply.write(data)
        elif self._fault is not None and self._fault.name == "reset_in_body":
            self._reply.write(data)
            self._reply.reset()
        else:
            self._reply.end(data)
        self._note(scheduled, pieces, written)

    def _replace(self, fault: FaultKind) -> None:
        assert self.completion.fault is not None
        self._status = self.completion.fault.status
        headers = retry_headers(self.completion.fault.retry_after, self._time_scale)
        instead(self._reply, fault, headers | self._headers, self._request.stream)

    def _partial(self) -> None:
        if not self._begun:
            self._reply.begin(200, wire.JSON_HEADERS | self._headers)
        self._reply.write(b'{"id":"' + wire.completion_id(self.completion.name).encode())
        self._reply.reset()

    def _keep_alive(self) -> None:
        if self._request.stream:
            self._reply.write(wire.KEEP_ALIVE)
        elif self._begun:
            self._reply.write(wire.BLANK_LINE)
        else:
            self._begun = True
            self._reply.begin(200, wire.JSON_HEADERS | self._headers, wire.BLANK_LINE)

    def _closing(self) -> bytes:
        if self._fault is not None and self._fault.finish_reason is None:
            return stream_end(self._fault)
        completion = self.completion
        return self._events.end(completion.script.finish_reason, completion.tokens)

    def _complete(self, scheduled: Sequence[int]) -> None:
        completion = self.completion
        tokens = completion.tokens
        script = completion.script
        data = self._events.whole(
            WholeAnswer(
                script.text_at_once("reasoning"),
                script.text_at_once("answer"),
                script.finish_reason,
                tokens,
            )
        )
        written = self._now()
        if self._begun:
            self._reply.end(data)
        else:
            self._reply.send(200, wire.JSON_HEADERS | self._headers, data)
        reasoning = tokens.reasoning or 0
        self._note(scheduled, [TextChunk("", (tokens.output or 0) - reasoning, False)], written)
        self._reasoning += reasoning
        self._output += reasoning

    def _note(self, scheduled: Sequence[int], pieces: Sequence[TextChunk], written: int) -> None:
        writes = self._writes
        if writes.first_written is None and pieces[0].tokens:
            writes.first_scheduled, writes.first_written = scheduled[0], written
        for at, piece in zip(scheduled, pieces, strict=True):
            if not piece.tokens:
                continue  # an empty text: only its end was due
            late = bucket(written - at)
            writes.lateness[late] = writes.lateness.get(late, 0) + 1
            if writes.last_written is not None:
                gap = bucket(written - writes.last_written)
                writes.gaps[gap] = writes.gaps.get(gap, 0) + 1
            writes.last_written = written
            self._output += piece.tokens
            if piece.is_reasoning:
                self._reasoning += piece.tokens
            elif writes.first_answer_written is None:
                writes.first_answer_written = written
            writes.last_scheduled = at
            writes.chunks += 1
