"""Where the calls' time went: one stacked bar a cell, and one call cut into the same parts."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.call_segments import CallSegment
from harness.analysis.call_segments import segments_of_call as cut
from harness.analysis.model import Summary
from harness.records.failures import CANCELLED
from harness.records.schema import Attempt, Call
from harness.report.plots.style import (
    INK,
    PART_STYLES,
    head_beside,
    new_figure,
    rows_of_cells,
    write_beside,
)
from harness.report.wording import (
    cell_labels,
    in_reading_order,
    in_seconds,
    number,
    sentence,
    spoken,
    value_of,
)

_DARK = {"reasoning", "answer", "failed_attempts", "other"}


def drawn_segments(call: Call, attempts: Sequence[Attempt]) -> list[CallSegment]:
    """Cut a call into the parts of `style.PARTS`: the client's own wait is one of the others."""
    return [
        piece._replace(part="other") if piece.part == "client_wait" else piece
        for piece in cut(call, attempts)
    ]


def time_spent_plot(summary: Summary) -> Figure | None:
    """Draw the shares of the summed call latency by cell; None when no cell has any."""
    cells = [cell for cell in in_reading_order(summary.cells) if cell.time_spent is not None]
    if not cells:
        return None
    notes = ["Shares of the summed call latency, failed calls included."]
    if any(CANCELLED in cell.attempts.by_outcome for cell in cells):
        notes.append("Failed attempts: also those broken off because a hedge was faster.")
    figure = new_figure(0.8 + 0.34 * len(cells), _title(summary), summary, notes, list(PART_STYLES))
    axes = figure.subplots()
    labels = cell_labels(summary.cells)
    rows_of_cells(axes, [labels[cell.id] for cell in cells])
    for row, cell in enumerate(cells):
        assert cell.time_spent is not None
        start = 0.0
        for part, (_, colour) in PART_STYLES.items():
            share = getattr(cell.time_spent, part) * 100
            axes.barh(
                row, share, left=start, height=0.74, color=colour, edgecolor="white",
                linewidth=0.6, label=f"{part} {cell.id}",
            )  # fmt: skip
            if share >= 4.5:
                _write_share(axes, start + share / 2, row, part, share)
            start += share
        mean = in_seconds(cell.call_latency_s.mean, summary)
        write_beside(axes, row, f"{number(value_of(mean))} s")
    head_beside(axes, "mean call")
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the calls' time")
    axes.grid(visible=False)
    axes.spines[["left"]].set_visible(False)
    return figure


def _write_share(axes: Axes, x: float, row: int, part: str, share: float) -> None:
    colour = "white" if part in _DARK else INK
    axes.text(x, row, f"{share:.0f}", ha="center", va="center", fontsize=8.5, color=colour)


def _title(summary: Summary) -> str:
    """Say which waiting or failing costs most where; the plain heading when nothing does."""
    lost = [
        (getattr(cell.time_spent, part), PART_STYLES[part][0], cell.id)
        for cell in summary.cells
        if cell.time_spent is not None
        for part in ("permit_wait", "backoff", "failed_attempts")
        if cell.attempts.failed or part != "failed_attempts"
    ]
    share, part, worst = max(lost)
    if share < 0.01:
        return "Hardly any of the calls' time was lost to permit wait, backoff or failed attempts"
    cell = next(cell for cell in summary.cells if cell.id == worst)
    name = spoken(cell, summary.cells)
    lost_share = f"{share * 100:.0f}\u00a0% of its calls' time to {part}"
    return f"{sentence(name)} lost {lost_share}, the most of all cells"
