"""The critical paths and the work of plain workflows, computed with arrays.

A plain workflow is a sequence of phases, each of which is a sequence of calls or a fan-out with one
call in each branch. So are the workflows of every kind here, and with arrays they take a tenth of
the time of their trees. `critical_path` and `replay` define the results, for any workflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.call_segments import PARTS, PROGRAM_PART
from harness.analysis.replay_steps import ReplayChain, ReplayFork, ReplayStep
from harness.analysis.workflow_index import WorkflowIndex
from harness.records.failures import CANCELLED
from harness.records.schema import Workflow
from harness.store.column_values import Bools, Words
from harness.store.compact_records import ABSENT

_AT_ONCE = 10_000
_LATEST = np.iinfo(np.int64).max
_OTHER = PARTS.index("other")
_Int64s = NDArray[np.int64]


class _Phases(NamedTuple):
    """The phases of workflows in order; `owner`: the place of their workflow."""

    owner: _Int64s
    start: _Int64s
    end: _Int64s
    name: _Int64s
    is_nested: Bools

    @classmethod
    def of(cls, workflows: Sequence[Workflow], words: Words) -> _Phases:
        """Return the phases of some workflows."""
        every = list(chain.from_iterable(workflow.phases for workflow in workflows))
        counts = [len(workflow.phases) for workflow in workflows]
        names = np.array([words[phase.name] for phase in every], np.int64)
        nested = [phase.parent is not None or phase.branch is not None for phase in every]
        start, end = (
            np.fromiter(map(attrgetter(name), every), np.int64, len(every))
            for name in ("start", "end")
        )
        return cls(
            np.repeat(np.arange(len(workflows)), counts), start, end, names,
            np.array(nested, np.bool_),
        )  # fmt: skip


class _Calls(NamedTuple):
    """Calls of workflows, phase by phase; a sequence in order of time, a fan-out by branch.

    `phase`: the place of their phase.
    """

    row: _Int64s
    phase: _Int64s
    ready: _Int64s
    done: _Int64s
    branch: _Int64s
    is_cancelled: Bools

    def of(self, which: _Int64s | Bools) -> _Calls:
        """Return some of the calls."""
        return _Calls._make(column[which] for column in self)


class PlainWorkflows:
    """The plain ones of some workflows. `is_plain`: which are."""

    def __init__(self, index: WorkflowIndex, workflows: Sequence[Workflow]) -> None:
        self._index = index
        self._ready = np.array([workflow.ready for workflow in workflows], np.int64)
        self._done = np.array([workflow.done for workflow in workflows], np.int64)
        self._phases = _Phases.of(workflows, index.calls.words)
        self.is_plain = np.ones(len(workflows), np.bool_)
        self._check_phases()
        self._calls = self._place_calls(workflows)
        self._check_calls()

    def parts(self) -> dict[str, int]:
        """Return the nanoseconds on the paths of each of `call_segments.PATH_PARTS`."""
        calls = self._calls
        on_path = calls.branch == ABSENT
        for places, last in self._forks():
            on_path[places[self._waited_for(places, last)]] = True
        total = self._index.lengths[calls.row[on_path]].sum(axis=0)
        whole = int((self._done - self._ready)[self.is_plain].sum())
        parts = dict(zip(PARTS, total.tolist(), strict=True))
        return {**parts, PROGRAM_PART: whole - sum(parts.values())}

    def phases(self) -> dict[str, int]:
        """Return the nanoseconds of each phase that took time."""
        phases, names = self._phases, self._index.calls.words.names
        mine = self.is_plain[phases.owner]
        total = {}
        for name in np.unique(phases.name[mine]).tolist():
            which = mine & (phases.name == name)
            total[names[name]] = int((phases.end[which] - phases.start[which]).sum())
        return {name: length for name, length in total.items() if length}

    def held_by(self) -> dict[str, int]:
        """Return the number of fan-outs by `Straggler.because`, or `other` for None."""
        held = np.zeros(len(PARTS), np.int64)
        for places, last in self._forks():
            held += np.bincount(self._because(places, last), minlength=len(PARTS))
        return dict(zip(PARTS, held.tolist(), strict=True))

    def chains(self, permit_scope: str) -> Iterator[ReplayChain | None]:
        """Yield the work of each workflow, as `replay` defines it; None if it is not plain."""
        calls = self._calls
        packed = self._index.steps.of(calls.row)
        if permit_scope == "call":
            packed = packed.as_one()
        first = _starts_of(calls.phase)
        is_lane = calls.branch != ABSENT  # a sequence is a lane, and so is a branch
        is_lane[first] = True
        steps = iter(packed.steps())
        ends = packed.starts[np.append(np.flatnonzero(is_lane), len(calls.row))]
        sizes = iter(np.diff(ends).tolist())
        counts = np.append(np.cumsum(is_lane) - is_lane, is_lane.sum())
        lanes_of_phase = iter(np.diff(counts[np.append(first, len(calls.row))]).tolist())
        owners = self._phases.owner[calls.phase[first]]
        phases = np.bincount(owners, minlength=len(self.is_plain)).tolist()
        for is_plain, with_calls in zip(self.is_plain.tolist(), phases, strict=True):
            if not is_plain:
                yield None
                continue
            work: list[ReplayStep | ReplayFork] = []
            for count in islice(lanes_of_phase, with_calls):
                lanes = (tuple(islice(steps, size)) for size in islice(sizes, count))
                parallel = tuple(lane for lane in lanes if lane)
                if len(parallel) > 1:
                    work.append(ReplayFork(parallel))
                elif parallel:
                    work += parallel[0]
            yield tuple(work)

    def _check_phases(self) -> None:
        """Keep workflows whose phases are not nested, and follow one another."""
        phases = self._phases
        is_bad = phases.is_nested | (phases.end < phases.start)
        is_bad |= phases.start < self._ready[phases.owner]
        is_bad |= phases.end > self._done[phases.owner]
        is_bad[1:] |= _same(phases.owner) & (phases.start[1:] < phases.end[:-1])
        self.is_plain[phases.owner[is_bad]] = False

    def _place_calls(self, workflows: Sequence[Workflow]) -> _Calls:
        """Return the calls of the workflows that are plain so far, each placed in its phase."""
        index = self._index
        mine = index.call_rows.of_each(index.numbers_of(workflows))
        self.is_plain &= mine.counts > 0
        owner = np.repeat(np.arange(len(workflows)), mine.counts)
        names = ("ready", "done", "branch", "call", "phase", "outcome")
        ready, done, branch, number, phase, outcome = (
            index.calls.columns[name][mine.rows] for name in names
        )
        placed = self._phases_of(owner, ready, phase)
        self.is_plain[owner[placed < 0]] = False
        is_cancelled = outcome == index.calls.words.get(CANCELLED, 0)
        calls = _Calls(mine.rows, placed, ready, done, branch, is_cancelled)
        order = np.lexsort((number, done, np.where(branch == ABSENT, ready, branch), placed))
        return calls.of(order[self.is_plain[owner[order]]])

    def _phases_of(self, owner: _Int64s, ready: _Int64s, name: _Int64s) -> _Int64s:
        """Return the last phase of its name that had started when each call was ready, or -1."""
        phases, words = self._phases, len(self._index.calls.words)
        count = len(phases.owner)
        key = np.concatenate([phases.owner * words + phases.name, owner * words + name])
        order = np.lexsort((np.concatenate([phases.start, ready]), key))  # phases before calls
        is_phase = order < count
        before = np.maximum.accumulate(np.where(is_phase, np.arange(len(order)), -1))
        found = np.where(before < 0, -1, order[before])
        found[key[found] != key[order]] = -1
        placed = np.empty(len(owner), np.int64)
        placed[order[~is_phase] - count] = found[~is_phase]
        return placed

    def _check_calls(self) -> None:
        """Keep workflows whose calls are within their phase, as a sequence or as branches."""
        calls, phases = self._calls, self._phases
        is_bad = (calls.done < calls.ready) | (calls.done > phases.end[calls.phase])
        # A call that took no time may belong to a phase of the same name that ended right before.
        is_bad |= (calls.done == calls.ready) & (calls.ready == phases.start[calls.phase])
        is_bad |= self._index.lengths[calls.row, 0] == ABSENT
        branch = calls.branch
        follows = (branch[1:] == ABSENT) & (calls.ready[1:] >= calls.done[:-1])
        beside = (branch[:-1] != ABSENT) & (branch[1:] > branch[:-1])
        is_bad[1:] |= _same(calls.phase) & ~np.where(branch[:-1] == ABSENT, follows, beside)
        owner = phases.owner[calls.phase]
        self.is_plain[owner[is_bad]] = False
        self._calls = calls.of(self.is_plain[owner])

    def _waited_for(self, places: _Int64s, last: _Int64s) -> Bools:
        """Return which branches of fan-outs are on the path.

        The last one is; and if it started later than others, so is the last one that ended before.
        """
        ready, done = self._calls.ready[places], self._calls.done[places]
        found = np.zeros(places.shape, np.bool_)
        start = ready.min(axis=1)
        rows, columns = np.arange(len(places)), last
        while len(rows):
            found[rows, columns] = True
            done[rows, columns] = _LATEST  # not found again
            began = ready[rows, columns]
            ended = np.where(done[rows] <= began[:, None], done[rows], -_LATEST)
            has_waited = (began > start[rows]) & (ended.max(axis=1) > -_LATEST)
            rows, columns = rows[has_waited], ended.argmax(axis=1)[has_waited]
        return found

    def _forks(self) -> Iterator[tuple[_Int64s, _Int64s]]:
        """Yield fan-outs with the same number of branches: the places of their calls, row by row.

        With them the column of the branch that ended last; cancelled ones only if all are.
        """
        calls = self._calls
        first = _starts_of(calls.phase)
        counts = np.diff(first, append=len(calls.row))
        is_fork = calls.branch[first] != ABSENT
        for count in np.unique(counts[is_fork]).tolist():
            alike = first[is_fork & (counts == count)]
            for start in range(0, len(alike), _AT_ONCE):
                places = alike[start : start + _AT_ONCE, None] + np.arange(count)
                is_cancelled = calls.is_cancelled[places]
                is_out = is_cancelled & ~is_cancelled.all(axis=1, keepdims=True)
                yield places, np.where(is_out, -_LATEST, calls.done[places]).argmax(axis=1)

    def _because(self, places: _Int64s, last: _Int64s) -> _Int64s:
        """Return the part that the last branch had more of than the others: see `Straggler`."""
        count = places.shape[1]
        if count == 1:
            return np.full(len(places), _OTHER)
        lengths = self._index.lengths[self._calls.row[places]]
        mine = _pick(lengths, last)
        beside = np.arange(count - 1) + (np.arange(count - 1) >= last[:, None])
        others = np.sort(lengths[np.arange(len(places))[:, None], beside], axis=1)
        half = (count - 1) // 2
        median = others[:, half]
        if count % 2:
            median = (others[:, half - 1] + median) // 2
        excess = np.where(mine > 0, mine - median, 0)
        because = excess.argmax(axis=1)
        return np.where(_pick(excess, because) > 0, because, _OTHER)


def _pick(values: NDArray[Any], columns: _Int64s) -> NDArray[Any]:
    """Return of each row the value in one column."""
    picked: NDArray[Any] = values[np.arange(len(values)), columns]
    return picked


def _starts_of(groups: _Int64s) -> _Int64s:
    """Return the place of the first value of each run of equal values."""
    return np.flatnonzero(np.concatenate([[True], ~_same(groups)])[: len(groups)])


def _same(values: _Int64s) -> Bools:
    """Return which values, from the second on, are the same as the one before."""
    same: Bools = values[1:] == values[:-1]
    return same
