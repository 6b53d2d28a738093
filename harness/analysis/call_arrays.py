"""The parts and the steps of all calls of a run, computed with arrays.

A call whose attempts and backoffs follow one another needs no records, which saves nine tenths of
its time. The others are computed one by one, as `call_segments` and `replay_steps` define it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.call_segments import PARTS, lengths_of_call
from harness.analysis.replay_steps import PackedSteps, steps_of_call
from harness.records.failures import OK
from harness.records.schema import Attempt
from harness.store.column_values import Bools, Ints, ranges
from harness.store.columns import AttemptTable, CallTable
from harness.store.compact_records import ABSENT

_AT_ONCE, _FEW = 50_000, 1000
_OTHER = PARTS.index("other")

_Int64s = NDArray[np.int64]


class RowGroups(NamedTuple):
    """Rows of several groups, one group after another; `counts`: how many rows each has."""

    rows: Ints
    counts: _Int64s

    def of(self, which: _Int64s) -> RowGroups:
        """Return some of the groups."""
        starts, counts = np.cumsum(self.counts) - self.counts, self.counts[which]
        return RowGroups(self.rows[ranges(starts[which], counts)], counts)


class CallTimes(NamedTuple):
    """The parts and the steps of each call; see `WorkflowIndex`."""

    lengths: _Int64s
    steps: PackedSteps


class _StepsOfSome(NamedTuple):
    """The steps of the calls in `rows`, of which each has as many as its count."""

    rows: _Int64s
    counts: _Int64s
    services: _Int64s
    backoffs: _Int64s


def times_of_calls(
    calls: CallTable,
    attempts: AttemptTable,
    tried: RowGroups,
    attempts_of: Callable[[_Int64s], list[list[Attempt]]],
) -> CallTimes:
    """Return the times of all calls.

    `tried`: the rows of the attempts of each call, by number. `attempts_of`: reads their records.
    """
    lengths = np.full((len(calls), len(PARTS)), ABSENT, np.int64)
    is_done = np.zeros(len(calls), np.bool_)
    steps: list[_StepsOfSome] = []
    waits = np.diff(calls.backoffs.starts)
    alternating = np.flatnonzero((tried.counts > 0) & (waits == tried.counts - 1))
    for start in range(0, len(alternating), _AT_ONCE):
        some = alternating[start : start + _AT_ONCE]
        serial = _AlternatingCalls(calls, attempts, some, tried.of(some))
        lengths[some] = serial.lengths()
        is_done[some] = serial.is_serial
        steps.append(serial.steps())
    others = np.flatnonzero(~is_done)
    for start in range(0, len(others), _FEW):
        few = others[start : start + _FEW]
        records = list(zip(calls.records(few), attempts_of(few), strict=True))
        lengths[few] = [lengths_of_call(call, mine) for call, mine in records]
        found = [steps_of_call(call, mine) for call, mine in records]
        pairs = np.array([*chain.from_iterable(found)], np.int64).reshape(-1, 2)
        counts = np.array([*map(len, found)], np.int64)
        steps.append(_StepsOfSome(few, counts, pairs[:, 0], pairs[:, 1]))
    return CallTimes(lengths, _packed(len(calls), steps))


def _packed(count: int, parts: list[_StepsOfSome]) -> PackedSteps:
    """Join the steps of all calls, `count` of them."""
    counts = np.zeros(count, np.int64)
    for part in parts:
        counts[part.rows] = part.counts
    starts = np.concatenate([[0], np.cumsum(counts)])
    services, backoffs = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.int64)
    for part in parts:
        places = ranges(starts[part.rows], part.counts)
        services[places], backoffs[places] = part.services, part.backoffs
    return PackedSteps(starts, services, backoffs)


class _AlternatingCalls:
    """Calls that have one backoff fewer than attempts.

    `is_serial`: which of them are one attempt that ended as the call, or attempts with a backoff
    between every two and nothing at the same time.
    """

    def __init__(
        self, calls: CallTable, attempts: AttemptTable, rows: _Int64s, tried: RowGroups
    ) -> None:
        self._rows = rows
        self._tried = tried
        self._calls, self._attempts = calls.take(rows), attempts.take(tried.rows)
        self._starts = np.cumsum(tried.counts) - tried.counts
        self._pauses = ranges(calls.backoffs.starts[rows], tried.counts - 1)
        self._parts, self._end = _parts_of_attempts(self._attempts)
        self.is_serial = self._are_serial()

    def lengths(self) -> _Int64s:
        """Return the parts of each call; `ABSENT` where its times are not in order."""
        calls, last = self._calls, self._starts + self._tried.counts - 1
        ready, done = calls.column("ready"), calls.column("done")
        lengths: _Int64s = np.add.reduceat(self._parts, self._starts, axis=0)
        waits = self._pause("end") - self._pause("start")
        owners = np.repeat(np.arange(len(self._rows)), self._tried.counts - 1)
        np.add.at(lengths[:, PARTS.index("backoff")], owners, waits)
        lengths[:, _OTHER] = done - ready - lengths.sum(axis=1)
        in_order = np.logical_and.reduceat((self._parts >= 0).all(axis=1), self._starts)
        in_order &= self._attempts.column("permit_requested")[self._starts] >= ready
        in_order &= self._end[last] <= done
        lengths[~(in_order & self.is_serial)] = ABSENT
        return lengths

    def steps(self) -> _StepsOfSome:
        """Return the steps of the calls that are serial."""
        tried = self._attempts
        sent, done = tried.column("sent"), tried.column("done")
        services = done - np.where(sent == ABSENT, tried.column("permit_granted"), sent)
        backoffs = np.zeros(len(services), np.int64)
        slept = self._pause("end") - self._pause("start")
        backoffs[self._later - 1] = np.minimum(self._pause("planned"), slept)
        mine = np.repeat(self.is_serial, self._tried.counts)
        return _StepsOfSome(
            self._rows[self.is_serial], self._tried.counts[self.is_serial], services[mine],
            backoffs[mine],
        )  # fmt: skip

    @property
    def _later(self) -> _Int64s:
        """The places of the attempts that are not the first of their call: one for each pause."""
        is_first = np.zeros(len(self._attempts), np.bool_)
        is_first[self._starts] = True
        return np.flatnonzero(~is_first)

    def _pause(self, name: str) -> NDArray[np.int64]:
        return self._calls.backoffs.columns[name][self._pauses]

    def _are_serial(self) -> Bools:
        tried, calls, starts = self._attempts, self._calls, self._starts
        later = self._later
        done = tried.column("done")
        is_fine = (self._parts >= 0).all(axis=1) & (self._end <= done)
        is_fine &= tried.column("hedge") == 0
        start, end = self._pause("start"), self._pause("end")
        is_fine[later] &= (done[later - 1] <= start) & (start <= end)
        is_fine[later] &= end <= tried.column("permit_requested")[later]
        is_fine[later] &= end < done[later]  # else the end of the call is a wait for a permit
        is_fine[later] &= self._pause("source") != calls.words.get("breaker", 0)
        last = starts + self._tried.counts - 1
        is_serial: Bools = np.logical_and.reduceat(is_fine, starts)
        is_serial &= tried.column("permit_requested")[starts] >= calls.column("ready")
        is_serial &= done[last] <= calls.column("done")
        is_serial |= self._tried.counts == 1
        is_serial &= tried.column("outcome")[last] == calls.column("outcome")
        return is_serial


def _parts_of_attempts(tried: AttemptTable) -> tuple[_Int64s, _Int64s]:
    """Return the nanoseconds of each of `PARTS` without `other` of each attempt, and their end."""
    requested, granted = tried.column("permit_requested"), tried.column("permit_granted")
    sent, first, last = tried.column("sent"), tried.column("first_text"), tried.column("last_token")
    answer = tried.column("first_answer")
    answer = np.where(answer == ABSENT, last, answer)
    is_sent, is_ok = sent != ABSENT, tried.where("outcome", OK.__eq__)
    is_failed = is_sent & ~is_ok
    has_text = is_sent & is_ok & (first != ABSENT) & (last != ABSENT)
    done = tried.column("done")
    parts = {
        "permit_wait": granted - requested,
        "client_wait": np.where(is_sent, sent - granted, 0),
        "failed_attempts": np.where(is_failed, done - sent, 0),
        "to_first_token": np.where(has_text, first - sent, 0),
        "reasoning": np.where(has_text, answer - first, 0),
        "answer": np.where(has_text, last - answer, 0),
    }
    nothing = np.zeros(len(tried), np.int64)
    lengths = np.stack([parts.get(part, nothing) for part in PARTS], axis=1)
    end = np.select([is_failed, has_text, is_sent], [done, last, sent], granted)
    return lengths, end
