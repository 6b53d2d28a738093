"""How the limit of a trial changed, where its permits adapt, and what came of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.records.schema import Trial
from harness.store.columns import AttemptTable

RATE_LIMITED = "rate_limited"


class LimitStep(NamedTuple):
    """A limit, and from when to when it held, in nanoseconds of the records."""

    start: int
    end: int
    limit: int


def limit_steps(trial: Trial) -> list[LimitStep]:
    """Return the limits within a trial, in order of time; none for a fixed number of permits."""
    ends = [*(change.at for change in trial.limits[1:]), trial.end]
    steps = [
        LimitStep(max(change.at, trial.start), min(max(end, trial.start), trial.end), change.limit)
        for change, end in zip(trial.limits, ends, strict=False)
    ]
    return [step for step in steps if step.end > step.start]


def permit_time(trial: Trial, permits: int) -> int:
    """Return the nanoseconds that all permits of a trial had together.

    `permits`: their number, where it is fixed.
    """
    if not trial.limits:
        return permits * (trial.end - trial.start)
    return sum(step.limit * (step.end - step.start) for step in limit_steps(trial))


def most_allowed(trial: Trial) -> int:
    """Return the highest limit of a trial; 0 for a fixed number of permits."""
    return max((step.limit for step in limit_steps(trial)), default=0)


def in_flight_over(attempts: AttemptTable, trial: Trial, bins: int) -> NDArray[np.float64]:
    """Return the mean number of attempts with a permit in each of equally long parts of a trial.

    `attempts`: those of the trial. Shape: `bins`.
    """
    edges = np.linspace(trial.start, trial.end, bins + 1)
    granted, done = attempts.column("permit_granted"), attempts.column("done")

    def before(times: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return, for each edge, the time since each of `times`, summed."""
        ordered = np.sort(times).astype(np.float64)
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        counts = np.searchsorted(ordered, edges)
        passed: NDArray[np.float64] = counts * edges - sums[counts]
        return passed

    spent = np.diff(before(granted) - before(done))
    width = max(float(edges[1] - edges[0]), 1.0)
    mean: NDArray[np.float64] = spent / width
    return mean


def refusals_of(attempts: AttemptTable) -> NDArray[np.int64]:
    """Return when the 429s came back, in nanoseconds of the records."""
    ended: NDArray[np.int64] = attempts.column("done")
    refused: NDArray[np.int64] = np.sort(ended[attempts.where("outcome", RATE_LIMITED.__eq__)])
    return refused
