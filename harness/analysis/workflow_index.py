"""Which calls and attempts belong to each workflow, and which attempts to each call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.call_arrays import CallTimes, RowGroups, times_of_calls
from harness.analysis.replay_steps import PackedSteps
from harness.records.groups import WorkflowRecords
from harness.records.keys import NamesWorkflow
from harness.records.schema import Attempt, Workflow
from harness.store.column_values import Ints, ranges
from harness.store.columns import AttemptTable, CallTable

_KEY = ("cell", "repeat", "workflow", "execution")
_CALL_KEY = ("number", "phase", "branch", "call")


class WorkflowIndex:
    """The calls and attempts of each execution of each workflow.

    Executions are numbered from 0, ordered by cell, repeat, workflow and execution. `calls`,
    `attempts`: the tables with one more column, the `number` of the execution. `latest`: which
    executions are the highest of their workflow.
    """

    def __init__(
        self, calls: CallTable, attempts: AttemptTable, workflows: Sequence[Workflow]
    ) -> None:
        self._words = calls.words
        keys = [[table.column(name) for name in _KEY] for table in (calls, attempts)]
        keys.append([*self._columns(workflows)])
        ends = [[column.max(initial=0) for column in columns] for columns in keys]
        self._radix = np.array(ends, np.int64).max(axis=0) + 1
        packed = np.concatenate([self._packed(columns) for columns in keys])
        self._keys, numbers = np.unique(packed, return_inverse=True)
        numbers = numbers.astype(np.int32)
        self.calls = calls.with_columns(number=numbers[: len(calls)])
        after = numbers[len(calls) : len(calls) + len(attempts)]
        self.attempts = attempts.with_columns(number=after)
        of_workflow = self._keys // self._radix[3]
        self.latest = np.append(of_workflow[1:] != of_workflow[:-1], True)[: len(self._keys)]

    def __len__(self) -> int:
        """Return the number of executions."""
        return len(self._keys)

    def numbers_of(self, records: Sequence[NamesWorkflow]) -> NDArray[np.int64]:
        """Return the number of the execution of each record, which must be known."""
        return np.searchsorted(self._keys, self._packed(self._columns(records)))

    def cells_of(self, numbers: NDArray[np.int64]) -> list[str]:
        """Return the cell of each execution."""
        codes = self._keys[numbers] // self._radix[1:].prod()
        return [self._words.names[code] for code in codes.tolist()]

    def of(self, record: NamesWorkflow) -> WorkflowRecords:
        """Return the calls and attempts of the workflow that `record` belongs to."""
        number = int(self.numbers_of([record])[0])
        if number == len(self) or self._keys[number] != self._packed(self._columns([record]))[0]:
            return WorkflowRecords([], [])
        return WorkflowRecords(
            self.calls.records(self.call_rows.of(number)),
            self.attempts.records(self._attempt_rows.of(number)),
        )

    @cached_property
    def call_rows(self) -> RowsByNumber:
        """The rows of the calls of each execution."""
        return RowsByNumber(self.calls.column("number"), len(self))

    @cached_property
    def attempts_by_call(self) -> RowsByNumber:
        """The rows of the attempts of each call (by `call_numbers`), in order of their number."""
        _, of_attempts, count = self._call_numbers
        order = np.argsort(self.attempts.column("attempt"), kind="stable")
        return RowsByNumber(of_attempts, count, order)

    def call_numbers(self, table: CallTable | AttemptTable) -> NDArray[np.int32]:
        """Return the number of the call of each row: rows with the same call have the same."""
        of_calls, of_attempts, _ = self._call_numbers
        return (of_calls if isinstance(table, CallTable) else of_attempts)[table.places()]

    @cached_property
    def _call_numbers(self) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
        tables = (self.calls, self.attempts)
        packed: NDArray[np.int64] | None = None
        for name in _CALL_KEY:
            column = np.concatenate([table.column(name) for table in tables])
            if name == "branch":
                column = np.maximum(column, -1) + 1  # 0 for no branch
            if packed is None:
                packed = column.astype(np.int64)
            else:
                packed = packed * (int(column.max(initial=0)) + 1) + column
        assert packed is not None, "a key has columns"
        found, places = np.unique(packed, return_inverse=True)
        numbers: NDArray[np.int32] = places.astype(np.int32)
        return numbers[: len(self.calls)], numbers[len(self.calls) :], len(found)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Nanoseconds of each of `PARTS` of each call: those of `call_segments.tiles`.

        `ABSENT` for a call of one attempt whose times are not in order.
        """
        return self._times.lengths

    @property
    def steps(self) -> PackedSteps:
        """The steps of each call: those of `replay_steps.steps_of_call`."""
        return self._times.steps

    @cached_property
    def _times(self) -> CallTimes:
        numbers, tried = self.call_numbers(self.calls), self.attempts_by_call
        return times_of_calls(self.calls, self.attempts, tried.of_each(numbers), self.attempts_of)

    def attempts_of(self, rows: NDArray[np.int64]) -> list[list[Attempt]]:
        """Return the attempts of each of these calls, in order of their number."""
        tried = self.attempts_by_call
        numbers = self._call_numbers[0][rows]
        mine = tried.of_each(numbers)
        found = iter(self.attempts.records(mine.rows))
        return [list(islice(found, count)) for count in mine.counts.tolist()]

    @cached_property
    def _attempt_rows(self) -> RowsByNumber:
        return RowsByNumber(self.attempts.column("number"), len(self))

    def _columns(self, records: Iterable[NamesWorkflow]) -> NDArray[np.int64]:
        values = (
            (self._words[one.cell], one.repeat, one.workflow, one.execution) for one in records
        )
        return np.fromiter(chain.from_iterable(values), np.int64).reshape(-1, 4).T

    def _packed(self, columns: Sequence[NDArray[Any]] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return one number for each key; their order is that of the keys."""
        packed = columns[0].astype(np.int64)
        for column, radix in zip(columns[1:], self._radix[1:].tolist(), strict=True):
            packed = packed * radix + column
        keys: NDArray[np.int64] = packed
        return keys


class RowsByNumber:
    """The rows of each number from 0 to `count` - 1, in the order written or in that of `order`."""

    def __init__(
        self, numbers: NDArray[Any], count: int, order: NDArray[np.int64] | None = None
    ) -> None:
        if order is None:
            order = np.argsort(numbers, kind="stable")
        else:
            order = order[np.argsort(numbers[order], kind="stable")]
        self.order: NDArray[Any] = order.astype(np.int32)
        self.starts = np.searchsorted(numbers[order], np.arange(count + 1))

    def of(self, number: int) -> NDArray[np.int64]:
        """Return the rows of one number."""
        return self.order[self.starts[number] : self.starts[number + 1]]

    def of_each(self, numbers: Ints) -> RowGroups:
        """Return the rows of each of several numbers."""
        starts = self.starts[numbers]
        counts = self.starts[numbers + 1] - starts
        return RowGroups(self.order[ranges(starts, counts)], counts)
