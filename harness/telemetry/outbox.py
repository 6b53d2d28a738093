"""The queue of spans or data points for a collector, with an exact account of their delivery.

Sending has a time limit between two trials and at the end of a run. What is not acknowledged by
then is undelivered and can be sent later. While a trial runs, nothing is sent or read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from harness.telemetry.otlp_target import OtlpTarget

if TYPE_CHECKING:
    from harness.telemetry.collector_reply import CollectorReply, DeliveryClock
    from harness.telemetry.otlp_protobuf import Batch

TRIES = 6
"""Failures in a row after which sending stops; with the pauses between them, about 30 seconds."""

PROMPT = 0.1
"""Seconds within which an answer counts as prompt."""

Deliver: TypeAlias = "Callable[[Batch, int], None]"
"""Called with each acknowledged batch and the number of its rejected items."""


class Delivery(NamedTuple):
    """Counts of items. `delivered`, `refused` and `undelivered` add up to the items put in.

    `refused`: the collector rejected them. `undelivered`: not acknowledged, whether or not they
    arrived. `problem`: the last problem, in one line.
    """

    delivered: int = 0
    refused: int = 0
    undelivered: int = 0
    problem: str | None = None


class Outbox:
    """Sends batches in order, one request at a time; calls `taken` for each acknowledged batch."""

    def __init__(
        self, target: OtlpTarget, taken: Deliver, clock: DeliveryClock | None = None
    ) -> None:
        from harness.telemetry.collector_reply import REAL_WAITS, connect

        self._taken = taken
        self._clock = clock or REAL_WAITS
        self._connection = connect(target, self._clock)
        self._waiting: deque[Iterator[Batch]] = deque()
        self._batch: Batch | None = None
        self._longest = 0.0
        self._failures = 0
        self._not_before = 0.0
        self._random = Random()  # noqa: S311 - for retry jitter only
        self._put = self._delivered = self._refused = 0
        self._problem: str | None = None
        self.stopped: CollectorReply | None = None
        """The reply after which no request will be accepted."""
        self.waited = 0.0
        """Total seconds of the requests that the collector did not answer promptly."""

    @property
    def is_failing(self) -> bool:
        """Whether the last request failed."""
        return self._failures > 0 or self.stopped is not None

    def put(self, batches: Iterator[Batch], count: int) -> None:
        """Add `count` items to the queue; they are encoded when they are sent."""
        self._put += count
        self._waiting.append(batches)

    def send(self, seconds: float, tries: int = TRIES) -> Delivery:
        """Send for `seconds`, or until all is sent or `tries` requests in a row have failed.

        A request that is unlikely to be answered in time is not started. One that is not answered
        in time is sent again by the next `send`.
        """
        now = self._clock.now
        until = now() + seconds
        self._failures = 0
        while self.stopped is None and self._failures < tries:
            batch = self._batch = self._batch or self._next_batch()
            if batch is None or not self._may_begin(until):
                break
            began = now()
            reply = self._connection.post(batch.body, until - began)
            took = now() - began
            self.waited += took if took > PROMPT else 0.0
            self._longest = max(self._longest, took) if reply.verdict == "taken" else self._longest
            self._note(batch, reply)
        undelivered = self._put - self._delivered - self._refused
        return Delivery(self._delivered, self._refused, undelivered, self._problem)

    def close(self) -> None:
        """Close the connection; the next `send` opens it again."""
        self._connection.close()

    def _may_begin(self, until: float) -> bool:
        """Wait until a request is allowed; return whether time is left for it."""
        now = self._clock.now
        begin = max(now(), self._not_before)
        if begin + self._longest >= until:
            return False
        if begin > now():
            self._clock.sleep(begin - now())
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
            self._not_before = self._clock.now() + pause
            return
        self._batch, self._failures = None, 0
        taken = reply.verdict == "taken"
        rejected = min(reply.rejected, batch.items) if taken else batch.items
        self._delivered += batch.items - rejected
        self._refused += rejected
        if taken:
            self._taken(batch, rejected)
        elif reply.verdict != "refused":
            self.stopped = reply


def retry_pause(failures: int, retry_after: float | None, random: Random) -> float:
    """Return the seconds to wait after `failures` failures in a row.

    Exponential from 0.25 s to 8 s, with 50 to 100 % of that, and at least `retry_after`.
    """
    longest = min(8.0, 0.25 * 2.0 ** (failures - 1))
    return max(retry_after or 0.0, longest * random.uniform(0.5, 1.0))
