"""The history of the speed of virtual work, which converts an amount of work into its time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

_CRUMB = 1e-6
"""Tolerance for float errors, in tokens: a change at the end of some work is not within it."""


class Rates:
    """The history of one model's speed: piecewise constant, in ascending order of work.

    From the work `_works[k]` on, which was done at `_ats[k]`, each token took `_itls[k]`
    nanoseconds. A search begins at `place`: the length of the history at the start of the response
    that it is for. So it takes the same time in a long trial as in a short one.
    """

    def __init__(self) -> None:
        self._works: list[float] = []
        self._ats: list[int] = []
        self._itls: list[float] = []

    def __len__(self) -> int:
        """Return the number of changes so far."""
        return len(self._works)

    def note(self, work: float, at: int, itl: float) -> None:
        """Record that from `work` on, done at `at`, each token takes `itl` nanoseconds."""
        self._works.append(work)
        self._ats.append(at)
        self._itls.append(itl)

    def moment(self, work: float) -> int:
        """Return when `work` was done, or will be done at the current speed; O(log n)."""
        place = max(bisect_left(self._works, work) - 1, 0)
        return self._ats[place] + round((work - self._works[place]) * self._itls[place])

    def moments(self, works: Sequence[float], place: int = 0) -> list[int]:
        """Return the times of several amounts of work, which are in ascending order."""
        if not works:
            return []
        known, ats, itls, found = self._works, self._ats, self._itls, []
        end = bisect_left(known, works[-1], place)
        for work in works:
            place = bisect_left(known, work, place, end)
            since = place - 1 if place else 0
            found.append(ats[since] + round((work - known[since]) * itls[since]))
        return found

    def constant(self, first: float, last: float, place: int = 0) -> float | None:
        """Return the nanoseconds per token from work `first` to `last`; None if they changed."""
        place = max(bisect_left(self._works, last - _CRUMB, place) - 1, 0)
        return self._itls[place] if self._works[place] <= first else None
