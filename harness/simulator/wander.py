"""A speed that wanders: hosted models are faster at some minutes than at others."""

from __future__ import annotations

import math
from random import Random

_STEPS = 8
"""Changes of the speed in the time over which it forgets itself."""

_FURTHEST = 3.0
"""Standard deviations from the middle at most, so that the speed has a limit."""


def slowest_factor(sigma: float) -> float:
    """Return the largest factor."""
    return math.exp(_FURTHEST * sigma)


class Wander:
    """A factor of the time per token: log-normal with median 1, and correlated in time.

    The logarithm of the factor is a stationary autoregressive process of order 1. It has the
    standard deviation `sigma`, and its correlation falls to 1/e in `over` nanoseconds. It is
    constant between changes. `random`: the source of its path.
    """

    def __init__(self, sigma: float, over: int, random: Random) -> None:
        self._sigma = sigma
        self._step = max(1, over // _STEPS)
        self._kept = math.exp(-self._step / over)
        self._random = random
        self._path = [random.gauss(0.0, 1.0)]

    def factor(self, elapsed: int) -> float:
        """Return the factor so many nanoseconds after the start."""
        number, path, kept = elapsed // self._step, self._path, self._kept
        while len(path) <= number:
            path.append(kept * path[-1] + math.sqrt(1 - kept**2) * self._random.gauss(0.0, 1.0))
        bounded = max(-_FURTHEST, min(_FURTHEST, path[number]))
        return math.exp(self._sigma * bounded)

    def next_change(self, elapsed: int) -> int:
        """Return when the factor changes next, in nanoseconds after the start."""
        return (elapsed // self._step + 1) * self._step
