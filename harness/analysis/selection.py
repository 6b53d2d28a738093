"""Which records count, grouped by cell.

Only the highest execution of a workflow counts, and only if it ended by itself: what an
interruption cut short says nothing about the cell. Spending counts every attempt there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple, TypeVar

from harness.analysis.phase_tree import phase_names
from harness.analysis.token_estimates import with_received
from harness.analysis.warmup import mser5
from harness.records.groups import TriedCall, WorkflowGroups
from harness.records.keys import WorkflowKey, workflow_key
from harness.records.schema import Attempt, Call, CellInfo, Run, Trial, Workflow
from harness.store.run_directory import Records

_T = TypeVar("_T", Workflow, Call, Attempt)

Cluster = tuple[int, int]
"""A workflow within its cell: (repeat, workflow)."""


class CellRecords(NamedTuple):
    """The records of one cell that count, and what was spent.

    `workflows`, `calls`, `attempts`: of workflows that count. `clusters`: which cluster each such
    workflow is in, from 0: those on one topic in one repeat resemble each other. `started`: how
    many workflows began, those that never ended included. `trials`: the last of each repeat.
    `spent`: every attempt of the cell. `groups`: the calls and attempts of each workflow of the
    run. `phases`: the names of the run's phases in order. `open_loop`: workflows start at given
    times, whatever else is running.
    """

    info: CellInfo
    trials: dict[int, Trial]
    started: int
    workflows: list[Workflow]
    clusters: dict[Cluster, int]
    calls: list[Call]
    attempts: list[Attempt]
    spent: list[Attempt]
    groups: WorkflowGroups
    phases: tuple[str, ...] = ()
    open_loop: bool = False

    def tried(self) -> Iterator[TriedCall]:
        """Yield the calls of the workflows that count, each with its attempts."""
        for workflow in self.workflows:
            yield from self.groups.of(workflow).tried()

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


class Dataset(Records):
    """The records of a run with indexes, each made when it is first used.

    `Dataset.of` makes one of plain records, so that whoever gets records can use the indexes, and
    shares them with others that get the same `Dataset`.
    """

    @classmethod
    def of(cls, records: Records) -> Dataset:
        """Return the records as a dataset: the same one if they are one already."""
        return records if isinstance(records, Dataset) else cls(*records)

    @cached_property
    def cells(self) -> dict[str, CellRecords]:
        """The records of each cell by its id, in the order of run.json."""
        return _by_cell(self)

    @cached_property
    def groups(self) -> WorkflowGroups:
        """The calls and attempts of each execution of each workflow, whether it counts or not."""
        return WorkflowGroups(self.calls, self.attempts)


def by_cell(records: Records) -> list[CellRecords]:
    """Return the records of each cell, in the order of run.json."""
    return list(Dataset.of(records).cells.values())


def _by_cell(records: Dataset) -> dict[str, CellRecords]:
    latest = _latest(records)
    started = Counter(cell for cell, _, _ in latest)
    phases = phase_names(records.run, records.workflows)
    cells = {
        info.id: CellRecords(
            info=info, trials={}, started=started[info.id], workflows=[], clusters={}, calls=[],
            attempts=[], spent=[], groups=records.groups, phases=phases,
            open_loop=is_open_loop(records.run, info),
        )
        for info in records.run.cells
    }  # fmt: skip
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
    return cells


def by_repeat(records: Iterable[_T]) -> dict[int, list[_T]]:
    """Return records in their order, by repeat."""
    parts: dict[int, list[_T]] = {}
    for record in records:
        parts.setdefault(record.repeat, []).append(record)
    return parts


def is_open_loop(run: Run, cell: CellInfo) -> bool:
    """Return whether the workflows of a cell start at given times, whatever else is running."""
    return run.cell_scenario(cell)["load"].get("arrivals") is not None


def _latest(records: Dataset) -> dict[tuple[str, int, int], int]:
    """Return the highest execution of each workflow that left any record."""
    every = records.groups.keys() | set(map(workflow_key, records.workflows))
    return {(cell, repeat, workflow): last for cell, repeat, workflow, last in sorted(every)}
