"""Sums of many histograms at once: `histogram.merge` with arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.records.histogram import COUNTS, NUMBERS, Histogram, Packed, bucket_number, named
from harness.store.column_values import ranges
from harness.store.packed_histograms import PackedHistograms

_AT_ONCE = 10_000
_MOST = 2**63 - 1
"""The largest value that a histogram can count."""
_ROOM = 8
"""The most places of a table for each number that is added to it."""


class Pooled(NamedTuple):
    """Buckets of several owners, each (owner, bucket) once.

    Three arrays of one length: whose it is, the bucket's name, how many values fell into it.
    """

    owners: NDArray[np.integer[Any]]
    names: NDArray[np.integer[Any]]
    counts: NDArray[np.integer[Any]]

    def of(self, owner: int) -> Histogram:
        """Return the histogram of one owner."""
        mine = self.owners == owner
        return dict(zip(self.names[mine].tolist(), self.counts[mine].tolist(), strict=True))


def pool(parts: Iterable[tuple[int, Mapping[int, int]]]) -> Pooled:
    """Add up all histograms that have the same owner (a number from 0)."""
    rest = iter(parts)
    # In portions, so that the histograms of a whole run never lie open at once.
    nothing = Pooled(*(np.empty(0, np.int64) for _ in range(3)))
    portions = iter(lambda: list(islice(rest, _AT_ONCE)), [])
    owners, numbers, counts = _add_up(
        _joined([nothing, *(_add_up(_open(portion)) for portion in portions)])
    )
    every = np.array([named(at) for at in range(bucket_number(_MOST) + 1)], np.int64)
    return Pooled(owners, every[numbers], counts)


def pool_packed(
    owners: NDArray[np.int64], histograms: PackedHistograms, rows: NDArray[np.int64]
) -> Pooled:
    """Add up the histograms of these rows that have the same owner; `owners`: of each row.

    The result has numbers of buckets in place of names, and small types.
    """
    order = np.argsort(owners, kind="stable")
    owners, rows = owners[order], rows[order]
    # Each portion has all rows of its owners, so the sums of one portion are final.
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    cuts = starts[np.searchsorted(starts, np.arange(0, len(rows), _AT_ONCE))[1:] - 1]
    sums = [Pooled(np.empty(0, np.int32), np.empty(0, np.uint16), np.empty(0, np.int32))]
    for whose, mine in zip(
        np.split(owners, np.unique(cuts)), np.split(rows, np.unique(cuts)), strict=True
    ):
        counts = histograms.starts[mine + 1] - histograms.starts[mine]
        places = ranges(histograms.starts[mine], counts)
        found = _add_up(
            Pooled(
                np.repeat(whose, counts),
                histograms.numbers[places].astype(np.int64),
                histograms.counts[places].astype(np.int64),
            )
        )
        widest = np.min_scalar_type(found.counts.max(initial=0))
        sums.append(
            Pooled(
                found.owners.astype(np.int32),
                found.names.astype(np.uint16),
                found.counts.astype(widest),
            )
        )
    return _joined(sums)


def _joined(parts: Iterable[Pooled]) -> Pooled:
    return Pooled(*map(np.concatenate, zip(*parts, strict=True)))


def _open(portion: list[tuple[int, Mapping[int, int]]]) -> Pooled:
    """Return the content of histograms, with numbers of buckets in place of names."""
    packed = [(whose, it if isinstance(it, Packed) else Packed(it)) for whose, it in portion]
    return _joined(
        _opened([(whose, it) for whose, it in packed if it.kind == kind], kind) for kind in COUNTS
    )


def _opened(parts: list[tuple[int, Packed]], kind: str) -> Pooled:
    """Return the content of histograms whose counts have one type."""
    owners = np.repeat(
        np.array([owner for owner, _ in parts], np.int64),
        np.array([len(part) for _, part in parts], np.int64),
    )
    numbers = np.frombuffer(b"".join(part.numbers for _, part in parts), NUMBERS)
    counts = np.frombuffer(b"".join(part.counts for _, part in parts), kind)
    return Pooled(owners, numbers.astype(np.int64), counts.astype(np.int64))


def _add_up(pooled: Pooled) -> Pooled:
    """Add up the counts of each bucket of each owner, in order."""
    if not len(pooled.counts):
        return pooled
    owners, numbers, counts = pooled
    first, least = owners.min(), numbers.min()
    width = numbers.max() - least + 1
    places = (owners - first) * width + numbers - least
    if places.max() < _ROOM * len(places):  # a table with a place for each is not much larger
        table = np.bincount(places, counts).astype(np.int64)  # exact up to 2**53
        at = np.flatnonzero(table)
        sums = table[at]
    else:
        order = np.argsort(places)
        starts = np.flatnonzero(np.diff(places[order], prepend=-1))
        at, sums = places[order][starts], np.add.reduceat(counts[order], starts)
    return Pooled(first + at // width, least + at % width, sums)
