"""The warm-up of an open loop, which is excluded from the measurement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WARM_UP_BATCH = 5
FEWEST_BATCHES = 10
"""With fewer batches than this nothing is cut, as the rule would cut at random."""


def mser5(values: Sequence[float]) -> int:
    """Return how many values, in order of time, belong to the warm-up.

    MSER-5 (White, Cobb and Spratt, A Comparison of Five Steady-State Truncation Heuristics for
    Simulation, Winter Simulation Conference 2000): of the means Y of batches of five, the cut d in
    the first half that makes sum over i > d of (Y_i - mean)^2 / (n - d)^2 smallest, which is the
    squared standard error of what is left. 0 below 50 values.
    """
    n = len(values) // WARM_UP_BATCH
    if n < FEWEST_BATCHES:
        return 0
    means = (
        np.asarray(values[: n * WARM_UP_BATCH], np.float64).reshape(n, WARM_UP_BATCH).mean(axis=1)
    )
    means -= np.median(means)  # or equal values would differ in the last digits of their squares
    counts = np.arange(n, 0, -1)
    sums = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum(means[::-1] ** 2)[::-1]
    errors = (squares - sums**2 / counts) / counts**2
    return int(np.argmin(errors[: n // 2 + 1])) * WARM_UP_BATCH
