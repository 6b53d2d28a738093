"""How many attempts are in flight, at any moment and at each arrival."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.twin.observations import Floats, Integers


@dataclass(frozen=True)
class InFlight:
    """A number that changes in time: `level[i]` from `moments[i]` on.

    `begin` and `end`: the places in `moments` of the intervals it was made of.
    """

    moments: Floats
    level: Integers
    begin: Integers
    end: Integers

    def seconds(self, worth: Floats) -> Floats:
        """Return the integral over each interval of `worth` at the level at that time."""
        return self.integral(worth[self.level])

    def integral(self, values: Floats) -> Floats:
        """Return the integral over each interval of what has `values[i]` from `moments[i]` on."""
        lengths = np.diff(self.moments)
        before = np.concatenate([[0.0], np.cumsum(values[:-1] * lengths)])
        integral: Floats = before[self.end] - before[self.begin]
        return integral

    def total(self, amounts: Floats) -> Floats:
        """Return the sum, from each moment on, of the amounts of the intervals that hold it."""
        changes = np.zeros(len(self.moments))
        changes[self.begin], changes[self.end] = amounts, -amounts
        sums: Floats = np.cumsum(changes)
        return sums


def count_in_flight(starts: Floats, ends: Floats) -> InFlight:
    """Count intervals; at equal times one ends before the next begins."""
    count = len(starts)
    moments = np.concatenate([ends, starts])
    order = np.lexsort((np.repeat([0, 1], count), moments))
    changes = np.repeat([-1, 1], count)[order]
    place = np.empty(2 * count, np.int64)
    place[order] = np.arange(2 * count)
    level = np.maximum(np.cumsum(changes), 0)
    return InFlight(moments[order], level, place[count:], place[:count])


def active_at(moments: Floats, starts: Floats, ends: Floats) -> Integers:
    """Return how many of the intervals hold each moment; one that begins then counts."""
    begun = np.searchsorted(np.sort(starts), moments, "right")
    ended = np.searchsorted(np.sort(ends), moments, "right")
    active: Integers = (begun - ended).astype(np.int64)
    return active


def active_before(starts: Floats, ends: Floats) -> Integers:
    """Return how many others are in service when each interval begins, in order of their starts."""
    order = np.argsort(starts, kind="stable")
    begun = np.empty(len(starts), np.int64)
    begun[order] = np.arange(len(starts))
    gone = np.searchsorted(np.sort(ends), starts, "right")
    others: Integers = np.maximum(begun - gone, 0)
    return others
