"""The column of a tune's tables that compares settings in the blocks that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.model import Cell, Figure, Summary
from harness.report.tables import Column

_HEADS: Mapping[str, str] = {
    "makespan": "times\nas long", "workflow_p95": "times\nthe tail",
    "cost_per_successful_workflow": "times\nthe cost",
}  # fmt: skip
"""The head of the column by objective."""


def paired_columns(summary: Summary, cells: Sequence[Cell]) -> list[Column]:
    """Return a column with the objective of each cell over the candidate's, paired by block.

    Empty for other runs, whose cells all have the same repeats. The cells of a tune ran in
    different blocks, whose work differs, so the other columns do not compare them.
    """
    tune, best = summary.tune, summary.recommendation.candidate
    if tune is None or best is None or len(summary.cells) < 2:
        return []
    against = {one.info.id: one.against for one in tune.settings}
    against[best] = Figure(value=1.0)
    values = [against.get(cell.id) for cell in cells]
    return [Column(_HEADS[summary.recommendation.objective], "paired_ratio", values)]


def paired_key(summary: Summary) -> str:
    """Return what the column means, after its head."""
    head = _HEADS[summary.recommendation.objective].replace("\n", " ")
    return f"{head}: as *, in the same blocks"


BLOCKS_DIFFER = (
    "The settings of a tune are tried in different blocks, whose work differs. So two of them are "
    "compared only in the blocks that both ran."
)
"""Said where figures of a tune stand side by side that are not paired."""
