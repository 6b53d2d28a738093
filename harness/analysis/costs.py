"""What workflows cost: all that ended, the successful ones, and what was wasted on them, in USD."""

from __future__ import annotations

import math
from collections import Counter

from harness.analysis.cells import ByRepeat, MeasuredCell, rows_by
from harness.store.columns import AttemptTable


def cost_of_success(cell: MeasuredCell) -> float | None:
    """Return the cost of the attempts that count over the number of successes."""
    cost = cell.rules.cost(cell.records.attempts)
    successes = sum(map(cell.rules.is_success, cell.records.workflows))
    return cost / successes if cost is not None and successes else None


def costs_of_success(cell: MeasuredCell) -> ByRepeat:
    """Return the USD a success in each repeat; nothing when any repeat had no success."""
    workflows, rules = cell.records.workflows, cell.rules
    successes = Counter(one.repeat for one in workflows if rules.is_success(one))
    if {workflow.repeat for workflow in workflows} != successes.keys():
        return {}
    return _by_repeat(cell, cell.records.attempts, successes)


def cost_of_workflow(cell: MeasuredCell) -> float | None:
    """Return the cost of all attempts over the number of workflows that ended."""
    return _of_workflow(cell, cell.records.spent)


def costs_of_workflow(cell: MeasuredCell) -> ByRepeat:
    """Return the same in each repeat."""
    return _by_repeat(cell, cell.records.spent, _ended(cell))


def waste_of_workflow(cell: MeasuredCell) -> float | None:
    """Return the cost of the unused attempts over the number of workflows that ended."""
    return _of_workflow(cell, cell.unused)


def wastes_of_workflow(cell: MeasuredCell) -> ByRepeat:
    """Return the same in each repeat."""
    return _by_repeat(cell, cell.unused, _ended(cell))


def _ended(cell: MeasuredCell) -> Counter[int]:
    return Counter(one.repeat for one in cell.records.workflows)


def _of_workflow(cell: MeasuredCell, attempts: AttemptTable) -> float | None:
    cost, ended = cell.rules.cost(attempts), len(cell.records.workflows)
    return cost / ended if cost is not None and ended else None


def _by_repeat(cell: MeasuredCell, attempts: AttemptTable, counts: Counter[int]) -> ByRepeat:
    """Return the cost of attempts in each repeat over the count of the repeat."""
    costs = cell.rules.costs(attempts)
    if costs is None:
        return {}
    rows = rows_by(attempts.column("repeat"))
    return {
        repeat: math.fsum(costs[rows.get(repeat, [])].tolist()) / count
        for repeat, count in counts.items()
    }
