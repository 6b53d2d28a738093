"""Which records count, grouped by cell.

Only the highest execution of a workflow counts, and only if it was not interrupted: a workflow that
was cut short says nothing about the cell. Spending counts every attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

from harness.analysis.phase_tree import phase_names
from harness.analysis.token_estimates import with_received
from harness.records.groups import TriedCall, WorkflowGroups
from harness.records.keys import WorkflowKey, workflow_key
from harness.records.schema import Attempt, Call, CellInfo, Run, Trial, Workflow
from harness.store.run_directory import Records

Cluster = tuple[int, int]
"""A workflow within its cell: (repeat, workflow number)."""


class CellRecords(NamedTuple):
    """The records of one cell that count, and what was spent.

    `workflows`, `calls`, `attempts`: of workflows that count. `clusters`: the cluster of each such
    workflow, from 0: one for each topic and repeat, as such workflows resemble each other.
    `started`: how many workflows began, including those that never ended. `trials`: the last one
    of each repeat. `spent`: every attempt of the cell. `groups`: the calls and attempts of each
    workflow of the run. `phases`: the names of the run's phases in order.
    """

    run: Run
    info: CellInfo
    started: int
    groups: WorkflowGroups
    phases: tuple[str, ...]
    trials: dict[int, Trial]
    clusters: dict[Cluster, int]
    workflows: list[Workflow]
    calls: list[Call]
    attempts: list[Attempt]
    spent: list[Attempt]

    @property
    def scenario(self) -> dict[str, Any]:
        """The scenario of the cell."""
        return self.run.cell_scenario(self.info)

    @property
    def open_loop(self) -> bool:
        """Whether workflows start at given times, whatever else is running."""
        return is_open_loop(self.run, self.info)

    def tried(self) -> Iterator[TriedCall]:
        """Yield the calls of the workflows that count, each with its attempts."""
        for workflow in self.workflows:
            yield from self.groups.of(workflow).tried()

    def steady(self) -> CellRecords:
        """Return the cell without the warm-up of an open loop, which MSER-5 finds.

        A closed loop has a fixed amount of work, so nothing is cut.
        """
        if not self.open_loop:
            return self
        from harness.analysis.warmup import mser5  # imports NumPy

        cut: set[Cluster] = set()
        for repeat in self.trials:
            mine = sorted((w for w in self.workflows if w.repeat == repeat), key=lambda w: w.ready)
            count = mser5([w.done - w.ready for w in mine])
            cut |= {(repeat, workflow.workflow) for workflow in mine[:count]}
        return self._replace(
            workflows=[w for w in self.workflows if (w.repeat, w.workflow) not in cut],
            calls=[call for call in self.calls if (call.repeat, call.workflow) not in cut],
            attempts=[a for a in self.attempts if (a.repeat, a.workflow) not in cut],
        )

    def whole_trials(self) -> list[Trial]:
        """Return, in order of repeat, the trials that ran without interruption.

        A trial that was interrupted or resumed has no makespan.
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
    """The records of a run with indexes, each made when it is first used."""

    @classmethod
    def of(cls, records: Records) -> Dataset:
        """Return the records as a dataset: the same object if they are one already."""
        return records if isinstance(records, Dataset) else cls(*records)

    @cached_property
    def groups(self) -> WorkflowGroups:
        """The calls and attempts of each execution of each workflow, whether it counts or not."""
        return WorkflowGroups(self.calls, self.attempts)

    @cached_property
    def cells(self) -> dict[str, CellRecords]:
        """The records of each cell by its id, in the order of run.json."""
        every = self.groups.keys() | set(map(workflow_key, self.workflows))
        latest = {key[:3]: key.execution for key in sorted(every)}
        started = Counter(cell for cell, _, _ in latest)
        phases = phase_names(self.run, self.workflows)
        cells = {
            info.id: CellRecords(
                self.run, info, started[info.id], self.groups, phases, {}, {}, [], [], [], []
            )
            for info in self.run.cells
        }
        for trial in sorted(self.trials, key=lambda trial: trial.execution):
            cells[trial.cell].trials[trial.repeat] = trial
        topics: dict[str, dict[tuple[int, str], int]] = {}
        counting: set[WorkflowKey] = set()
        for workflow in self.workflows:
            key = workflow_key(workflow)
            if workflow.outcome != "cancelled" and latest[key[:3]] == key.execution:
                counting.add(key)
                alike = topics.setdefault(workflow.cell, {})
                number = alike.setdefault((workflow.repeat, workflow.topic), len(alike))
                mine = cells[workflow.cell]
                mine.clusters[workflow.repeat, workflow.workflow] = number
                mine.workflows.append(workflow)
        for call in self.calls:
            if (call.cell, call.repeat, call.workflow, call.execution) in counting:
                cells[call.cell].calls.append(call)
        for attempt in with_received(self.attempts):
            mine = cells[attempt.cell]
            mine.spent.append(attempt)
            if (attempt.cell, attempt.repeat, attempt.workflow, attempt.execution) in counting:
                mine.attempts.append(attempt)
        return cells


def is_open_loop(run: Run, cell: CellInfo) -> bool:
    """Return whether the workflows of a cell start at given times, whatever else is running."""
    return run.cell_scenario(cell)["load"].get("arrivals") is not None
