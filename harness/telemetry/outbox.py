"""The queue of spans for a collector, with an exact account of their delivery.

Sending has a time limit between two trials and at the end of a run. Spans that are not acknowledged
by then are undelivered and can be sent later. While a trial runs, at most one answer is pending.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from harness.telemetry.attributes import Attributes
from harness.telemetry.otlp_target import OtlpTarget
from harness.telemetry.span import Span

if TYPE_CHECKING:
    from harness.telemetry.otlp_http import CollectorReply
    from harness.telemetry.otlp_protobuf import Batch

TRIES = 6
"""Failures in a row after which sending stops; with the pauses between them, about 30 seconds."""

PROMPT = 0.1
"""Seconds within which an answer counts as prompt."""


class DeliveryClock(NamedTuple):
    """A monotonic clock in seconds, and a function that sleeps."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


REAL = DeliveryClock(time.monotonic, time.sleep)

Deliver: TypeAlias = "Callable[[Batch, int], None]"
"""Called with each acknowledged batch and the number of its rejected spans."""


class Delivery(NamedTuple):
    """Counts of spans. `delivered`, `refused` and `undelivered` add up to the spans put in.

    `refused`: the collector rejected them. `undelivered`: not acknowledged, whether or not they
    arrived. `problem`: the last problem, in one line.
    """

    delivered: int
    refused: int
    undelivered: int
    problem: str | None


class Outbox:
    """Sends spans in order, one request at a time; calls `taken` for each acknowledged batch."""

    def __init__(self, target: OtlpTarget, taken: Deliver, clock: DeliveryClock = REAL) -> None:
        from harness.telemetry.otlp_http import CollectorConnection

        self._taken = taken
        self._now, self._sleep = clock
        self._connection = CollectorConnection(target)
        self._waiting: deque[Iterator[Batch]] = deque()
        self._batch: Batch | None = None
        self._longest = 0.0
        self._failures = 0
        self._not_before = 0.0
        self._hopeless = False
        self._random = Random()  # noqa: S311 - for retry jitter only
        self._put = self._delivered = self._refused = 0
        self._problem: str | None = None
        self.waited = 0.0
        """Total seconds of the requests that the collector did not answer promptly."""

    @property
    def is_failing(self) -> bool:
        """Whether the last request failed."""
        return self._failures > 0 or self._hopeless

    def put(self, spans: Sequence[Span], resource: Attributes) -> None:
        """Add spans to the queue; they are encoded when they are sent."""
        from harness.telemetry.otlp_protobuf import batches

        self._put += len(spans)
        self._waiting.append(batches(spans, resource))

    def send(self, seconds: float, tries: int = TRIES) -> Delivery:
        """Send for `seconds`, or until all is sent or `tries` requests in a row have failed.

        A request that is unlikely to be answered in time is not started. The answer to a request
        that is not answered in time is read by the next `send`.
        """
        until = self._now() + seconds
        self._failures = 0
        while not self._hopeless and self._failures < tries:
            batch = self._batch = self._batch or self._next_batch()
            is_resumed = self._connection.is_pending
            if batch is None or not (is_resumed or self._may_begin(until)):
                break
            began = self._now()
            reply = self._connection.post(batch.body, until - began)
            took = self._now() - began
            self.waited += took if took > PROMPT else 0.0
            if reply is None:
                break
            if reply.verdict == "taken" and not is_resumed:
                self._longest = max(self._longest, took)
            self._note(batch, reply)
        undelivered = self._put - self._delivered - self._refused
        return Delivery(self._delivered, self._refused, undelivered, self._problem)

    def close(self) -> None:
        """Close the connection; spans without an acknowledgement stay undelivered."""
        self._connection.close()

    def _may_begin(self, until: float) -> bool:
        """Wait until a request is allowed; return whether time is left for it."""
        begin = max(self._now(), self._not_before)
        if begin + self._longest >= until:
            return False
        if begin > self._now():
            self._sleep(begin - self._now())
        return True

    def _next_batch(self) -> Batch | None:
        while self._waiting:
            if batch := next(self._waiting[0], None):
                return batch
            self._waiting.popleft()
        return None

    def _note(self, batch: Batch, reply: CollectorReply) -> None:
        self._problem = reply.problem or self._problem
        if reply.verdict == "later":
            self._failures += 1
            pause = retry_pause(self._failures, reply.retry_after, self._random)
            self._not_before = self._now() + pause
            return
        self._batch, self._failures = None, 0
        if reply.verdict == "taken":
            rejected = min(reply.rejected, len(batch.span_ids))
            self._delivered += len(batch.span_ids) - rejected
            self._refused += rejected
            self._taken(batch, rejected)
        else:
            self._refused += len(batch.span_ids)
            self._hopeless = reply.verdict == "hopeless"


def retry_pause(failures: int, retry_after: float | None, random: Random) -> float:
    """Return the seconds to wait after `failures` failures in a row.

    Exponential from 0.25 s to 8 s, with 50 to 100 % of that, and at least `retry_after`.
    """
    longest = min(8.0, 0.25 * 2.0 ** (failures - 1))
    return max(retry_after or 0.0, longest * random.uniform(0.5, 1.0))
