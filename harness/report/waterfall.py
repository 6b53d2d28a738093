"""One workflow as a waterfall: a row a call, in parts, with the critical path marked.

What the terminal and the report draw is decided here, from records alone. Times are nanoseconds
since the workflow was ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.analysis.call_segments import CallSegment, of_attempt, segments_of_call
from harness.analysis.critical_path import CriticalPath, critical_path
from harness.analysis.phase_tree import calls_in, row_namer, tree_of
from harness.analysis.selection import Dataset
from harness.records import ids
from harness.records.errors import InputError
from harness.records.failures import OK, is_failure
from harness.records.schema import Attempt, Call, Decision, Workflow
from harness.store.run_directory import Records

LEAST_ID = 8
"""Characters of a trace id that are enough to name a workflow."""


class FailedAttempt(NamedTuple):
    """One attempt that failed: where, what, nanoseconds since it was sent, what the policy said.

    `label` names its call as the rows do.
    """

    label: str
    attempt: int
    outcome: str
    status: int | None
    took: int
    decision: Decision | None


class WaterfallRow(NamedTuple):
    """One call, or an attempt of it that ran beside another one.

    `attempts`: of the whole call. `path`: from when to when it is on the critical path.
    """

    label: str
    start: int
    end: int
    pieces: tuple[CallSegment, ...]
    outcome: str
    attempts: int
    path: tuple[tuple[int, int], ...] = ()

    @property
    def held(self) -> bool:
        """Whether it is on the critical path."""
        return bool(self.path)


class Waterfall(NamedTuple):
    """A workflow, ready to be drawn. `key` names it on the command line."""

    key: str
    trace_id: str
    path: CriticalPath
    rows: tuple[WaterfallRow, ...]
    failures: tuple[FailedAttempt, ...]

    @property
    def workflow(self) -> Workflow:
        """The record."""
        return self.path.workflow

    @property
    def latency(self) -> int:
        """Nanoseconds from ready to done."""
        return self.path.latency


class Waterfalls:
    """Makes waterfalls of a run's workflows, those that count and, by key, any other."""

    def __init__(self, records: Records) -> None:
        self._run_id = records.run.run_id
        self._records = Dataset.of(records)

    def counted(self) -> list[Workflow]:
        """Return every workflow that counts, slowest first."""
        found = [one for cell in self._records.cells.values() for one in cell.workflows]
        return sorted(found, key=lambda one: one.ready - one.done)

    def failed(self) -> list[Workflow]:
        """Return those that count and have no or a poorer report: failed first, slowest first."""
        return sorted(
            (one for one in self.counted() if one.outcome != OK),
            key=lambda one: one.outcome != "failed",
        )

    def named(self, key: str) -> Workflow:
        """Return the workflow that `key` names: cell/repeat/workflow, or a trace id's beginning.

        Of several executions the last. Raises InputError.
        """
        is_id = len(key) >= LEAST_ID and set(key) <= set("0123456789abcdef")
        found = [
            one
            for one in self._records.workflows
            if key in (key_of(one), f"{key_of(one)}/{one.execution}")
            or (is_id and ids.workflow_trace(self._run_id, one).startswith(key))
        ]
        if not found:
            known = self.counted()
            example = f", for example {key_of(known[0])}" if known else ""
            raise InputError(
                f"{key}: no workflow of this run; write cell/repeat/workflow or a trace id{example}"
            )
        return max(found, key=lambda one: one.execution)

    def of(self, workflow: Workflow) -> Waterfall:
        """Return the waterfall of one workflow."""
        its = self._records.groups.of(workflow)
        path = critical_path(workflow, its)
        rows: list[WaterfallRow] = []
        failures: list[FailedAttempt] = []
        attempts_of = {call.call_key: tried for call, tried in its.tried()}
        name = row_namer(its.calls)
        for call in calls_in(tree_of(workflow, its.calls)):
            label, tried = _label(call, name(call)), attempts_of[call.call_key]
            rows += _rows(call, label, tried, path)
            failures += _failures(call, label, tried)
        trace = ids.workflow_trace(self._run_id, workflow)
        return Waterfall(key_of(workflow), trace, path, tuple(rows), tuple(failures))


def key_of(workflow: Workflow) -> str:
    """Return what names a workflow on the command line."""
    return f"{workflow.cell}/{workflow.repeat}/{workflow.workflow}"


def _label(call: Call, name: str) -> str:
    """Name a call within its row: `decompose 2` is its second, `branch 3.2` that of branch 3."""
    if call.call == 1:
        return name
    return f"{name} {call.call}" if call.branch is None else f"{name}.{call.call}"


def _rows(
    call: Call, name: str, tried: Sequence[Attempt], path: CriticalPath
) -> list[WaterfallRow]:
    """Return the call's row, and one more for each attempt that ran beside it."""
    ready = path.workflow.ready
    mine = [s for s in path.segments if (s.phase, s.branch, s.call) == call.call_key[4:]]
    rows: list[WaterfallRow] = []
    for lane in _lanes(tried):
        beside = [piece for one in lane for piece in of_attempt(one) if piece.length > 0]
        cut = beside if rows else segments_of_call(call, lane)
        shown = tuple(p._replace(start=p.start - ready, end=p.end - ready) for p in cut)
        numbers = {attempt.attempt for attempt in lane}
        label = name if not rows else "  hedge"
        start, end = (call.ready, call.done) if not rows else (lane[0].ready, lane[-1].done)
        on_path = tuple(
            (segment.start - ready, segment.end - ready)
            for segment in mine
            if segment.attempt in numbers or (segment.attempt is None and not rows)
        )
        outcome = call.outcome if not rows else lane[-1].outcome
        times = (start - ready, end - ready)
        rows.append(WaterfallRow(label, *times, shown, outcome, call.attempts, _joined(on_path)))
    return rows


def _joined(stretches: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join stretches that touch."""
    joined: list[tuple[int, int]] = []
    for start, end in stretches:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)


def _lanes(tried: Sequence[Attempt]) -> list[list[Attempt]]:
    """Put attempts that follow one another side by side; at least one lane."""
    lanes: list[list[Attempt]] = [[]]
    for attempt in tried:
        for lane in lanes:
            if not lane or lane[-1].done <= attempt.permit_requested:
                lane.append(attempt)
                break
        else:
            lanes.append([attempt])
    return lanes


def _failures(call: Call, label: str, tried: Sequence[Attempt]) -> list[FailedAttempt]:
    found = []
    for attempt in tried:
        if is_failure(attempt.outcome):
            took = attempt.done - (attempt.permit_granted if attempt.sent is None else attempt.sent)
            found.append(
                FailedAttempt(
                    label, attempt.attempt, attempt.outcome, attempt.status, took,
                    attempt.decision,
                )
            )  # fmt: skip
    return found
