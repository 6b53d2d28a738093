"""A sparse log-linear histogram of integers, exact to merge.

A bucket is named by the smallest value that falls into it, so a stored histogram explains itself.
Values below 256 have a bucket each; above, every power of two is cut into 128 equal buckets, so a
value is known to better than 0.8 %, which is two significant digits in the sense of
HdrHistogram (https://hdrhistogram.org).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping

Histogram = dict[int, int]
"""Smallest value of the bucket -> how many values fell into it."""

NUMBERS, COUNTS = "H", "BHI"
"""Types of the arrays in `Packed`, as the standard library's `array` calls them."""


def bucket(value: int) -> int:
    """Return the name of the bucket that holds `value` (at least 0)."""
    if value < 256:
        return max(value, 0)
    shift = value.bit_length() - 8
    return (value >> shift) << shift


def named(number: int) -> int:
    """Return the name of the bucket at that place among all buckets."""
    shift = max(number // 128 - 1, 0)
    return (number - 128 * shift) << shift


def bucket_number(name: int) -> int:
    """Return the place of the bucket called `name` among all buckets, from 0: below 8,192."""
    shift = max(name.bit_length() - 8, 0)
    return 128 * shift + (name >> shift)


class _Numbers(dict[int, int]):
    """Numbers of buckets by name, as far as they have been asked for."""

    def __missing__(self, name: int) -> int:
        return self.setdefault(name, bucket_number(name))


_NUMBER = _Numbers()


def middle(name: int) -> float:
    """Return the middle of the bucket called `name`, the value that stands for its content."""
    if name < 256:
        return float(name)
    return name + (1 << (name.bit_length() - 8)) / 2


def merge(parts: Iterable[Mapping[int, int]]) -> Histogram:
    """Add histograms up; the result is what one histogram of all the values would hold."""
    total: Histogram = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def quantile(histogram: Mapping[int, int], q: float) -> float | None:
    """Return the value below which the share `q` (0 to 1) of the content lies; None when empty."""
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


class Packed(Mapping[int, int]):
    """A histogram that is only read, in less than a tenth of the memory.

    `data`: the numbers of the buckets, in an array of type `NUMBERS`, then the count of each, in
    one of type `kind`: the smallest of `COUNTS` that holds them.
    """

    __slots__ = ("data", "kind")

    def __init__(self, histogram: Mapping[int, int]) -> None:
        """Pack a histogram. Raises OverflowError for a count below 0, or of 2**32 or more."""
        numbers = array(NUMBERS, list(map(_NUMBER.__getitem__, histogram))).tobytes()
        counts = list(histogram.values())
        try:
            self.kind, self.data = "B", numbers + bytes(counts)
        except ValueError:  # above 255
            self.kind = "H" if max(counts) <= 0xFFFF else "I"
            self.data = numbers + array(self.kind, counts).tobytes()

    @property
    def numbers(self) -> bytes:
        """The numbers of the buckets, as an array of type `NUMBERS` holds them."""
        return self.data[: 2 * len(self)]

    @property
    def counts(self) -> bytes:
        """Their counts, as an array of type `kind` holds them."""
        return self.data[2 * len(self) :]

    def __getitem__(self, name: int) -> int:
        """Return how many values fell into the bucket called `name`."""
        return dict(zip(self, array(self.kind, self.counts), strict=True))[name]

    def __iter__(self) -> Iterator[int]:
        """Go through the names of the buckets."""
        return map(named, array(NUMBERS, self.numbers))

    def __len__(self) -> int:
        """Return how many buckets there are."""
        return len(self.data) // (2 + (1, 2, 4)[COUNTS.index(self.kind)])
