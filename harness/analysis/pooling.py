"""Many histograms added up at once: what `histogram.merge` does, in arrays."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.histogram import Histogram

_AT_ONCE = 10_000


class Pooled(NamedTuple):
    """Buckets of several owners, each (owner, bucket) once.

    Three arrays of one length: whose it is, the bucket's name, how many values fell into it.
    """

    owners: NDArray[np.int64]
    names: NDArray[np.int64]
    counts: NDArray[np.int64]

    def of(self, owner: int) -> Histogram:
        """Return the histogram of one owner."""
        mine = self.owners == owner
        return dict(zip(self.names[mine].tolist(), self.counts[mine].tolist(), strict=True))


def pool(parts: Iterable[tuple[int, Histogram]]) -> Pooled:
    """Add up all histograms that have the same owner (a number from 0)."""
    rest = iter(parts)
    sums = [Pooled(*(np.empty(0, np.int64) for _ in range(3)))]
    # In portions, so that the histograms of a whole run never lie open at once.
    while portion := list(islice(rest, _AT_ONCE)):
        sums.append(_add_up(_open(portion)))
    return _add_up(Pooled(*map(np.concatenate, zip(*sums, strict=True))))


def _open(portion: list[tuple[int, Histogram]]) -> Pooled:
    names: list[int] = []
    counts: list[int] = []
    for _, histogram in portion:
        names.extend(histogram)
        counts.extend(histogram.values())
    sizes = [len(histogram) for _, histogram in portion]
    owners = np.repeat(np.array([owner for owner, _ in portion], np.int64), sizes)
    return Pooled(owners, np.array(names, np.int64), np.array(counts, np.int64))


def _add_up(pooled: Pooled) -> Pooled:
    if not len(pooled.counts):
        return pooled
    order = np.lexsort((pooled.names, pooled.owners))
    owners, names, counts = (column[order] for column in pooled)
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(owners) != 0) | (np.diff(names) != 0)
    starts = np.flatnonzero(is_new)
    return Pooled(owners[starts], names[starts], np.add.reduceat(counts, starts))
