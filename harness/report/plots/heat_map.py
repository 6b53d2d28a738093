"""Permits across, policies down: how much good work each pair did, and what it lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.analysis.model import Cell, Summary
from harness.analysis.settings import policy_of
from harness.report.plots.permits import PermitCurve, lines_of
from harness.report.plots.style import BLUE, INK, VERMILLION, new_figure
from harness.report.wording import NONE, number, percent, rate_unit, value_of


class Quantity(NamedTuple):
    """One number of a cell: its names in words and in a CSV, how it is written, if it is good."""

    title: str
    key: str
    of: Callable[[Cell], float | None]
    text: Callable[[float], str]
    good: bool


class Grid(NamedTuple):
    """Cells by policy (down) and permits (across); None where there is no such cell."""

    rows: tuple[PermitCurve, ...]
    permits: tuple[int, ...]

    def cell(self, row: PermitCurve, permits: int) -> Cell | None:
        """Return the cell of a row with so many permits."""
        return next((cell for cell in row.cells if cell.permits == permits), None)


def grid_of(summary: Summary) -> Grid | None:
    """Return the grid, or None without two policies and two permit counts to cross."""
    rows = tuple(lines_of(summary))
    permits = tuple(sorted({cell.permits for line in rows for cell in line.cells}))
    policies = {policy_of(cell) for line in rows for cell in line.cells}
    ran = any(cell.goodput_workflows_per_s for line in rows for cell in line.cells)
    return Grid(rows, permits) if ran and len(policies) > 1 and len(permits) > 1 else None


def quantities(summary: Summary) -> list[Quantity]:
    """Return what is shown of each cell: goodput and the calls it lost."""
    unit, factor = rate_unit(summary)

    def goodput(cell: Cell) -> float | None:
        rate = value_of(cell.goodput_workflows_per_s)
        return None if rate is None else rate * factor

    return [
        Quantity(
            f"goodput, workflows {unit}",
            f"goodput_workflows_per_{unit.split()[1]}",
            goodput,
            number,
            good=True,
        ),
        Quantity(
            "calls lost", "calls_lost", lambda cell: value_of(cell.calls_lost), percent, good=False
        ),
    ]


def heat_map(summary: Summary) -> Figure | None:
    """Draw goodput and lost calls over permits and policy; None where nothing is crossed."""
    grid = grid_of(summary)
    if grid is None:
        return None
    height = 0.75 + 0.34 * len(grid.rows)
    notes = ["Goodput: workflows that succeeded within the SLO, per time of makespan."]
    if summary.recommendation.cell:
        notes.append("Framed: the recommended cell.")
    figure = new_figure(height, _title(grid, summary), summary, notes)
    axes = figure.subplots(1, 2, sharey=True)
    for one, quantity in zip(axes, quantities(summary), strict=True):
        _draw(one, grid, quantity, summary.recommendation.cell)
    return figure


def _title(grid: Grid, summary: Summary) -> str:
    goodput, _ = quantities(summary)
    known = [
        (value, line.name, cell.permits)
        for line in grid.rows
        for cell in line.cells
        if (value := goodput.of(cell)) is not None
    ]
    if not known:
        return "Permits and policies: no trial ended whole"
    best, name, permits = max(known)
    unit, _ = rate_unit(summary)
    return f"Most good work: {name} at {permits} permits, {number(best)} workflows {unit}"


def _draw(axes: Axes, grid: Grid, quantity: Quantity, best: str | None) -> None:
    colours = LinearSegmentedColormap.from_list(
        "shade", ["#FFFFFF", BLUE if quantity.good else VERMILLION]
    )
    values = [quantity.of(cell) or 0.0 for line in grid.rows for cell in line.cells]
    top = max([*values, 1e-12])
    for row, line in enumerate(grid.rows):
        for column, permits in enumerate(grid.permits):
            cell = grid.cell(line, permits)
            value = None if cell is None else quantity.of(cell)
            share = 0.0 if value is None else value / top
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colours(share * 0.9))
            )
            text = NONE if value is None else quantity.text(value)
            axes.text(
                column, row, text, ha="center", va="center", fontsize=9,
                color="white" if share > 0.62 else INK,
            )  # fmt: skip
            if cell is not None and cell.id == best:
                axes.add_patch(
                    Rectangle((column - 0.46, row - 0.45), 0.92, 0.9, fill=False, linewidth=2)
                )
    _label(axes, grid.rows, grid.permits)
    axes.set_title(quantity.title)


def _label(axes: Axes, rows: Sequence[PermitCurve], permits: Sequence[int]) -> None:
    axes.set_xlim(-0.5, len(permits) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(permits)), [str(count) for count in permits])
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xlabel("permits: calls at once")
