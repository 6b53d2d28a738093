"""Sparse log-linear histograms of integers, which merge exactly.

The name of a bucket is the smallest value in it, so a stored histogram needs no description. Values
below 256 have a bucket each. Above that, each power of two is divided into 128 equal buckets, so
the error of a value is below 0.8 %: two significant digits in the sense of HdrHistogram
(https://hdrhistogram.org).
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Histogram = dict[int, int]
"""Maps the smallest value of a bucket to the number of values in it."""

HALF_BUCKET = 1 / 256
"""How far a value of 256 or more can be from the middle of its bucket, as a share of it."""

NUMBERS, COUNTS = "H", "BHI"
"""Type codes of the arrays in `Packed`, as in the standard library's `array`."""


def bucket(value: int) -> int:
    """Return the name of the bucket that contains `value` (at least 0)."""
    if value < 256:
        return max(value, 0)
    shift = value.bit_length() - 8
    return (value >> shift) << shift


def add_all(histogram: Histogram, values: Iterable[int]) -> None:
    """Add values to a histogram."""
    # As in `bucket`, without its call.
    names = [
        (value >> (shift := value.bit_length() - 8)) << shift if value > 255 else max(value, 0)
        for value in values
    ]
    for name, count in Counter(names).items():
        histogram[name] = histogram.get(name, 0) + count


def named(number: int) -> int:
    """Return the name of the bucket with the given index."""
    shift = max(number // 128 - 1, 0)
    return (number - 128 * shift) << shift


@cache
def bucket_number(name: int) -> int:
    """Return the index of the bucket called `name`: 0 to 8,191."""
    shift = max(name.bit_length() - 8, 0)
    return 128 * shift + (name >> shift)


def middle(name: int) -> float:
    """Return the middle of the bucket called `name`, which represents its values."""
    if name < 256:
        return float(name)
    return name + (1 << (name.bit_length() - 8)) / 2


def merge(parts: Iterable[Mapping[int, int]]) -> Histogram:
    """Return the sum of histograms: the histogram of all their values."""
    total: Histogram = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def quantile(histogram: Mapping[int, int], q: float) -> float | None:
    """Return the `q`-quantile (0 to 1) of the values; None if the histogram is empty."""
    total = sum(histogram.values())
    if total == 0:
        return None
    rank = q * (total - 1)
    seen = 0
    for name in sorted(histogram):
        seen += histogram[name]
        if seen > rank:
            return middle(name)
    return middle(max(histogram))


class BatchedHistogram(Mapping[int, int]):
    """A read-only histogram that is computed at its first use.

    To compute many together takes a tenth of the time.
    """

    __slots__ = ()

    @staticmethod
    @abstractmethod
    def arrays(batch: Sequence[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return names and counts, a row for each of `batch`, which are all of this class.

        A name can occur several times in a row, and a count can be 0.
        """


class Packed(Mapping[int, int]):
    """A read-only histogram that needs less than a tenth of the memory.

    `data`: the bucket indices, as an array of type `NUMBERS`, then their counts, as an array of
    type `kind`, the smallest type in `COUNTS` that can hold them.
    """

    __slots__ = ("data", "kind")

    def __init__(self, histogram: Mapping[int, int]) -> None:
        """Pack a histogram. Raises OverflowError for a count below 0 or above 2**32 - 1."""
        numbers = array(NUMBERS, list(map(bucket_number, histogram))).tobytes()
        counts = list(histogram.values())
        try:
            self.kind, self.data = "B", numbers + bytes(counts)
        except ValueError:  # above 255
            self.kind = "H" if max(counts) <= 0xFFFF else "I"
            self.data = numbers + array(self.kind, counts).tobytes()

    @classmethod
    def of(cls, numbers: bytes, counts: bytes, kind: str) -> Packed:
        """Return the histogram with this content: see `numbers` and `counts`."""
        made = cls.__new__(cls)
        made.kind, made.data = kind, numbers + counts
        return made

    @property
    def numbers(self) -> bytes:
        """The bucket indices, as an array of type `NUMBERS`."""
        return self.data[: 2 * len(self)]

    @property
    def counts(self) -> bytes:
        """The counts, as an array of type `kind`."""
        return self.data[2 * len(self) :]

    def __getitem__(self, name: int) -> int:
        """Return the number of values in the bucket called `name`."""
        return dict(zip(self, array(self.kind, self.counts), strict=True))[name]

    def __iter__(self) -> Iterator[int]:
        """Iterate over the names of the buckets."""
        return map(named, array(NUMBERS, self.numbers))

    def __len__(self) -> int:
        """Return the number of buckets."""
        return len(self.data) // (2 + (1, 2, 4)[COUNTS.index(self.kind)])
