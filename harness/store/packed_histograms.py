"""The histograms of many records in arrays, parsed from JSON thousands at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import methodcaller
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.records.errors import StorageError
from harness.records.histogram import BatchedHistogram, Packed

_Columns = dict[str, NDArray[Any]]


class PackedHistograms(NamedTuple):
    """The histograms of many rows.

    The buckets of row `i` are those from `starts[i]` to `starts[i + 1]`. `numbers`: the indices of
    the buckets (see `histogram.bucket_number`); `counts`: how many values fell into each.
    """

    starts: NDArray[np.int64]
    numbers: NDArray[np.uint16]
    counts: NDArray[np.unsignedinteger[Any]]

    def of(self, row: int) -> Packed:
        """Return the histogram of one row."""
        mine = slice(self.starts[row], self.starts[row + 1])
        counts = self.counts[mine]
        return Packed.of(self.numbers[mine].tobytes(), counts.tobytes(), counts.dtype.char)


class UnusualTextError(StorageError):
    """The text of a histogram is not as this version writes it."""


_UNUSUAL = "the gaps of an attempt are not counts of nanoseconds"


_PADDING = b"0" * 24
_ZEROS, _HIGH_HALVES = np.uint64(0x3030303030303030), np.uint64(0xF0F0F0F0F0F0F0F0)


def pack_mappings(histograms: Sequence[Mapping[int, int]]) -> tuple[NDArray[np.int64], _Columns]:
    """Pack histograms: return the number of buckets of each, and all buckets.

    Raises StorageError for a number below 0.
    """
    for kind in set(map(type, histograms)):
        if issubclass(kind, BatchedHistogram):
            return _pack_batched(histograms, kind)
    sizes = np.fromiter(map(len, histograms), np.int64, len(histograms))
    total = int(sizes.sum())
    names = np.fromiter(chain.from_iterable(histograms), np.int64, total)
    each = map(methodcaller("values"), histograms)
    counts = np.fromiter(chain.from_iterable(each), np.int64, total)
    if names.min(initial=0) < 0 or counts.min(initial=0) < 0:
        raise StorageError(_UNUSUAL)
    return sizes, _buckets(bucket_numbers(names), counts)


def _pack_batched(
    histograms: Sequence[Mapping[int, int]], kind: type[BatchedHistogram]
) -> tuple[NDArray[np.int64], _Columns]:
    """Pack histograms, of which those of one kind are computed together."""
    is_batched = np.array([type(one) is kind for one in histograms])
    names, counts = kind.arrays([one for one in histograms if type(one) is kind])
    names = np.where(counts > 0, names, names[:, :1])
    # Sorted by bucket, so that the counts of one bucket can be added.
    pairs = np.sort(bucket_numbers(names).astype(np.int64) << 32 | counts)
    numbers = pairs >> 32
    is_first = np.diff(numbers, prepend=-1) > 0
    sums = np.add.reduceat((pairs & 0xFFFFFFFF).ravel(), np.flatnonzero(is_first))
    sizes = np.empty(len(histograms), np.int64)
    sizes[is_batched] = is_first.sum(axis=1)
    sizes[~is_batched], others = pack_mappings([one for one in histograms if type(one) is not kind])
    of_kind = np.repeat(is_batched, sizes)
    all_numbers, all_counts = np.empty((2, len(of_kind)), np.int64)
    all_numbers[of_kind], all_numbers[~of_kind] = numbers[is_first], others["numbers"]
    all_counts[of_kind], all_counts[~of_kind] = sums, others["counts"]
    return sizes, _buckets(all_numbers, all_counts)


def pack_texts(parts: Sequence[msgspec.Raw]) -> tuple[NDArray[np.int64], _Columns]:
    """Pack histograms that are given as JSON, as `pack_mappings` does.

    To parse thousands at once with arrays takes a third of the time that it takes to decode each
    into a dictionary: histograms are most of the bytes of a run.
    """
    text = b"".join([_PADDING, *parts])
    ends = len(_PADDING) + np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)))
    letters = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(letters == ord('"'))
    opened_at, closed_at = quotes[::2], quotes[1::2]
    if len(opened_at) != len(closed_at) or (letters[ends - 1] != ord("}")).any():
        raise UnusualTextError(_UNUSUAL)
    starts = np.concatenate([[0], np.searchsorted(opened_at, ends)])
    # A count ends before the comma before the next name, the last one before the brace.
    after = np.empty(len(opened_at), np.int64)
    after[:-1] = opened_at[1:] - 1
    is_full = np.diff(starts) > 0
    after[starts[1:][is_full] - 1] = ends[is_full] - 1
    names = _parsed(text, closed_at, closed_at - opened_at - 1)
    counts = _parsed(text, after, after - closed_at - 2)
    return np.diff(starts), _buckets(bucket_numbers(names), counts)


def _buckets(numbers: NDArray[Any], counts: NDArray[np.int64]) -> _Columns:
    widest = np.min_scalar_type(int(counts.max(initial=0)))
    return {"numbers": numbers.astype(np.uint16, copy=False), "counts": counts.astype(widest)}


def _parsed(text: bytes, ends: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of `widths` digits that end before `ends`: eight digits at a time."""
    windows = np.ndarray((len(text) - 7,), "<u8", text, strides=(1,))
    total = np.zeros(len(ends), np.int64)
    if not len(ends):
        return total
    if widths.min() < 1 or widths.max() > 19:
        raise UnusualTextError(_UNUSUAL)
    for place in range(0, int(widths.max()), 8):
        here = np.clip(widths - place, 0, 8)
        unused = (8 * (8 - np.maximum(here, 1))).astype(np.uint64)
        digits = windows[ends - place - 8] >> unused << unused
        is_other = (digits ^ (_ZEROS >> unused << unused)) & _HIGH_HALVES != 0
        if (is_other & (here > 0)).any():
            raise UnusualTextError(_UNUSUAL)
        digits = digits & ~_HIGH_HALVES
        # Join neighbours: digits to pairs, to fours, to all eight.
        digits = (digits * np.uint64(10) + (digits >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
        digits = (digits * np.uint64(100) + (digits >> np.uint64(16))) & np.uint64(0xFFFF0000FFFF)
        digits = (digits * np.uint64(10_000) + (digits >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
        total += np.where(here > 0, digits.astype(np.int64), 0) * 10**place
    return total


def bucket_numbers(names: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Return `histogram.bucket_number` of each name."""
    shifts = np.maximum(np.frexp(names.astype(np.float64))[1] - 8, 0)
    numbers: NDArray[np.uint16] = (128 * shifts + (names >> shifts)).astype(np.uint16)
    return numbers
