"""The work of a workflow, to be replayed: steps, each with its time under a permit and without."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.records.schema import Attempt, Backoff, Call
from harness.store.column_values import ranges


class ReplayStep(NamedTuple):
    """One attempt: nanoseconds under a permit, then nanoseconds of backoff without one."""

    service: int
    backoff: int


class ReplayFork(NamedTuple):
    """Chains that run at the same time; the next step waits for all of them."""

    chains: tuple[ReplayChain, ...]


ReplayChain: TypeAlias = tuple[ReplayStep | ReplayFork, ...]


class PackedSteps(NamedTuple):
    """The steps of many calls; those of call `i` are from `starts[i]` to `starts[i + 1]`."""

    starts: NDArray[np.int64]
    services: NDArray[np.int64]
    backoffs: NDArray[np.int64]

    def counts(self) -> NDArray[np.int64]:
        """Return the number of steps of each call."""
        return np.diff(self.starts)

    def of(self, which: NDArray[Any]) -> PackedSteps:
        """Return the steps of some of the calls."""
        starts = self.starts[which]
        counts = self.starts[which + 1] - starts
        rows = ranges(starts, counts)
        ends = np.concatenate([[0], np.cumsum(counts)])
        return PackedSteps(ends, self.services[rows], self.backoffs[rows])

    def as_one(self) -> PackedSteps:
        """Return one step for each call that has any: the permit is held through the backoff."""
        whole = np.concatenate([[0], np.cumsum(self.services + self.backoffs)])
        has_any = self.counts() > 0
        services = (whole[self.starts[1:]] - whole[self.starts[:-1]])[has_any]
        starts = np.concatenate([[0], np.cumsum(has_any)])
        return PackedSteps(starts, services, np.zeros(len(services), np.int64))

    def steps(self) -> list[ReplayStep]:
        """Return all steps, call by call."""
        pairs = zip(self.services.tolist(), self.backoffs.tolist(), strict=True)
        return list(map(ReplayStep._make, pairs))


def steps_of_call(call: Call, attempts: Sequence[Attempt]) -> list[ReplayStep]:
    """Return the steps of a call.

    An attempt takes its service time, or, if it was never sent, the time that it held its permit. A
    backoff takes the planned time, as any longer sleep is overhead; parking takes the measured
    time. A hedge and the attempt that it hedges are one step.
    """
    if not attempts:
        return []  # it was given up before its permit
    served: list[tuple[int, int]] = []
    for attempt in attempts:
        if attempt.hedge and served:  # beside the one before it
            start, end = served.pop()
            served.append((start, max(end, attempt.done)))
        else:
            served.append((_began(attempt), attempt.done))
    steps: list[ReplayStep] = []
    pauses = deque((pause.start, _length(pause)) for pause in call.backoffs)
    for start, end in served:
        before = 0
        while pauses and pauses[0][0] < start:
            before += pauses.popleft()[1]
        if steps:
            steps[-1] = ReplayStep(steps[-1].service, before)
        elif before:
            steps.append(ReplayStep(0, before))
        steps.append(ReplayStep(end - start, 0))
    if pauses:  # slept before a permit that came too late, or in vain
        steps[-1] = ReplayStep(steps[-1].service, sum(length for _, length in pauses))
    return steps


def _began(attempt: Attempt) -> int:
    """Return when an attempt was sent, or had its permit if it was never sent."""
    return attempt.permit_granted if attempt.sent is None else attempt.sent


def _length(pause: Backoff) -> int:
    """Return the nanoseconds of a pause without overhead; the time of an outage is not planned."""
    slept = pause.end - pause.start
    return slept if pause.source == "breaker" else min(pause.planned, slept)
