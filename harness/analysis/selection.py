"""Which records count, grouped by cell.

Only the highest execution of a workflow counts, and only if it ended by itself: what an
interruption cut short says nothing about the cell. Spending counts every attempt there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from harness.analysis.token_estimates import with_received
from harness.analysis.warmup import mser5
from harness.records.keys import NamesWorkflow, WorkflowKey, workflow_key
from harness.records.schema import Attempt, Call, CellInfo, Run, Trial, Workflow
from harness.store.run_directory import Records

T = TypeVar("T", Call, Attempt)

Cluster = tuple[int, int]
"""A workflow within its cell: (repeat, workflow)."""


class CellRecords(NamedTuple):
    """The records of one cell that count, and what was spent.

    `workflows`, `calls`, `attempts`: of workflows that count. `clusters`: which cluster each such
    workflow is in, from 0: those on one topic in one repeat resemble each other. `started`: how
    many workflows began, those that never ended included. `trials`: the last of each repeat.
    `spent`: every attempt of the cell. `open_loop`: workflows came by themselves.
    """

    info: CellInfo
    trials: dict[int, Trial]
    started: int
    workflows: list[Workflow]
    clusters: dict[Cluster, int]
    calls: list[Call]
    attempts: list[Attempt]
    spent: list[Attempt]
    open_loop: bool = False

    def arrivals(self, trial: Trial) -> dict[int, int] | None:
        """Return when each workflow of a trial was due, in nanoseconds; None for a closed loop."""
        if not self.open_loop:
            return None
        return {
            workflow.workflow: workflow.ready - trial.start
            for workflow in self.workflows
            if workflow.repeat == trial.repeat
        }

    def steady(self) -> CellRecords:
        """Return the cell without the warm-up of an open loop, which MSER-5 finds.

        A closed loop is a batch: nothing of it is cut.
        """
        cut = self.warm_up()
        if not cut:
            return self
        return self._replace(
            workflows=[w for w in self.workflows if (w.repeat, w.workflow) not in cut],
            calls=[call for call in self.calls if (call.repeat, call.workflow) not in cut],
            attempts=[a for a in self.attempts if (a.repeat, a.workflow) not in cut],
        )

    def warm_up(self) -> frozenset[Cluster]:
        """Return the workflows of the warm-up of each trial, empty for a closed loop."""
        if not self.open_loop:
            return frozenset()
        cut: list[Cluster] = []
        for repeat in self.trials:
            mine = sorted((w for w in self.workflows if w.repeat == repeat), key=lambda w: w.ready)
            count = mser5([w.done - w.ready for w in mine])
            cut += [(repeat, workflow.workflow) for workflow in mine[:count]]
        return frozenset(cut)

    def whole_trials(self) -> list[Trial]:
        """Return, in order of repeat, the trials that ran in one go.

        A trial that was interrupted, or that a resumed run pieced together, has no makespan.
        """
        cut = {
            workflow.repeat
            for workflow in self.workflows
            if not _within(workflow, self.trials.get(workflow.repeat))
        }
        return [
            trial
            for repeat, trial in sorted(self.trials.items())
            if not trial.interrupted and repeat not in cut
        ]


def _within(workflow: Workflow, trial: Trial | None) -> bool:
    """Return whether a workflow ran in that trial: in virtual time every trial begins at 0."""
    if trial is None or workflow.execution != trial.execution:
        return False
    return trial.start <= workflow.ready and workflow.done <= trial.end


class Grouped(Records):
    """Records that have been grouped by cell already, for whoever looks at them many times."""

    cells: list[CellRecords]


def grouped(records: Records) -> Grouped:
    """Return the same records; `by_cell` of them costs nothing any more."""
    once = Grouped(*records)
    once.cells = by_cell(records)
    return once


def by_cell(records: Records) -> list[CellRecords]:
    """Return the records of each cell, in the order of run.json."""
    if isinstance(records, Grouped) and hasattr(records, "cells"):
        return records.cells
    latest = _latest(records)
    started = Counter(cell for cell, _, _ in latest)
    cells = {
        info.id: CellRecords(
            info, {}, started[info.id], [], {}, [], [], [], is_open_loop(records.run)
        )
        for info in records.run.cells
    }
    for trial in sorted(records.trials, key=lambda trial: trial.execution):
        cells[trial.cell].trials[trial.repeat] = trial
    topics: dict[str, dict[tuple[int, str], int]] = {}
    counting: set[WorkflowKey] = set()
    for workflow in records.workflows:
        key = workflow_key(workflow)
        if workflow.outcome != "cancelled" and latest[key[:3]] == key.execution:
            counting.add(key)
            mine = cells[workflow.cell]
            alike = topics.setdefault(workflow.cell, {})
            number = alike.setdefault((workflow.repeat, workflow.topic), len(alike))
            mine.clusters[workflow.repeat, workflow.workflow] = number
            mine.workflows.append(workflow)
    for call in records.calls:
        if (call.cell, call.repeat, call.workflow, call.execution) in counting:
            cells[call.cell].calls.append(call)
    for attempt in with_received(records.attempts):
        mine = cells[attempt.cell]
        mine.spent.append(attempt)
        if (attempt.cell, attempt.repeat, attempt.workflow, attempt.execution) in counting:
            mine.attempts.append(attempt)
    return list(cells.values())


def by_repeat(records: Iterable[T]) -> dict[int, list[T]]:
    """Return records in their order, by repeat."""
    parts: dict[int, list[T]] = {}
    for record in records:
        parts.setdefault(record.repeat, []).append(record)
    return parts


def is_open_loop(run: Run) -> bool:
    """Return whether workflows came by themselves."""
    return run.scenario["load"].get("arrivals") is not None


def _latest(records: Records) -> dict[tuple[str, int, int], int]:
    """Return the highest execution of each workflow that left any record."""
    kinds: tuple[Iterable[NamesWorkflow], ...] = (
        records.workflows, records.calls, records.attempts,
    )  # fmt: skip
    every = {(it.cell, it.repeat, it.workflow, it.execution) for kind in kinds for it in kind}
    return {(cell, repeat, workflow): last for cell, repeat, workflow, last in sorted(every)}
