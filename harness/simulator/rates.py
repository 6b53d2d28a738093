"""How fast virtual work was done and when: turns an amount of work into the moment it was done."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

_CRUMB = 1e-6
"""Tokens that floats may be wrong by: a change at the very end of some work is none within it."""


class Rates:
    """The history of one model's speed: piecewise constant, work ascending.

    From the k-th of `_works` on, done at the k-th of `_ats`, each token took the k-th of `_itls`
    nanoseconds. Arrays, because a trial looks up millions of them all over a long history, and
    numbers that lie side by side are found sooner than objects.
    """

    def __init__(self) -> None:
        self._works = array("d")
        self._ats = array("q")
        self._itls = array("d")

    def note(self, work: float, at: int, itl: float) -> None:
        """From `work` on, done at `at`, each token takes `itl` nanoseconds."""
        self._works.append(work)
        self._ats.append(at)
        self._itls.append(itl)

    def moment(self, work: float) -> int:
        """Return when `work` was done, or will be at the newest speed; O(log n)."""
        place = max(bisect_left(self._works, work) - 1, 0)
        return self._ats[place] + round((work - self._works[place]) * self._itls[place])

    def moments(self, works: Sequence[float]) -> list[int]:
        """Return the moments of several works, ascending."""
        if not works:
            return []
        known, ats, itls, found = self._works, self._ats, self._itls, []
        place, end = 0, bisect_left(known, works[-1])
        for work in works:
            place = bisect_left(known, work, place, end)
            since = place - 1 if place else 0
            found.append(ats[since] + round((work - known[since]) * itls[since]))
        return found

    def constant(self, first: float, last: float) -> float | None:
        """Return the nanoseconds a token took from work `first` to `last`; None if that changed."""
        place = max(bisect_left(self._works, last - _CRUMB) - 1, 0)
        return self._itls[place] if self._works[place] <= first else None
