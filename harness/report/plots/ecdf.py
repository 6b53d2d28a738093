"""How latency is distributed in each mode: the share of workflows done within a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.cells import wanted
from harness.analysis.model import Cell, Summary
from harness.analysis.selection import CellRecords, Dataset
from harness.records.clock import SECOND
from harness.records.schema import Call, Workflow
from harness.report.plots.style import MODE_COLOURS, label_line_ends, new_figure
from harness.report.wording import cell_labels, headline, number, sentence, spoken
from harness.store.run_directory import Records

MOST_STEPS = 2000
"""More values than this are thinned to as many, evenly by rank: no eye sees the difference."""


def band(n: int) -> float:
    """Return how far a true distribution may lie from that of n values, at 95 %.

    Dvoretzky, Kiefer and Wolfowitz's inequality with Massart's constant (Annals of Probability
    18, 1990): exact for no distribution, too wide for none.
    """
    return math.sqrt(math.log(2 / 0.05) / (2 * n))


def latency_ecdf(summary: Summary, records: Records) -> Figure | None:
    """Draw each mode's best cell: workflow latency with its band, call latency beside it."""
    of_cell = Dataset.of(records).cells
    ran = [cell for cell in summary.cells if of_cell[cell.id].workflows]
    if not ran:
        return None
    best = [
        headline([cell for cell in ran if cell.mode == mode], summary)
        for mode in MODE_COLOURS
        if any(cell.mode == mode for cell in ran)
    ]
    notes = [
        "Each mode's best cell. Every workflow and call that ended counts, failed ones too, but no "
        "cancelled call. "
        "Shaded: the 95\u00a0% band of Dvoretzky, Kiefer and Wolfowitz; calls of one workflow "
        "depend on each other and have none."
    ]
    figure = new_figure(3.2, _title(best, of_cell, summary), summary, notes)
    left, right = figure.subplots(1, 2, sharey=True)
    labels = cell_labels(summary.cells)
    for axes, title in ((left, "workflow latency"), (right, "call latency")):
        ends = []
        for cell in best:
            seen = of_cell[cell.id].steady()
            taken = _seconds(seen.workflows if axes is left else list(wanted(seen.calls)), summary)
            _draw(axes, taken, cell.mode, banded=axes is left)
            ends.append((1.0, labels[cell.id], MODE_COLOURS[cell.mode]))
        axes.set_title(f"{title}, from ready to done")
        axes.set_xlabel("seconds")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.02)
        if axes is right:
            label_line_ends(axes, ends, inches=2.3)
    left.set_ylabel("share done within")
    return figure


def _title(best: Sequence[Cell], of_cell: dict[str, CellRecords], summary: Summary) -> str:
    cell = headline(best, summary)
    taken = _seconds(of_cell[cell.id].steady().workflows, summary)
    half = number(float(np.quantile(taken, 0.5, method="inverted_cdf")))
    name = sentence(spoken(cell, summary.cells))
    return f"{name}: half of the workflows took {half} s or less, the longest {number(taken[-1])} s"


def _seconds(ended: Sequence[Workflow] | Sequence[Call], summary: Summary) -> list[float]:
    unit = SECOND * summary.time_scale
    return sorted((one.done - one.ready) / unit for one in ended)


def _draw(axes: Axes, taken: Sequence[float], mode: str, *, banded: bool) -> None:
    n = len(taken)
    if not n:
        return
    shares = np.arange(n + 1) / n
    steps = np.unique(np.linspace(0, n, min(n, MOST_STEPS) + 1).round().astype(int))
    x = np.concatenate([[0.0], np.asarray(taken)])[steps]
    y = shares[steps]
    axes.step(x, y, where="post", color=MODE_COLOURS[mode], linewidth=1.8, label=mode)
    if banded:
        reach = band(n)
        low, high = np.clip(y - reach, 0, 1), np.clip(y + reach, 0, 1)
        axes.fill_between(
            x[1:], low[1:], high[1:], step="post", color=MODE_COLOURS[mode], alpha=0.13, linewidth=0
        )
