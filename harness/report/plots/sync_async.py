"""Sync beside async: how long every workflow took, and how many were finished in a minute."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.model import Cell, Summary
from harness.analysis.model import Figure as Estimate
from harness.analysis.selection import Dataset
from harness.analysis.settings import policy_of, swept_keys
from harness.records.schema import Workflow
from harness.report.plots.style import (
    INK,
    MODE_COLOURS,
    VERMILLION,
    axis_end,
    error_lengths,
    head_beside,
    new_figure,
    rows_of_cells,
    runs_out,
    write_beside,
)
from harness.report.wording import (
    cell_labels,
    headline,
    in_reading_order,
    in_seconds,
    losses,
    number,
    rate_unit,
    scaled,
    sentence,
    spoken,
    value_of,
)
from harness.store.run_directory import Records

MOST_ROWS = 16
"""More cells than this are cut down to one retry policy and scope."""


def sync_async(summary: Summary, records: Records) -> Figure | None:
    """Draw workflow latency and throughput by cell; None without a workflow."""
    cells, only = rows_shown(summary)
    workflows = {name: cell.workflows for name, cell in Dataset.of(records).cells.items()}
    if not any(workflows[cell.id] for cell in cells):
        return None
    notes = [
        "Dots: workflows (hollow: degraded, ×: failed). Black: the median, and 95\u00a0% intervals "
        "where the sample carries one. Throughput counts every workflow that ended.",
        *["The median leaves the warm-up out."] * any(cell.warm_up for cell in cells),
        only,
        *runs_out(list(_throughputs(cells, summary).values())),
    ]
    figure = new_figure(0.9 + 0.36 * len(cells), _title(cells, summary), summary, notes)
    latency, throughput = figure.subplots(1, 2, sharey=True, width_ratios=[1.35, 1])
    labels = cell_labels(cells)
    for axes in (latency, throughput):
        rows_of_cells(axes, [labels[cell.id] for cell in cells])
    _draw_latency(latency, cells, workflows, summary)
    _draw_throughput(throughput, cells, summary)
    return figure


def rows_shown(summary: Summary) -> tuple[list[Cell], str]:
    """Return the cells to show, in order, and a note when some are left out."""
    cells = in_reading_order(summary.cells)
    if len(cells) <= MOST_ROWS:
        return cells, ""
    best = headline(cells, summary)
    kept = [cell for cell in cells if policy_of(cell) == policy_of(best)]
    others = "".join(f", {key.phrase(best)}" for key in swept_keys(cells))
    what = f"retry {best.retry}, per {best.permit_scope}{others}"
    return kept, f"Of {len(cells)} cells, those with {what}."


def _title(cells: Sequence[Cell], summary: Summary) -> str:
    compared = [
        cell
        for cell in cells
        if cell.mode != "sync" and cell.speedup_over_sync and cell.workflows.ok
    ]
    if not compared:
        why = "no workflow ended ok" if not any(cell.workflows.ok for cell in cells) else (
            "sync beside async was not run"
        )  # fmt: skip
        return f"Workflow latency and throughput by cell ({why})"
    best = headline(compared, summary)
    return (
        f"{sentence(spoken(best, summary.cells))} ran the workflows "
        f"{number(value_of(best.speedup_over_sync))} times as fast as sync{losses(best)}"
    )


def _draw_latency(
    axes: Axes, cells: Sequence[Cell], workflows: dict[str, list[Workflow]], summary: Summary
) -> None:
    scale = summary.time_scale * 1e9
    longest = 0.0
    for row, cell in enumerate(cells):
        found = workflows[cell.id]
        seconds = [(workflow.done - workflow.ready) / scale for workflow in found]
        longest = max([longest, *seconds])
        _draw_dots(axes, row, cell, found, seconds)
        median = in_seconds(cell.workflow_latency_s.p50, summary)
        if median is not None:
            axes.errorbar(
                median.value, row, xerr=error_lengths(median), fmt="|", color=INK,
                markersize=17, markeredgewidth=2, elinewidth=1.6, label=f"median {cell.id}",
            )  # fmt: skip
        write_beside(axes, row, "no workflow" if not found else number(value_of(median)))
    axes.set_xlim(0, (longest or 1.0) * 1.03)
    head_beside(axes, "median")
    axes.set_title("workflow latency")
    axes.set_xlabel("seconds from ready to done")


def _draw_dots(
    axes: Axes, row: int, cell: Cell, found: Sequence[Workflow], seconds: Sequence[float]
) -> None:
    colour = MODE_COLOURS[cell.mode]
    looks = {"ok": ("o", colour, colour), "degraded": ("o", "none", colour)}
    alpha = 0.75 if len(found) <= 60 else 0.35
    for outcome in ("ok", "degraded", "failed"):
        at = [place for place, workflow in enumerate(found) if workflow.outcome == outcome]
        marker, face, edge = looks.get(outcome, ("x", VERMILLION, VERMILLION))
        if at:
            axes.scatter(
                [seconds[place] for place in at],
                # Steps of the golden ratio keep neighbours apart and are the same every time.
                [row + (place * 0.618034 % 1 - 0.5) * 0.5 for place in at],
                s=17, marker=marker, facecolors=face, edgecolors=edge if face == "none" else None,
                linewidths=1, alpha=alpha, label=f"{outcome} {cell.id}",
            )  # fmt: skip


def _throughputs(cells: Sequence[Cell], summary: Summary) -> dict[str, Estimate]:
    _, factor = rate_unit(summary)
    rates = ((cell.id, scaled(cell.throughput.workflows_per_s, factor)) for cell in cells)
    return {cell: rate for cell, rate in rates if rate is not None}


def _draw_throughput(axes: Axes, cells: Sequence[Cell], summary: Summary) -> None:
    rates = _throughputs(cells, summary)
    for row, cell in enumerate(cells):
        rate = rates.get(cell.id)
        if rate is not None:
            colour = MODE_COLOURS[cell.mode]
            axes.barh(row, rate.value, height=0.55, color=colour, alpha=0.75, label=cell.id)
            if (lengths := error_lengths(rate)) is not None:
                axes.errorbar(rate.value, row, xerr=lengths, color=INK, capsize=2.5, elinewidth=1.4)
        write_beside(axes, row, number(value_of(rate)))
    axes.set_xlim(0, axis_end(list(rates.values())) * 1.03)
    axes.set_title("throughput, 95 % interval")
    unit, _ = rate_unit(summary)
    axes.set_xlabel(f"workflows {unit}")
