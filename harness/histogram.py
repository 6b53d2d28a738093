"""A sparse log-linear histogram of integers, exact to merge.

A bucket is named by the smallest value that falls into it, so a stored histogram explains itself.
Values below 256 have a bucket each; above, every power of two is cut into 128 equal buckets, so a
value is known to better than 0.8 %, which is two significant digits in the sense of
HdrHistogram (https://hdrhistogram.org).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Histogram = dict[int, int]
"""Smallest value of the bucket -> how many values fell into it."""


def bucket(value: int) -> int:
    """Return the name of the bucket that holds `value` (at least 0)."""
    if value < 256:
        return max(value, 0)
    shift = value.bit_length() - 8
    return (value >> shift) << shift


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
