"""Decides which requests a fault strikes, from the time in the trial and from the request.

The random number for a request depends on (seed, repeat, prompt, n-th arrival of that prompt), so
the order of requests has no effect. The times of bursts depend on (seed, repeat). Each fault table
of the profile has its own random streams, named after its kind and its number within the kind.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from harness.config.faults import Fault, FaultKind, Outage
from harness.simulator.draws import Draws


class Strike(NamedTuple):
    """A fault that strikes one request.

    `retry_after` and `after`: in nanoseconds of the simulation. `at`: the share of the tokens
    before the fault.
    """

    kind: FaultKind
    retry_after: int | None
    after: int
    at: float

    @property
    def status(self) -> int | None:
        """The status of the response; None if there is no response."""
        if self.kind.place == "connection" or self.kind.name in ("reset_before_head", "silent"):
            return None
        return self.kind.status or 200


class Windows(NamedTuple):
    """A timed outage: from `start` for `duration`, repeated after `every`, or not if None."""

    start: int
    duration: int
    every: int | None

    def holds(self, elapsed: int) -> bool:
        """Return whether the outage is active."""
        since = elapsed - self.start
        if since < 0:
            return False
        return (since if self.every is None else since % self.every) < self.duration

    def next_change(self, elapsed: int) -> int | None:
        """Return the next time at which it starts or ends; None after the last."""
        since = elapsed - self.start
        if since < 0:
            return self.start
        if self.every is None:
            return self.start + self.duration if since < self.duration else None
        into = since % self.every
        return elapsed - into + (self.duration if into < self.duration else self.every)


class Chain:
    """A two-state Markov chain in continuous time, extended as needed."""

    def __init__(self, on: float, off: float, chance: random.Random) -> None:
        self._means = (off, on)
        self._chance = chance
        self._begins_on = chance.random() < on / (on + off)
        self._changes: list[int] = []
        self._until = 0

    def holds(self, elapsed: int) -> bool:
        """Return whether the chain is in its on state."""
        self._extend(elapsed)
        return self._state_after(bisect_right(self._changes, elapsed))

    def next_change(self, elapsed: int) -> int | None:
        """Return the next time at which the state changes."""
        self._extend(elapsed)
        return self._changes[bisect_right(self._changes, elapsed)]

    def _extend(self, elapsed: int) -> None:
        while self._until <= elapsed:
            mean = self._means[self._state_after(len(self._changes))]
            self._until += max(1, round(self._chance.expovariate(1 / mean)))
            self._changes.append(self._until)

    def _state_after(self, changes: int) -> bool:
        return self._begins_on ^ (changes % 2 == 1)


class _Row(NamedTuple):
    fault: Fault
    stream: str
    strike: Strike


class FaultPlan:
    """All faults of one trial. `nanoseconds`: the length of a scenario second."""

    def __init__(self, faults: Sequence[Fault], seed: int, nanoseconds: float) -> None:
        self._seed = seed
        self._nanoseconds = nanoseconds
        self._when: dict[tuple[str, int], Windows | Chain] = {}
        self._rows: list[_Row] = []
        self._connection: list[_Row] = []
        numbers: Counter[str] = Counter()
        for fault in faults:
            numbers[fault.kind] += 1
            retry_after = fault.retry_after
            strike = Strike(
                fault.row,
                None if retry_after is None else round(retry_after * nanoseconds),
                round(fault.after * nanoseconds),
                0.5 if fault.at is None else fault.at,
            )
            row = _Row(fault, f"fault {fault.kind} {numbers[fault.kind]}", strike)
            (self._connection if fault.row.place == "connection" else self._rows).append(row)

    def strike(
        self,
        elapsed: int,
        repeat: int,
        phase: str | None,
        stream: bool,
        draws: Draws,
        arrival: int,
    ) -> Strike | None:
        """Return the first fault that strikes a request, or None.

        `elapsed`: nanoseconds since the trial's first request.
        """
        for row in self._rows:
            fault = row.fault
            chance = fault.probability or 1.0
            if (
                (fault.phases is None or phase in fault.phases)
                and (stream or not fault.row.streams_only)
                and (fault.arrivals is None or arrival <= fault.arrivals)
                and self._holds(row, elapsed, repeat)
                and (chance == 1 or draws.uniform(f"{row.stream} {arrival}") < chance)
            ):
                return row.strike
        return None

    def connection(self, elapsed: int, repeat: int) -> tuple[Strike | None, int | None]:
        """Return the fault that prevents connections, or None, and the time of the next change."""
        if not self._connection:
            return None, None
        changes, found = [], None
        for row in self._connection:
            if found is None and self._holds(row, elapsed, repeat):
                found = row.strike
            timing = self._timing(row, repeat)
            change = None if timing is None else timing.next_change(elapsed)
            if change is not None:
                changes.append(change)
        return found, min(changes, default=None)

    def _holds(self, row: _Row, elapsed: int, repeat: int) -> bool:
        timing = self._timing(row, repeat)
        return timing is None or timing.holds(elapsed)

    def _timing(self, row: _Row, repeat: int) -> Windows | Chain | None:
        when = row.fault.burst or row.fault.outage
        if when is None:
            return None
        key, scale = (row.stream, repeat), self._nanoseconds
        if key in self._when:
            return self._when[key]
        timing: Windows | Chain
        if isinstance(when, Outage):
            every = None if when.every is None else round(when.every * scale)
            duration = max(1, round(when.duration * scale))
            timing = Windows(round(when.start * scale), duration, every)
        else:
            chance = Draws(self._seed, repeat, b"").generator(row.stream)
            timing = Chain(when.on * scale, when.off * scale, chance)
        self._when[key] = timing
        return timing
