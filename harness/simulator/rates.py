"""The history of the speed of virtual work, which converts an amount of work into its time."""

from __future__ import annotations

from array import array
from bisect import bisect_left

_CRUMB = 1e-6
"""Tolerance for float errors, in tokens: a change at the end of some work is not within it."""


class Rates:
    """The history of one model's speed: piecewise constant, in ascending order of work.

    From the work `works[k]` on, which was done at `ats[k]`, each token took `itls[k]`
    nanoseconds. A search begins at `place`: the length of the history at the start of the response
    that it is for. So it takes the same time in a long trial as in a short one.
    """

    def __init__(self) -> None:
        self.works = array("d")
        self.ats = array("q")
        self.itls = array("d")

    def __len__(self) -> int:
        """Return the number of changes so far."""
        return len(self.works)

    def note(self, work: float, at: int, itl: float) -> None:
        """Record that from `work` on, done at `at`, each token takes `itl` nanoseconds."""
        self.works.append(work)
        self.ats.append(at)
        self.itls.append(itl)

    def moment(self, work: float) -> int:
        """Return when `work` was done, or will be done at the current speed; O(log n).

        A pause that begins when it is done comes after it, also if a float says a crumb before.
        """
        place = max(bisect_left(self.works, work - _CRUMB) - 1, 0)
        return self.ats[place] + round((work - self.works[place]) * self.itls[place])

    def constant(self, first: float, last: float, place: int = 0) -> float | None:
        """Return the nanoseconds per token from work `first` to `last`; None if they changed.

        A pause in which no work was done is a change, unless it was directly after `first`.
        """
        works, end = self.works, last - _CRUMB
        if place < len(works) and first < works[place] < end:
            return None  # the usual case of a busy provider, without a search
        place = max(bisect_left(works, end, place) - 1, 0)
        return self.itls[place] if works[place] <= first else None
