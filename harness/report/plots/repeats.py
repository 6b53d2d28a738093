"""How much the repeats of a cell differ: each trial's makespan, and what is made of them."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from harness.analysis.cells import makespan
from harness.analysis.model import Cell, Summary
from harness.analysis.selection import Dataset
from harness.report.plots.style import (
    INK,
    MODE_COLOURS,
    error_lengths,
    head_beside,
    new_figure,
    rows_of_cells,
    write_beside,
)
from harness.report.plots.sync_async import rows_shown
from harness.report.wording import cell_labels, in_seconds, number, value_of
from harness.store.run_directory import Records


def repeats(summary: Summary, records: Records) -> Figure | None:
    """Draw every whole trial's makespan by cell; None when no cell has two."""
    taken = {
        cell.info.id: [
            (trial.repeat, makespan(trial) / summary.time_scale) for trial in cell.whole_trials()
        ]
        for cell in Dataset.of(records).cells.values()
    }
    cells, only = rows_shown(summary)
    if not any(len(taken[cell.id]) > 1 for cell in cells):
        return None
    notes = [
        "Dots: the repeats, each on the same topics in every cell. Black: the geometric mean and "
        "its 95\u00a0% interval, Student's t on the logs. The same distance is the same ratio.",
        only,
    ]
    figure = new_figure(0.8 + 0.36 * len(cells), _title(cells, taken), summary, notes)
    axes = figure.subplots()
    labels = cell_labels(cells)
    rows_of_cells(axes, [labels[cell.id] for cell in cells])
    for row, cell in enumerate(cells):
        for repeat, seconds in taken[cell.id]:
            axes.plot(
                seconds, row, "o", color=MODE_COLOURS[cell.mode], alpha=0.75, markersize=6,
                label=f"repeat {repeat} {cell.id}",
            )  # fmt: skip
        figure_of = in_seconds(cell.makespan_s, summary)
        if figure_of is not None:
            axes.errorbar(
                figure_of.value, row, xerr=error_lengths(figure_of), fmt="|", color=INK,
                markersize=15, markeredgewidth=2, elinewidth=1.4, label=f"mean {cell.id}",
            )  # fmt: skip
        write_beside(axes, row, number(value_of(figure_of)))
    head_beside(axes, "mean")
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 10 * low:  # no power of ten may be in sight
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _is_round(value) else "")
    axes.set_xlabel("makespan in seconds, logarithmic")
    return figure


def _is_round(value: float) -> bool:
    return f"{value:e}"[0] in "25"


def _title(cells: list[Cell], taken: dict[str, list[tuple[int, float]]]) -> str:
    spreads = [
        (max(seconds) / min(seconds), cell)
        for cell in cells
        if len(seconds := [value for _, value in taken[cell.id]]) > 1 and min(seconds) > 0
    ]
    if not spreads:
        return "Makespan of every repeat"
    widest, cell = max(spreads, key=lambda pair: pair[0])
    name = cell_labels(cells)[cell.id]
    return f"Repeats of one cell differ by a factor of {number(widest)} at most ({name})"
