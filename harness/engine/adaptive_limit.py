"""Feeds a limiter with the attempts that end, and sets the number of permits that it returns."""

from __future__ import annotations

import threading
from bisect import bisect_right
from typing import Any

from harness.engine.effects import EmitRecord
from harness.engine.permits import Turnstile
from harness.limits.protocol import Limiter, LimitOutcome, Observation
from harness.records.failures import OK
from harness.records.keys import WARM_UP
from harness.records.schema import Attempt, LimitChange, Record

_RATE_LIMITED = "rate_limited"
_HISTORY = 4096
"""Ends of attempts that are kept for means of the permits in use."""


class AdaptiveLimit:
    """The limit of one trial or client: its state, and how it changed. Thread-safe.

    `changes`: the limit at the start and after each change.
    """

    def __init__(self, limiter: Limiter[Any], now: int = 0) -> None:
        self._limiter = limiter
        self._state = limiter.first()
        self.changes = [LimitChange(now, self._state.limit)]
        self._lock = threading.Lock()
        self._in_use = InUse(now)

    @property
    def limit(self) -> int:
        """The most permits in use now."""
        return int(self._state.limit)

    def feeding(self, permits: Turnstile, emit: EmitRecord) -> EmitRecord:
        """Return an `emit` function whose attempts change the number of `permits`.

        An attempt has its permit while its record is emitted.
        """

        def fed(record: Record) -> None:
            if type(record) is Attempt and record.phase != WARM_UP:
                with self._lock:
                    self._feed(permits, record)
            emit(record)

        return fed

    def _feed(self, permits: Turnstile, attempt: Attempt) -> None:
        before, now, in_flight = self.limit, attempt.done, permits.in_use
        self._in_use.note(now, in_flight)
        sent = attempt.sent
        self._state = self._limiter.observed(
            self._state,
            Observation(
                now, result_of(attempt.outcome), sent, attempt.first_text,
                attempt.tokens.output or attempt.chunks,
                attempt.retry_after, in_flight,
                float(in_flight) if sent is None else self._in_use.mean(sent, now), before,
            ),
        )  # fmt: skip
        if self.limit != before:
            permits.resize(self.limit)
            # Threads report their ends out of order.
            self.changes.append(LimitChange(max(now, self.changes[-1].at), self.limit))


def result_of(outcome: str) -> LimitOutcome:
    """Return what a limiter is told of an outcome."""
    if outcome == OK:
        return "ok"
    return "rate_limited" if outcome == _RATE_LIMITED else "failed"


class InUse:
    """The permits in use over time, known at the ends of attempts only."""

    def __init__(self, start: int) -> None:
        self._times = [start]
        self._areas = [0.0]  # permits in use, summed over time
        self._last = 0

    def note(self, now: int, in_use: int) -> None:
        """Note the permits in use at the end of an attempt."""
        passed = max(now - self._times[-1], 0)  # threads report their ends out of order
        # Between two ends they hardly change: a permit that is given back is handed on at once.
        self._areas.append(self._areas[-1] + passed * in_use)
        self._times.append(self._times[-1] + passed)
        self._last = in_use
        if len(self._times) > 2 * _HISTORY:
            del self._times[:_HISTORY], self._areas[:_HISTORY]

    def mean(self, start: int, end: int) -> float:
        """Return the mean of the permits in use between two times, as far as it is known."""
        at = max(bisect_right(self._times, start) - 1, 0)
        passed = self._times[-1] - self._times[at]
        if end <= start or passed <= 0:
            return float(self._last)
        return (self._areas[-1] - self._areas[at]) / passed
