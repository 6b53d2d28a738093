"""Feeds a limiter with the attempts that end, and sets the number of permits that it returns."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from harness.engine.effects import EmitRecord
from harness.engine.permits import Turnstile
from harness.engine.shared_cell import SharedCell, SharedState
from harness.limits.protocol import Limiter, LimitOutcome, Observation
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.keys import WARM_UP
from harness.records.schema import Attempt, LimitChange, Record

_RATE_LIMITED = "rate_limited"
_ROUND = SECOND
"""Nanoseconds after which the rest of a division among processes begins with the next one. So a
limit below the number of processes leaves none of them without a permit for long."""
_HISTORY = 4096
"""Ends of attempts that are kept for means of the permits in use."""


class LimitUse(NamedTuple):
    """The state of a limit, and what the processes that share it do with it.

    `state`: of the limiter. `at`, `area`: the last end of an attempt, and the permits in use summed
    over time until then. By process: `in_use`: its permits in use. `wanted`: these, and those that
    its calls wait for; None when it has ended. `held`: the permits that no other process may use.
    """

    state: Any
    at: int
    area: float
    in_use: tuple[int, ...]
    wanted: tuple[int | None, ...]
    held: tuple[int, ...]


def fair_parts(limit: int, wanted: Sequence[int | None], first: int) -> list[int]:
    """Divide a limit among processes: none gets more than it wants while another lacks some.

    What nobody wants is divided evenly. `wanted`: None for a process that has ended, which gets
    nothing. `first`: which process the rest of a division begins with.
    """
    parts = [0] * len(wanted)
    order = [(first + at) % len(wanted) for at in range(len(wanted))]
    alive = [rank for rank in order if wanted[rank] is not None]
    lacking, left = list(alive), limit
    while lacking and left:
        each = left // len(lacking)
        content = [rank for rank in lacking if (wanted[rank] or 0) <= each]
        if not content:
            break
        for rank in content:
            parts[rank] = wanted[rank] or 0
            left -= parts[rank]
        lacking = [rank for rank in lacking if rank not in content]
    takers = lacking or alive
    for at, rank in enumerate(takers):
        parts[rank] += left // len(takers) + (at < left % len(takers))
    return parts


def with_part(use: LimitUse, rank: int, now: int) -> tuple[LimitUse, int]:
    """Take or give up permits of one process; return the state, and how many it may have in use.

    It takes only permits that no other process holds, and holds as many as it uses. So all
    together use no more than the limit, except those that they had when it fell.
    """
    limit = int(use.state.limit)
    wanted = fair_parts(limit, use.wanted, now // _ROUND)[rank]
    others = sum(use.held) - use.held[rank]
    permits = min(wanted, max(limit - others, min(use.held[rank], wanted)))
    held = max(permits, use.in_use[rank])
    return use._replace(held=(*use.held[:rank], held, *use.held[rank + 1 :])), permits


class AdaptiveLimit:
    """The limit of one trial or client: its state, and how it changed. Thread-safe.

    `changes`: the limit at the start and after each change that this process has made. `rank`,
    `of`: the process and the number of processes that share the limit, in `cell`.
    """

    def __init__(
        self,
        limiter: Limiter[Any],
        now: int = 0,
        *,
        rank: int = 0,
        of: int = 1,
        cell: SharedCell | None = None,
    ) -> None:
        self._limiter = limiter
        self._rank = rank
        self._in_use = InUse(now)
        state = limiter.first()
        parts = tuple(fair_parts(int(state.limit), (0,) * of, 0))
        self._use = LimitUse(state, now, 0.0, (0,) * of, (0,) * of, parts)
        self._permits = parts[rank]
        self.changes = [LimitChange(now, self.limit)]
        self._shared = None if cell is None else SharedState(cell, self._load, self._dump)
        self._lock: AbstractContextManager[object] = self._shared or threading.Lock()

    @property
    def limit(self) -> int:
        """The most permits in use now, in all processes."""
        return int(self._use.state.limit)

    @property
    def permits(self) -> int:
        """The most permits in use now in this process."""
        return self._permits

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

    def look(self, permits: Turnstile, now: int) -> None:
        """Set the permits of this process to what the others leave it, at `now`."""
        shared = self._shared
        if shared is None:
            return
        wanted = permits.wanted
        is_content = wanted <= self._permits and not permits.in_use > self._permits
        if not shared.is_new and is_content and wanted == self._use.wanted[self._rank]:
            return
        with shared:
            self._note_use(permits.in_use, wanted)
            self._take_part(permits, now)

    def end(self, now: int) -> None:
        """Leave all permits to the other processes: this one has ended."""
        if self._shared is not None:
            with self._shared:
                self._note_use(0, None)
                self._use, _ = with_part(self._use, self._rank, now)

    def _load(self, use: LimitUse) -> None:
        self._use = use
        self._in_use.follow(use.at, use.area)

    def _dump(self) -> LimitUse:
        return self._use

    def _note_use(self, in_use: int, wanted: int | None) -> None:
        rank, use = self._rank, self._use
        self._use = use._replace(
            in_use=(*use.in_use[:rank], in_use, *use.in_use[rank + 1 :]),
            wanted=(*use.wanted[:rank], wanted, *use.wanted[rank + 1 :]),
        )

    def _take_part(self, permits: Turnstile, now: int) -> None:
        self._use, part = with_part(self._use, self._rank, now)
        if part != self._permits:
            self._permits = part
            permits.resize(part)

    def _feed(self, permits: Turnstile, attempt: Attempt) -> None:
        self._note_use(permits.in_use, permits.wanted)
        before, now, in_flight = self.limit, attempt.done, sum(self._use.in_use)
        self._in_use.note(now, in_flight)
        sent = attempt.sent
        state = self._limiter.observed(
            self._use.state,
            Observation(
                now, result_of(attempt.outcome), sent, attempt.first_text,
                attempt.tokens.output or attempt.chunks,
                attempt.retry_after, in_flight,
                float(in_flight) if sent is None else self._in_use.mean(sent, now), before,
            ),
        )  # fmt: skip
        self._use = self._use._replace(state=state, at=self._in_use.at, area=self._in_use.area)
        if self.limit != before:
            # Threads report their ends out of order.
            self.changes.append(LimitChange(max(now, self.changes[-1].at), self.limit))
        if self.limit != before or self._shared is not None:
            self._take_part(permits, now)


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

    @property
    def at(self) -> int:
        """The last end of an attempt."""
        return self._times[-1]

    @property
    def area(self) -> float:
        """The permits in use, summed over time until then."""
        return self._areas[-1]

    def follow(self, at: int, area: float) -> None:
        """Take over what other processes have noted."""
        if at > self._times[-1]:
            self._append(at, area)

    def note(self, now: int, in_use: int) -> None:
        """Note the permits in use at the end of an attempt."""
        passed = max(now - self._times[-1], 0)  # threads report their ends out of order
        # Between two ends they hardly change: a permit that is given back is handed on at once.
        self._append(self._times[-1] + passed, self._areas[-1] + passed * in_use)
        self._last = in_use

    def _append(self, at: int, area: float) -> None:
        self._times.append(at)
        self._areas.append(area)
        if len(self._times) > 2 * _HISTORY:
            del self._times[:_HISTORY], self._areas[:_HISTORY]

    def mean(self, start: int, end: int) -> float:
        """Return the mean of the permits in use between two times, as far as it is known."""
        at = max(bisect_right(self._times, start) - 1, 0)
        passed = self._times[-1] - self._times[at]
        if end <= start or passed <= 0:
            return float(self._last)
        return (self._areas[-1] - self._areas[at]) / passed
