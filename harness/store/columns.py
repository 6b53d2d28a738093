"""Attempts and calls in columns: the records of a long run in a tenth of the memory.

A table is a sequence of records. It holds NumPy arrays, one for each field, and makes a record when
one is read by its row. Fields that no statistic needs are left out: the provider's ids, and the
tokens of calls, which their attempts have too. Importing this module imports NumPy.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Generic, NamedTuple, Self, TypeVar, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.records.schema import Attempt, Backoff, Call, Decision, Tokens
from harness.store.column_values import (
    Bools,
    GrowingColumn,
    Words,
    integers,
    narrow,
    text_numbers,
    transposed,
    word_numbers,
)
from harness.store.compact_records import ABSENT
from harness.store.packed_histograms import PackedHistograms, pack_mappings, pack_texts

_R = TypeVar("_R", Attempt, Call)
_Columns = dict[str, NDArray[Any]]

_AT_ONCE = 1000

ANOMALY_MARK = " "
"""Joins the names of the anomalies of an attempt to one word."""


class _PackedBackoffs(NamedTuple):
    """The backoffs of many calls; those of row `i` are from `starts[i]` to `starts[i + 1]`."""

    starts: NDArray[np.int64]
    columns: _Columns


class ColumnBatch(NamedTuple):
    """The columns of some records; `counts`: how many rows of `packed` belong to each."""

    columns: _Columns
    counts: NDArray[np.signedinteger[Any]]
    packed: _Columns


class GrowingTable(Generic[_R]):
    """A table to which records are added."""

    def __init__(self, kind: type[ColumnTable[_R]], words: Words) -> None:
        self._kind: type[ColumnTable[_R]] = kind
        self._words = words
        self._columns = defaultdict[str, GrowingColumn](GrowingColumn)
        self._packed = defaultdict[str, GrowingColumn](GrowingColumn)
        self._counts = GrowingColumn()

    def add(self, records: Sequence[_R], expected: float = 1.0) -> None:
        """Add records; `expected`: how many times as many there will be in the end."""
        self._extend(self._kind._batch(records, self._words), expected)

    def add_batch(self, batch: ColumnBatch, words: Words, expected: float = 1.0) -> None:
        """Add records that are in columns, with these words; `expected`: as in `add`."""
        number = np.array([self._words[word] for word in words.names], np.int16)
        columns, packed = (
            {name: number[values] if name in mine else values for name, values in part.items()}
            for part, mine in (
                (batch.columns, self._kind.WORDS),
                (batch.packed, self._kind.PACKED_WORDS),
            )
        )
        for name in self._kind.WORDS:  # earlier versions did not have every column
            columns.setdefault(name, np.zeros(len(batch.counts), np.int16))
        self._extend(ColumnBatch(columns, batch.counts, packed), expected)

    def _extend(self, batch: ColumnBatch, expected: float) -> None:
        for name, values in batch.columns.items():
            is_time = name in self._kind.TIMES
            self._columns[name].add(values if is_time else narrow(values), expected)
        for name, values in batch.packed.items():
            self._packed[name].add(values, expected)
        self._counts.add(narrow(batch.counts), expected)

    def batch(self) -> ColumnBatch:
        """Return all that was added as one batch."""
        columns, packed = (
            {name: column.whole() for name, column in part.items()}
            for part in (self._columns, self._packed)
        )
        return ColumnBatch(columns, self._counts.whole(), packed)

    def table(self, source: Sequence[_R] | None = None) -> Any:
        """Return the table."""
        columns, counts, packed = self.batch()
        starts = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=starts[1:])
        return self._kind(self._words, columns, self._kind._pack(starts, packed), None, source)


class ColumnTable(Sequence[_R], Generic[_R]):
    """Records of one kind in columns; see `column`.

    `words`: the numbers of the words in its columns. Tables that are used together share them.
    """

    WORDS: tuple[str, ...]
    PACKED_WORDS: tuple[str, ...] = ()
    SMALL: tuple[str, ...]
    TIMES: tuple[str, ...]
    ALWAYS: frozenset[str] = frozenset()

    def __init__(
        self,
        words: Words,
        columns: _Columns,
        packed: Any,
        rows: NDArray[np.int64] | None = None,
        source: Sequence[_R] | None = None,
    ) -> None:
        """`packed`: the histograms or backoffs of all rows. `rows`: of a part of the table.

        `source`: the records themselves if the table was made of records.
        """
        self.words = words
        self.columns = columns
        self.packed = packed
        self.rows = rows
        self._source: Sequence[_R] | None = source

    @classmethod
    def of(cls, records: Iterable[_R], words: Words) -> Self:
        """Return a table of records."""
        source = list(records)
        growing = GrowingTable(cls, words)
        growing.add(source)
        table: Self = growing.table(source)
        return table

    @classmethod
    @abstractmethod
    def _batch(cls, records: Sequence[_R], words: Words) -> ColumnBatch:
        """Return the columns of some records."""

    @classmethod
    @abstractmethod
    def _pack(cls, starts: NDArray[np.int64], columns: _Columns) -> Any:
        """Return what `packed` is."""

    @abstractmethod
    def _records(self, rows: NDArray[np.int64]) -> list[_R]:
        """Make records of rows of the whole table."""

    def column(self, name: str) -> NDArray[Any]:
        """Return a column: integers with `ABSENT`, or the numbers of words. `ABSENT` is below 0."""
        whole = self.columns[name]
        return whole if self.rows is None else whole[self.rows]

    def places(self) -> NDArray[np.int64]:
        """Return the rows of the whole table that this part of it has."""
        return np.arange(len(self)) if self.rows is None else self.rows

    def where(self, name: str, condition: Callable[[str], bool]) -> Bools:
        """Return whether the word in a column meets a condition, by row."""
        found: Bools = self.words.holds(condition)[self.column(name)]
        return found

    def take(self, which: NDArray[Any]) -> Self:
        """Return some rows; `which`: their numbers or a mask."""
        return self._with(self.columns, self.places()[which], self._source)

    def with_columns(self, **columns: NDArray[Any]) -> Self:
        """Return the whole table with more or other columns."""
        assert self.rows is None, "a column has a value for each row of the whole table"
        same = not columns.keys() & self.columns.keys()
        return self._with(self.columns | columns, None, self._source if same else None)

    def _with(
        self, columns: _Columns, rows: NDArray[np.int64] | None, source: Sequence[_R] | None
    ) -> Self:
        return type(self)(self.words, columns, self.packed, rows, source)

    def records(self, which: NDArray[Any]) -> list[_R]:
        """Return the records of some rows, given by their numbers."""
        rows = which if self.rows is None else self.rows[which]
        if self._source is not None:
            return [self._source[row] for row in rows.tolist()]
        return self._records(rows)

    def _values(self, name: str, rows: NDArray[np.int64]) -> list[Any]:
        """Return the values of a field as in a record."""
        values = self.columns[name][rows].tolist()
        if name in self.WORDS:
            names = self.words.names
            return [names[value] for value in values]
        if name in self.ALWAYS:
            plain: list[Any] = values
            return plain
        return [None if value == ABSENT else value for value in values]

    def __len__(self) -> int:
        return len(self.columns["repeat"]) if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, at: int) -> _R: ...
    @overload
    def __getitem__(self, at: slice) -> list[_R]: ...
    def __getitem__(self, at: int | slice) -> _R | list[_R]:
        found = self.records(np.arange(len(self))[at if isinstance(at, slice) else [at]])
        return found if isinstance(at, slice) else found[0]

    def __iter__(self) -> Iterator[_R]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self.records(np.arange(start, min(start + _AT_ONCE, len(self))))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


_KEY_WORDS = ("cell", "phase", "outcome")
_KEY_NUMBERS = ("repeat", "workflow", "execution", "branch", "call")
_TOKENS = Tokens.__struct_fields__
_TEXTS = ("response_model", "error_body")
"""Texts of the server, of which a table keeps a limited number."""


class AttemptTable(ColumnTable[Attempt]):
    """Attempts in columns. The tokens have columns of their own, and so has the decision."""

    WORDS = (*_KEY_WORDS, "finish_reason", "source", "give_up", "anomalies", *_TEXTS)
    SMALL = (*_KEY_NUMBERS, "attempt", "status", "chunks", "hedge", *_TOKENS)
    TIMES = (
        "ready", "permit_requested", "permit_granted", "sent", "headers", "first_reasoning",
        "first_answer", "last_token", "done",
    )  # fmt: skip

    @property
    def gaps(self) -> PackedHistograms:
        """The gaps of each row of the whole table."""
        gaps: PackedHistograms = self.packed
        return gaps

    def without_gaps(self) -> AttemptTable:
        """Return the whole table with empty histograms: gaps are almost half of its memory."""
        nothing = np.empty(0, np.uint16)
        packed = PackedHistograms(np.zeros(len(self) + 1, np.int64), nothing, nothing)
        return AttemptTable(self.words, self.columns, packed)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column as the table does, also `first_text`."""
        if name != "first_text":
            return super().column(name)
        reasoning, answer = self.column("first_reasoning"), self.column("first_answer")
        earlier = np.minimum(reasoning, answer)
        first: NDArray[np.int64] = np.where(
            earlier == ABSENT, np.maximum(reasoning, answer), earlier
        )
        return first

    def decisions(self) -> list[tuple[tuple[int, int, int, int], int]]:
        """Return how often a policy decided what: (cell, is a retry, source, reason) and a count.

        The cell, the source of the wait and the reason to give up are numbers of words.
        """
        is_retry = self.column("retry_in") != ABSENT
        source, reason = self.column("source"), self.column("give_up")
        rows = np.flatnonzero(is_retry | (source > 0) | (reason > 0))
        said = np.stack([self.column("cell"), is_retry.astype(np.int16), source, reason])[:, rows]
        found, counts = np.unique(said, axis=1, return_counts=True)
        return list(zip(map(tuple, found.T.tolist()), counts.tolist(), strict=True))

    @classmethod
    def _batch(cls, records: Sequence[Attempt], words: Words) -> ColumnBatch:
        numbers = (*_KEY_NUMBERS, "attempt", "status", "chunks", "hedge", *cls.TIMES, "retry_after")
        of_words = (*_KEY_WORDS, "finish_reason")
        values = transposed(records)
        columns: _Columns = {name: integers(values[name]) for name in numbers}
        columns |= {name: word_numbers(values[name], words) for name in of_words}
        columns |= {name: text_numbers(values[name], words) for name in _TEXTS}
        columns["anomalies"] = word_numbers(
            [ANOMALY_MARK.join(names) or None for names in values["anomalies"]], words
        )
        counts = transposed(values["tokens"])
        columns |= {name: integers(counts[name]) for name in _TOKENS}
        decisions = values["decision"]
        made = {at: one for at, one in enumerate(decisions) if one is not None}
        rows = np.fromiter(made, np.int64, len(made))
        for name in ("source", "give_up"):
            columns[name] = np.zeros(len(records), np.int16)
            columns[name][rows] = word_numbers([getattr(one, name) for one in made.values()], words)
        columns["retry_in"] = np.full(len(records), ABSENT, np.int64)
        columns["retry_in"][rows] = integers([one.retry_in for one in made.values()])
        gaps: Any = values["gaps"]
        is_text = bool(gaps) and isinstance(gaps[0], msgspec.Raw)
        return ColumnBatch(columns, *(pack_texts(gaps) if is_text else pack_mappings(gaps)))

    @classmethod
    def _pack(cls, starts: NDArray[np.int64], columns: _Columns) -> PackedHistograms:
        return PackedHistograms(starts, columns["numbers"], columns["counts"])

    def _records(self, rows: NDArray[np.int64]) -> list[Attempt]:
        plain = (*_KEY_NUMBERS, "attempt", "status", "chunks", *self.TIMES, "retry_after",
                 *_KEY_WORDS, "finish_reason", *_TEXTS)  # fmt: skip
        columns = [self._values(name, rows) for name in plain]
        tokens = zip(*(self._values(name, rows) for name in _TOKENS), strict=True)
        anomalies = [
            tuple(names.split(ANOMALY_MARK)) if names else ()
            for names in self._values("anomalies", rows)
        ]
        decisions = zip(
            *(self._values(name, rows) for name in ("retry_in", "source", "give_up")), strict=True
        )
        return [
            Attempt(
                **dict(zip(plain, values, strict=True)),
                hedge=bool(hedge),
                tokens=Tokens(**dict(zip(_TOKENS, counts, strict=True))),
                decision=None if decision == (None, None, None) else _decision(*decision),
                gaps=self.gaps.of(row),
                anomalies=odd,
            )
            for row, hedge, counts, decision, odd, values in zip(
                rows.tolist(), self._values("hedge", rows), tokens, decisions, anomalies,
                zip(*columns, strict=True), strict=True,
            )
        ]  # fmt: skip


class CallTable(ColumnTable[Call]):
    """Calls in columns."""

    WORDS = _KEY_WORDS
    PACKED_WORDS = ("source",)
    SMALL = (*_KEY_NUMBERS, "attempts")
    TIMES = ("ready", "done")
    ALWAYS = frozenset({*SMALL, *TIMES} - {"branch"})

    @property
    def backoffs(self) -> _PackedBackoffs:
        """The backoffs of each row of the whole table."""
        backoffs: _PackedBackoffs = self.packed
        return backoffs

    @classmethod
    def _batch(cls, records: Sequence[Call], words: Words) -> ColumnBatch:
        values = transposed(records)
        columns: _Columns = {name: word_numbers(values[name], words) for name in cls.WORDS}
        columns |= {name: integers(values[name]) for name in (*cls.SMALL, *cls.TIMES)}
        counts = list(map(len, values["backoffs"]))
        waits = list(chain.from_iterable(values["backoffs"]))
        packed: _Columns = {
            name: integers([getattr(wait, name) for wait in waits]) for name in _WAIT_TIMES
        }
        packed["source"] = word_numbers([wait.source for wait in waits], words)
        return ColumnBatch(columns, np.array(counts, np.int64), packed)

    @classmethod
    def _pack(cls, starts: NDArray[np.int64], columns: _Columns) -> _PackedBackoffs:
        return _PackedBackoffs(starts, columns)

    def _records(self, rows: NDArray[np.int64]) -> list[Call]:
        plain = (*self.SMALL, *self.TIMES, *self.WORDS)
        columns = [self._values(name, rows) for name in plain]
        starts = self.backoffs.starts
        waits = zip(starts[rows].tolist(), starts[rows + 1].tolist(), strict=True)
        repeat, workflow, execution, branch, call, attempts, ready, done, cell, phase, outcome = (
            columns
        )
        return [
            Call(
                cell=c, repeat=r, workflow=w, execution=e, phase=p, branch=b, call=n, ready=at,
                done=end, outcome=o, attempts=a,
                backoffs=() if first == last else self._backoffs(slice(first, last)),
            )
            for c, r, w, e, p, b, n, at, end, o, a, (first, last) in zip(
                cell, repeat, workflow, execution, phase, branch, call, ready, done, outcome,
                attempts, waits, strict=True,
            )
        ]  # fmt: skip

    def _backoffs(self, which: slice) -> tuple[Backoff, ...]:
        columns = self.backoffs.columns
        source = [self.words.names[number] for number in columns["source"][which].tolist()]
        times = zip(*(columns[name][which].tolist() for name in _WAIT_TIMES), strict=True)
        return tuple(
            Backoff(start=start, end=end, planned=planned, source=word)
            for (start, end, planned), word in zip(times, source, strict=True)
        )


def _decision(wait: int | None, source: Any, reason: str | None) -> Decision:
    return Decision(retry_in=wait, source=source, give_up=reason)


_WAIT_TIMES = ("start", "end", "planned")
