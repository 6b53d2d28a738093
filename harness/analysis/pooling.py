"""Many histograms added up at once: what `histogram.merge` does, in arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.histogram import COUNTS, NUMBERS, Histogram, Packed, named, number

_AT_ONCE = 10_000
_MOST = 2**63 - 1
"""The largest value that a histogram can count."""
_BITS = 13
"""So many hold the number of any bucket."""


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


def pool(parts: Iterable[tuple[int, Mapping[int, int]]]) -> Pooled:
    """Add up all histograms that have the same owner (a number from 0)."""
    rest = iter(parts)
    sums = [_Sums(np.empty(0, np.int64), np.empty(0, np.int64))]
    # In portions, so that the histograms of a whole run never lie open at once.
    while portion := list(islice(rest, _AT_ONCE)):
        sums.append(_add_up(_open(portion)))
    keys, counts = _add_up(_Sums(*map(np.concatenate, zip(*sums, strict=True))))
    return Pooled(keys >> _BITS, _names(keys & (2**_BITS - 1)), counts)


class _Sums(NamedTuple):
    """Counts, and whose they are and of which bucket: both in one number, which sorts fast."""

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]


def _open(portion: list[tuple[int, Mapping[int, int]]]) -> _Sums:
    packed = [(whose, it if isinstance(it, Packed) else Packed(it)) for whose, it in portion]
    opened = [
        _opened([(whose, it) for whose, it in packed if it.kind == kind], kind) for kind in COUNTS
    ]
    return _Sums(*map(np.concatenate, zip(*opened, strict=True)))


def _opened(parts: list[tuple[int, Packed]], kind: str) -> _Sums:
    """Return what stands in histograms whose counts are all of one type."""
    owners = np.repeat(
        np.array([owner for owner, _ in parts], np.int64),
        np.array([len(part) for _, part in parts], np.int64),
    )
    numbers = np.frombuffer(b"".join(part.numbers for _, part in parts), NUMBERS)
    counts = np.frombuffer(b"".join(part.counts for _, part in parts), kind)
    return _Sums((owners << _BITS) + numbers, counts.astype(np.int64))


def _add_up(sums: _Sums) -> _Sums:
    if not len(sums.counts):
        return sums
    order = np.argsort(sums.keys)
    keys, counts = sums.keys[order], sums.counts[order]
    starts = np.flatnonzero(np.concatenate(([True], np.diff(keys) != 0)))
    return _Sums(keys[starts], np.add.reduceat(counts, starts))


def _names(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    every = np.array([named(at) for at in range(number(_MOST) + 1)], np.int64)
    return every[numbers]
