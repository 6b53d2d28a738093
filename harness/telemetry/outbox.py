"""Spans on their way to a collector, with an exact account of what arrived.

A collector that is dead or slow costs no more time than it is given: between two trials, and once
more at a run's end. What is not acknowledged by then stays in the account as undelivered and can
be sent later, with the same ids. Everything here happens outside what is measured; while a trial
runs, at most one answer is on its way, and the operating system keeps it until it is asked for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from harness.telemetry.attributes import Attributes
from harness.telemetry.otlp_http import CollectorReply, CollectorRequest
from harness.telemetry.otlp_protobuf import Batch, batches
from harness.telemetry.otlp_target import OtlpTarget
from harness.telemetry.span import Span

TRIES = 6
"""How often in a row a collector may fail before it is given up, where nobody waits for it: with
the pauses between, about half a minute."""


PROMPT = 0.1
"""Seconds within which a collector that keeps up answers."""


class DeliveryClock(NamedTuple):
    """Seconds that only go up, and a way to let some pass."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


REAL = DeliveryClock(time.monotonic, time.sleep)

Deliver = Callable[[Batch, int], None]
"""Told of each batch that was taken, and of how many of its spans were rejected."""


class Delivery(NamedTuple):
    """Spans so far. `delivered`, `refused` and `undelivered` add up to what was put in.

    `refused`: the collector said that it will not have them. `undelivered`: not acknowledged,
    whether or not they arrived. `problem`: the last thing that went wrong, one line.
    """

    delivered: int
    refused: int
    undelivered: int
    problem: str | None


class Outbox:
    """Sends what is put in, in order, one request at a time.

    `taken` is called for each batch that was acknowledged.
    """

    def __init__(self, target: OtlpTarget, taken: Deliver, clock: DeliveryClock = REAL) -> None:
        self._taken = taken
        self._now, self._sleep = clock
        self._exchange = CollectorRequest(target)
        self._waiting: deque[Iterator[Batch]] = deque()
        self._batch: Batch | None = None
        self._is_sent = False
        self._began: float | None = None
        self._longest = 0.0
        self._failures = 0
        self._not_before = 0.0
        self._hopeless = False
        self._random = Random()  # noqa: S311 - it spreads retries, it guards nothing
        self._put = self._delivered = self._refused = 0
        self._problem: str | None = None
        self.waited = 0.0
        """Seconds that requests took which the collector did not answer promptly."""

    @property
    def account(self) -> Delivery:
        """What has become of everything that was put in."""
        undelivered = self._put - self._delivered - self._refused
        return Delivery(self._delivered, self._refused, undelivered, self._problem)

    @property
    def is_failing(self) -> bool:
        """Whether the last thing that happened was a failure."""
        return self._failures > 0 or self._hopeless

    def put(self, spans: Sequence[Span], resource: Attributes) -> None:
        """Add spans; they are encoded when their turn comes."""
        if spans:
            self._put += len(spans)
            self._waiting.append(batches(spans, resource))

    def send(self, seconds: float, tries: int = TRIES) -> Delivery:
        """Send for `seconds`, or until all is sent or `tries` in a row have failed.

        A request that is not likely to be answered in time is not begun; one that is not answered
        in time stays open, and its answer is read by the next `send`.
        """
        until = self._now() + seconds
        self._failures = 0
        self._began = None
        while not self._hopeless and self._failures < tries and self._next(until):
            answer = self._ask(until)
            if answer is None:
                break
            self._is_sent = False
            self._note(answer)
        return self.account

    def close(self) -> Delivery:
        """Give up what has not been acknowledged."""
        self._exchange.close()
        return self.account

    def _next(self, until: float) -> bool:
        """Return whether there is a request to send or to wait for, and time for it."""
        if self._batch is None:
            self._batch = self._encoded()
        if self._batch is None:
            return False
        if self._is_sent:
            return True
        begin = max(self._now(), self._not_before)
        if begin + self._longest >= until:
            return False
        if begin > self._now():
            self._sleep(begin - self._now())
        return True

    def _encoded(self) -> Batch | None:
        while self._waiting:
            batch = next(self._waiting[0], None)
            if batch is not None:
                return batch
            self._waiting.popleft()
        return None

    def _ask(self, until: float) -> CollectorReply | None:
        asked = self._now()
        try:
            return self._exchanged(until)
        finally:
            took = self._now() - asked
            self.waited += took if took > PROMPT else 0.0

    def _exchanged(self, until: float) -> CollectorReply | None:
        assert self._batch is not None, "there is one"
        if not self._is_sent:
            self._began = began = self._now()
            failed = self._exchange.send(self._batch.body, max(until - began, 0.01))
            if failed:
                return failed
            self._is_sent = True
        answer = self._exchange.answer(until - self._now())
        if answer and answer.verdict == "taken" and self._began is not None:  # seen from its start
            self._longest = max(self._longest, self._now() - self._began)
        return answer

    def _note(self, answer: CollectorReply) -> None:
        batch = self._batch
        assert batch is not None, "an answer is to a request"
        self._problem = answer.problem or self._problem
        if answer.verdict == "later":
            self._failures += 1
            wait = retry_pause(self._failures, answer.retry_after, self._random)
            self._not_before = self._now() + wait
            return
        self._batch, self._failures = None, 0
        if answer.verdict == "taken":
            rejected = min(answer.rejected, len(batch.span_ids))
            self._delivered += len(batch.span_ids) - rejected
            self._refused += rejected
            self._taken(batch, rejected)
        else:
            self._refused += len(batch.span_ids)
            self._hopeless = answer.verdict == "hopeless"


def retry_pause(failures: int, retry_after: float | None, random: Random) -> float:
    """Return how many seconds to wait after that many failures in a row.

    Exponential from .25 s up to 8 s with full jitter above the half, and never less than the
    collector asked for.
    """
    longest = min(8.0, 0.25 * 2.0 ** (failures - 1))
    return max(retry_after or 0.0, longest * random.uniform(0.5, 1.0))
