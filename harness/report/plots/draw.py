"""Draws a chart with matplotlib and writes it as SVG and PNG."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from harness.analysis.model import Summary
from harness.records.errors import StorageError
from harness.report.charts.model import LOOKS, Chart, CurvePanel, RowPanel
from harness.report.plots.panels import INK, MUTED, draw_panel, inches
from harness.report.wording import simulated_note

FIGURE_WIDTH = 9.0
"""Width of every figure in inches."""

AROUND = 0.62
"""Inches around a row of panels for titles, ticks and the label of the axis."""

RC: dict[Any, Any] = {
    "figure.dpi": 150,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "text.parse_math": False,  # a topic can have dollar signs
    "svg.fonttype": "none",  # text remains text, for search and for screen readers
    "svg.hashsalt": "harness",  # equal runs give equal files
}


def save_plot(chart: Chart | None, name: str, summary: Summary, directory: Path) -> list[Path]:
    """Write `directory`/plots/`name`.svg and .png (150 dpi) and return their paths.

    The names of a simulated run end in `-simulated`. Without a chart it removes earlier files.
    Raises StorageError.
    """
    plots = directory / "plots"
    stem = f"{name}-simulated" if summary.simulated else name
    svg, png = plots / f"{stem}.svg", plots / f"{stem}.png"
    try:
        plots.mkdir(parents=True, exist_ok=True)
        if chart is None:
            svg.unlink(missing_ok=True)
            png.unlink(missing_ok=True)
            return []
        # Without a date in the metadata, equal runs give equal files.
        said = {"Date": None, "Title": chart.title, "Description": chart.alt}
        with mpl.rc_context(RC), warnings.catch_warnings():
            # The font lacks the letters of many languages: the PNG has boxes, the SVG the text.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure = draw_chart(chart, summary)
            # `savefig` would draw everything twice, the first time for the layout.
            FigureCanvasAgg(figure).print_png(png)  # type: ignore[no-untyped-call]
            figure.set_layout_engine("none")
            FigureCanvasSVG(figure).print_svg(svg, metadata=said)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise StorageError(f"{plots}: cannot be written ({error.strerror})") from error
    return [svg, png]


def draw_chart(chart: Chart, summary: Summary) -> Figure:
    """Return a chart as a figure: its finding above, its panels, its notes below."""
    said = " ".join(note for note in (simulated_note(summary), *chart.notes) if note)
    heading = textwrap.wrap(chart.finding or chart.title, 96)
    footing = textwrap.wrap(f"{said} Scenario: {summary.scenario}.".strip(), 148)
    # Curves have their names at their ends, so they need no legend.
    keys = () if any(isinstance(panel, CurvePanel) for panel in chart.panels) else chart.legend
    lines = -(-sum(len(key.text) * 7 + 42 for key in keys) // 880)  # of the legend
    rows = [
        chart.panels[at : at + chart.across] for at in range(0, len(chart.panels), chart.across)
    ]
    heights = [max(map(inches, row)) for row in rows]
    above = 0.14 + 0.2 * len(heading) + 0.24 * lines
    below = 0.1 + 0.15 * len(footing)
    height = sum(heights) + AROUND * len(rows)
    total = above + height + below
    layout = ConstrainedLayoutEngine(
        wspace=0.06, hspace=0.04, rect=(0, below / total, 1, height / total)
    )
    figure = Figure(figsize=(FIGURE_WIDTH, total), layout=layout)
    left = 0.08 / FIGURE_WIDTH
    figure.text(
        left, 1 - 0.1 / total, "\n".join(heading), va="top", fontsize=11.5, fontweight="bold"
    )
    figure.text(left, 0.07 / total, "\n".join(footing), va="bottom", fontsize=8, color=MUTED)
    if keys:
        figure.legend(
            handles=[Patch(facecolor=LOOKS[key.look].paper, label=key.text) for key in keys],
            loc="upper left", bbox_to_anchor=(0, 1 - (0.12 + 0.2 * len(heading)) / total),
            ncols=-(-len(keys) // lines), fontsize=9, frameon=False, borderaxespad=0.3,
            handlelength=1.1, handleheight=1.1, columnspacing=1.5, handletextpad=0.5,
        )  # fmt: skip
    grid = figure.add_gridspec(len(rows), chart.across, height_ratios=heights)
    for at, row in enumerate(rows):
        for column, panel in enumerate(row):
            alone = len(row) == 1 and chart.across > 1
            axes = figure.add_subplot(grid[at, :] if alone else grid[at, column])
            shared = column > 0 and isinstance(panel, RowPanel)
            draw_panel(axes, panel, labelled=not shared)
    return figure
