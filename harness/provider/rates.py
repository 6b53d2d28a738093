"""How fast virtual work was done and when: turns an amount of work into the moment it was done."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

_CRUMB = 1e-6
"""Tokens that floats may be wrong by: a change at the very end of some work is none within it."""


class _Stretch(NamedTuple):
    """From `work` on, done at the moment `at`, each token took `itl` nanoseconds."""

    work: float
    at: int
    itl: float


class Rates:
    """The history of one model's speed: piecewise constant, work ascending."""

    def __init__(self) -> None:
        self._works: list[float] = []
        self._stretches: list[_Stretch] = []

    def note(self, work: float, at: int, itl: float) -> None:
        """From `work` on, done at `at`, each token takes `itl` nanoseconds."""
        self._works.append(work)
        self._stretches.append(_Stretch(work, at, itl))

    def moment(self, work: float) -> int:
        """Return when `work` was done, or will be at the newest speed; O(log n)."""
        stretch = self._stretches[max(bisect_left(self._works, work) - 1, 0)]
        return stretch.at + round((work - stretch.work) * stretch.itl)

    def moments(self, works: Sequence[float]) -> list[int]:
        """Return the moments of several works, ascending."""
        known, stretches, found, place = self._works, self._stretches, [], 0
        for work in works:
            place = bisect_left(known, work, place)
            stretch = stretches[place - 1 if place else 0]
            found.append(stretch.at + round((work - stretch.work) * stretch.itl))
        return found

    def constant(self, first: float, last: float) -> float | None:
        """Return the nanoseconds a token took from work `first` to `last`; None if that changed."""
        stretch = self._stretches[max(bisect_left(self._works, last - _CRUMB) - 1, 0)]
        return stretch.itl if stretch.work <= first else None
