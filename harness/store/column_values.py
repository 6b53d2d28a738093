"""The values of columns: integers in which a number stands for None, and numbers of words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.store.compact_records import ABSENT

Ints = NDArray[np.signedinteger[Any]]
Bools = NDArray[np.bool_]

_LARGEST = 2**63 - 1


class Words(dict[str | None, int]):
    """Numbers words as they occur, so that a column can hold them; None has 0."""

    def __init__(self) -> None:
        super().__init__({None: 0})
        self.names: list[Any] = [None]

    def __missing__(self, word: str | None) -> int:
        self[word] = number = len(self.names)
        self.names.append(word)
        return number

    def holds(self, condition: Callable[[str], bool]) -> Bools:
        """Return for each number whether its word meets a condition; None does not."""
        return np.array([False, *map(condition, self.names[1:])])


class GrowingColumn:
    """A column that grows at its end, in one block: many small ones would fragment the memory."""

    def __init__(self) -> None:
        self._data: NDArray[Any] | None = None
        self._length = 0

    def add(self, values: NDArray[Any], expected: float) -> None:
        """Add values; `expected`: how many times as long the whole column will be as now."""
        if self._data is None:
            self._data = np.empty(0, values.dtype)
        kind = np.promote_types(self._data.dtype, values.dtype)
        if kind != self._data.dtype:
            self._data = self._data.astype(kind)
        end = self._length + len(values)
        if end > len(self._data):
            self._data.resize(int(end * expected) + 1, refcheck=False)
        self._data[self._length : end] = values
        self._length = end

    def whole(self) -> NDArray[Any]:
        """Return the column."""
        assert self._data is not None, "at least an empty batch was added"
        self._data.resize(self._length, refcheck=False)
        return self._data


def transposed(records: Sequence[msgspec.Struct]) -> dict[str, Sequence[Any]]:
    """Return the values of each field of records of one type."""
    if not records:
        return defaultdict(tuple)
    names = records[0].__struct_fields__
    return dict(zip(names, zip(*map(msgspec.structs.astuple, records), strict=True), strict=True))


def integers(values: Sequence[int | None]) -> NDArray[np.int64]:
    """Return integers as a column; None is `ABSENT`, and a larger number is the largest."""
    try:
        if _are_equal(values):
            same = values[0]
            return np.full(len(values), ABSENT if same is None else same, np.int64)
        return np.array(values, np.int64)
    except (TypeError, OverflowError):
        return np.array(
            [ABSENT if value is None else min(value, _LARGEST) for value in values], np.int64
        )


def word_numbers(values: Sequence[str | None], words: Words) -> NDArray[np.int16]:
    """Return the numbers of words as a column."""
    if _are_equal(values):
        return np.full(len(values), words[values[0]], np.int16)
    return np.fromiter(map(words.__getitem__, values), np.int16, len(values))


def text_numbers(values: Sequence[str | None], words: Words) -> NDArray[np.int16]:
    """Return the numbers of texts of a server as a column.

    When there are too many words, a new text becomes None, so that the numbers fit the column.
    """
    if len(words.names) + len(values) > _MOST_WORDS:
        known = {value for value in set(values) if value in words}
        room = max(_MOST_WORDS - len(words.names), 0)
        known.update([value for value in dict.fromkeys(values) if value not in known][:room])
        values = [value if value in known else None for value in values]
    return word_numbers(values, words)


_MOST_WORDS = 4096


def _are_equal(values: Sequence[Any]) -> bool:
    """Return whether all values are equal, which is faster to see than to convert them."""
    if not values or values[0] != values[-1]:
        return False
    return values.count(values[0]) == len(values)


def narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Return integers in the smallest type of at least 16 bits that holds them and one more."""
    if values.dtype != np.int64:
        return values
    low, high = values.min(initial=0), values.max(initial=0)
    for kind in (np.int16, np.int32):
        if low >= np.iinfo(kind).min and high < np.iinfo(kind).max:
            return values.astype(kind)
    return values


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers from each start on, as many as its count, one after another."""
    before = np.cumsum(counts) - counts
    numbers: NDArray[np.int64] = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
    return numbers
