"""Which workflow is looked at closely."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from harness.analysis.model import Cell, Summary
from harness.analysis.selection import Dataset
from harness.analysis.settings import policy_of
from harness.records.groups import TriedCall
from harness.records.schema import Workflow
from harness.report.wording import MODE_NAMES
from harness.store.run_directory import Records


class ExampleWorkflow(NamedTuple):
    """One workflow of one cell, with its calls and their attempts."""

    cell: Cell
    workflow: Workflow
    calls: list[TriedCall]


def same_workflow_in_both(summary: Summary, records: Records) -> list[ExampleWorkflow]:
    """Return the median workflow of the async cell with most permits, after its sync twin.

    Of several such cells the recommended one is taken, else the first. The twin has the same
    retry policy, scope, repeat and workflow, so the same topic; it is absent without a sync cell.
    Successful workflows are preferred; the list is empty when there are no workflows.
    """
    data = Dataset.of(records)
    of_cell = data.cells
    ran = [cell for cell in summary.cells if of_cell[cell.id].workflows]
    main = _closest_look(ran, summary.recommendation.cell)
    if main is None:
        return []
    twin_cell = next((cell for cell in ran if _is_twin(cell, main)), None)
    twins = {
        (workflow.repeat, workflow.workflow): workflow
        for workflow in (of_cell[twin_cell.id].workflows if twin_cell else [])
    }
    found = of_cell[main.id].workflows
    paired = [workflow for workflow in found if (workflow.repeat, workflow.workflow) in twins]
    both_ok = [
        workflow
        for workflow in paired
        if workflow.outcome == twins[workflow.repeat, workflow.workflow].outcome == "ok"
    ]
    chosen = _median(both_ok or paired or [w for w in found if w.outcome == "ok"] or found)
    twin = twins.get((chosen.repeat, chosen.workflow))
    pairs = [(main, chosen)] if twin is None or twin_cell is None else [
        (twin_cell, twin), (main, chosen)
    ]  # fmt: skip
    return [
        ExampleWorkflow(cell, workflow, data.groups.of(workflow).tried())
        for cell, workflow in pairs
    ]


def _closest_look(cells: Sequence[Cell], recommended: str | None) -> Cell | None:
    """Prefer async over threads over sync, then most permits, then the recommended cell."""
    ranked = [(MODE_NAMES.index(cell.mode), cell.permits, cell.id == recommended) for cell in cells]
    return next(
        (cell for cell, rank in zip(cells, ranked, strict=True) if rank == max(ranked)), None
    )


def _is_twin(cell: Cell, main: Cell) -> bool:
    return cell.mode == "sync" and policy_of(cell) == policy_of(main) and cell.id != main.id


def _median(workflows: Sequence[Workflow]) -> Workflow:
    middle = statistics.median_low(workflow.done - workflow.ready for workflow in workflows)
    return next(w for w in workflows if w.done - w.ready == middle)
