"""Which records count, grouped by cell.

Only the highest execution of a workflow counts, and only if it was not interrupted: a workflow that
was cut short says nothing about the cell. Spending counts every attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.analysis.phase_tree import phase_names
from harness.analysis.token_estimates import received_output
from harness.analysis.warmup import mser5
from harness.analysis.workflow_index import RowsByNumber, WorkflowIndex
from harness.records.groups import TriedCall
from harness.records.keys import WARM_UP
from harness.records.schema import CellInfo, Run, Trial, Workflow
from harness.store.column_reader import read_columns
from harness.store.column_values import Words
from harness.store.columns import AttemptTable, CallTable
from harness.store.run_directory import Records

if TYPE_CHECKING:
    from harness.analysis.critical_path import CellWalk

_T = TypeVar("_T", AttemptTable, CallTable)

Cluster = tuple[int, int]
"""A workflow within its cell: (repeat, workflow number)."""


class _CellFields(NamedTuple):
    """The fields of `CellRecords`."""

    run: Run
    info: CellInfo
    started: int
    groups: WorkflowIndex
    phases: tuple[str, ...]
    trials: dict[int, Trial]
    clusters: dict[Cluster, int]
    workflows: list[Workflow]
    calls: CallTable
    attempts: AttemptTable
    spent: AttemptTable


class CellRecords(_CellFields):
    """The records of one cell that count, and what was spent.

    `workflows`, `calls`, `attempts`: of workflows that count. `clusters`: the cluster of each such
    workflow, from 0: one for each topic and repeat, as such workflows resemble each other.
    `started`: how many workflows began, including those that never ended. `trials`: the last one
    of each repeat. `spent`: every attempt of the cell. `groups`: the calls and attempts of each
    workflow of the run. `phases`: the names of the run's phases in order.
    """

    @cached_property
    def walks(self) -> dict[int, CellWalk]:
        """What `critical_path.walk_cell` has computed, by the number of workflows in flight."""
        return {}

    @property
    def scenario(self) -> dict[str, Any]:
        """The scenario of the cell."""
        return self.run.cell_scenario(self.info)

    @property
    def open_loop(self) -> bool:
        """Whether workflows start at given times, whatever else is running."""
        return self.run.is_open_loop(self.info)

    def tried(self) -> Iterator[TriedCall]:
        """Yield the calls of the workflows that count, each with its attempts."""
        for workflow in self.workflows:
            yield from self.groups.of(workflow).tried()

    def clusters_of(self, table: CallTable | AttemptTable) -> NDArray[np.int64]:
        """Return the cluster of each row of `calls` or `attempts`."""
        of_workflow = np.zeros(len(self.groups), np.int64)
        numbers = [self.clusters[workflow.repeat, workflow.workflow] for workflow in self.workflows]
        of_workflow[self.groups.numbers_of(self.workflows)] = numbers
        found: NDArray[np.int64] = of_workflow[table.column("number")]
        return found

    def steady(self) -> CellRecords:
        """Return the cell without the warm-up of an open loop, which MSER-5 finds.

        A closed loop has a fixed amount of work, so nothing is cut.
        """
        if not self.open_loop:
            return self
        cut: list[Workflow] = []
        for repeat in self.trials:
            mine = sorted((w for w in self.workflows if w.repeat == repeat), key=lambda w: w.ready)
            cut += mine[: mser5([w.done - w.ready for w in mine])]
        is_cut = np.zeros(len(self.groups), np.bool_)
        is_cut[self.groups.numbers_of(cut)] = True
        warm_up = {(workflow.repeat, workflow.workflow) for workflow in cut}
        return self._replace(
            workflows=[w for w in self.workflows if (w.repeat, w.workflow) not in warm_up],
            calls=self.calls.take(~is_cut[self.calls.column("number")]),
            attempts=self.attempts.take(~is_cut[self.attempts.column("number")]),
        )

    def until(self, repeats: int) -> CellRecords:
        """Return the records of the first repeats."""

        def kept(table: _T) -> _T:
            return table.take(table.column("repeat") < repeats)

        return self._replace(
            trials={at: trial for at, trial in self.trials.items() if at < repeats},
            workflows=[workflow for workflow in self.workflows if workflow.repeat < repeats],
            calls=kept(self.calls),
            attempts=kept(self.attempts),
            spent=kept(self.spent),
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
        return records if isinstance(records, Dataset) else cls(*_of_tried_cells(records))

    @classmethod
    def read(cls, directory: Path) -> Dataset:
        """Read a run directory. Raises StorageError."""
        return cls(*_of_tried_cells(read_columns(directory)))

    @cached_property
    def groups(self) -> WorkflowIndex:
        """The calls and attempts of each execution of each workflow, whether it counts or not."""
        attempts, calls = self.attempts, self.calls
        if not isinstance(attempts, AttemptTable) or not isinstance(calls, CallTable):
            words = Words()
            attempts, calls = AttemptTable.of(attempts, words), CallTable.of(calls, words)
        return WorkflowIndex(calls, attempts, self.workflows)

    @cached_property
    def cells(self) -> dict[str, CellRecords]:
        """The records of each cell by its id, in the order of run.json."""
        groups = self.groups
        phases = phase_names(self.run, self.workflows)
        attempts = received_output(groups.attempts)
        trials: dict[str, dict[int, Trial]] = {info.id: {} for info in self.run.cells}
        for trial in sorted(self.trials, key=lambda trial: trial.execution):
            trials[trial.cell][trial.repeat] = trial
        counting = np.zeros(len(groups), np.bool_)
        workflows: dict[str, list[Workflow]] = {info.id: [] for info in self.run.cells}
        numbers = groups.numbers_of(self.workflows)
        for workflow, is_latest in zip(
            self.workflows, groups.latest[numbers].tolist(), strict=True
        ):
            if workflow.outcome != "cancelled" and is_latest:
                workflows[workflow.cell].append(workflow)
        for mine in workflows.values():
            counting[groups.numbers_of(mine)] = True
        begun = groups.latest.copy()
        for table in (groups.calls, attempts):
            begun[table.column("number")[table.where("phase", WARM_UP.__eq__)]] = False
        started = Counter(groups.cells_of(np.flatnonzero(begun)))
        words = attempts.words
        calls_of, attempts_of = (
            RowsByNumber(table.column("cell"), len(words)) for table in (groups.calls, attempts)
        )

        def counted(table: _T, rows: NDArray[np.int64]) -> _T:
            mine = table.take(rows)
            return mine.take(counting[mine.column("number")])

        return {
            info.id: CellRecords(
                self.run, info, started[info.id], groups, phases, trials[info.id],
                _clusters(workflows[info.id]), workflows[info.id],
                counted(groups.calls, calls_of.of(words.get(info.id, 0))),
                counted(attempts, attempts_of.of(words.get(info.id, 0))),
                attempts.take(attempts_of.of(words.get(info.id, 0))),
            )
            for info in self.run.cells
        }  # fmt: skip


def _of_tried_cells(records: Records) -> Records:
    """Return the records; of a tune, only with the settings that it has tried."""
    if not records.run.tuned or records.candidates:
        return records
    tried = {name for block in records.tune for name in block.cells}
    tried |= {trial.cell for trial in records.trials}
    cells = tuple(cell for cell in records.run.cells if cell.id in tried)
    order = tuple(block.cells for block in records.tune if block.cells)
    run = msgspec.structs.replace(records.run, cells=cells, order=order)
    return records._replace(run=run, candidates=records.run.cells)


def _clusters(workflows: Iterable[Workflow]) -> dict[Cluster, int]:
    """Number the pairs of a repeat and a topic as they occur."""
    alike: dict[tuple[int, str], int] = {}
    return {
        (one.repeat, one.workflow): alike.setdefault((one.repeat, one.topic), len(alike))
        for one in workflows
    }
