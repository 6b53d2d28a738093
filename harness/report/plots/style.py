"""One look for every plot: colours, type, notes, and how a figure becomes files.

Colours are those of Okabe and Ito, Color Universal Design (https://jfly.uni-koeln.de/color/),
which people with any common colour vision tell apart.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from harness.analysis.model import Figure as Estimate
from harness.analysis.model import Summary
from harness.report.wording import simulated_note

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
VERMILLION, SKY, INK, MUTED, PALE = "#D55E00", "#56B4E9", "#222222", "#666666", "#C4C4C4"
YELLOW = "#F0E442"

SERIES = (BLUE, ORANGE, GREEN, PINK, VERMILLION, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
MODE_COLOURS = {"sync": ORANGE, "threads": GREEN, "async": BLUE}

PART_STYLES: dict[str, tuple[str, str]] = {
    "permit_wait": ("permit wait", PALE),
    "backoff": ("backoff", ORANGE),
    "failed_attempts": ("failed attempts", VERMILLION),
    "to_first_token": ("to first token", SKY),
    "reasoning": ("reasoning", BLUE),
    "answer": ("answer", GREEN),
    "other": ("other", INK),
}
"""The parts of a call's time, in the order they are stacked: name in words, colour."""

FIGURE_WIDTH = 9.0
"""Width of every figure in inches."""

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
    "svg.fonttype": "none",  # text stays text: searchable, and readable by a screen reader
    "svg.hashsalt": "harness",  # the same run gives the same bytes
}


def new_figure(
    height: float,
    title: str,
    summary: Summary,
    notes: Sequence[str] = (),
    parts: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
) -> Figure:
    """Return a figure with `height` inches for its axes, a title above and notes below them.

    The notes begin with what makes a simulated run's seconds different. `parts` name the colours
    of `PARTS` that need a key, `keys` are others (words and colour); they stand between title and
    axes.
    """
    colours = {PART_STYLES[part][0]: PART_STYLES[part][1] for part in parts} | dict(keys or {})
    said = " ".join(note for note in (simulated_note(summary), *notes) if note)
    heading = textwrap.wrap(title, 96)
    footing = textwrap.wrap(f"{said} Scenario: {summary.scenario}.".strip(), 148)
    above = 0.12 + 0.2 * len(heading) + (0.3 if colours else 0.08)
    below = 0.1 + 0.15 * len(footing)
    total = above + height + below
    layout = ConstrainedLayoutEngine(wspace=0.06, rect=(0, below / total, 1, height / total))
    figure = Figure(figsize=(FIGURE_WIDTH, total), layout=layout)
    left = 0.08 / FIGURE_WIDTH
    figure.text(
        left, 1 - 0.1 / total, "\n".join(heading), va="top", fontsize=11.5, fontweight="bold"
    )
    figure.text(left, 0.07 / total, "\n".join(footing), va="bottom", fontsize=8, color=MUTED)
    if colours:
        figure.legend(
            handles=[Patch(facecolor=colour, label=words) for words, colour in colours.items()],
            loc="upper left", bbox_to_anchor=(0, 1 - (0.12 + 0.2 * len(heading)) / total),
            ncols=len(colours), fontsize=9, frameon=False, borderaxespad=0.3, handlelength=1.1,
            handleheight=1.1, columnspacing=1.5, handletextpad=0.5,
        )  # fmt: skip
    return figure


def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Write `name`.svg and `name`.png (150 dpi) without anything that changes from run to run."""
    svg, png = directory / f"{name}.svg", directory / f"{name}.png"
    # `savefig` draws everything twice, the first time to lay it out; here it is drawn once a file.
    FigureCanvasAgg(figure).print_png(png)  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return [svg, png]


def error_lengths(estimate: Estimate) -> list[list[float]] | None:
    """Return what matplotlib wants for one interval, or None where there is none."""
    if estimate.low is None or estimate.high is None:
        return None
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    return [[max(below, 0.0)], [max(above, 0.0)]]


def axis_end(estimates: Sequence[Estimate]) -> float:
    """Return how far an axis from 0 must reach: to every interval, but not for one that is huge.

    Two or three repeats can give an interval many times the value; drawn whole, it would flatten
    all the rest. Such a bar runs out of the axes instead.
    """
    largest = max((estimate.value for estimate in estimates), default=0.0)
    ends = [estimate.high or estimate.value for estimate in estimates]
    return min(max(ends, default=0.0), 1.8 * largest) or 1.0


def runs_out(estimates: Sequence[Estimate]) -> list[str]:
    """Return a note when an interval is longer than its axis."""
    end = axis_end(estimates)
    cut = any(estimate.high is not None and estimate.high > end for estimate in estimates)
    return ["A bar that meets the edge goes on beyond it."] if cut else []


def spread_apart(positions: Sequence[float], gap: float) -> list[float]:
    """Move positions as little as needed so that neighbours are `gap` apart; order is kept."""
    order = sorted(range(len(positions)), key=lambda at: positions[at])
    blocks: list[list[float]] = []  # [sum of wished starts, number of members]
    for at in order:
        blocks.append([positions[at], 1])
        while len(blocks) > 1 and _top(blocks[-2], gap) + gap > _bottom(blocks[-1], gap):
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    moved = [0.0] * len(positions)
    ranks = iter(order)
    for block in blocks:
        for step in range(int(block[1])):
            moved[next(ranks)] = _bottom(block, gap) + step * gap
    return moved


def _bottom(block: Sequence[float], gap: float) -> float:
    return block[0] / block[1] - gap * (block[1] - 1) / 2


def _top(block: Sequence[float], gap: float) -> float:
    return block[0] / block[1] + gap * (block[1] - 1) / 2


def write_beside(axes: Axes, row: float, text: str) -> None:
    """Write `text` to the right of the axes, level with `row`."""
    axes.annotate(
        text, (1.0, row), xycoords=("axes fraction", "data"), xytext=(5, 0),
        textcoords="offset points", va="center", fontsize=9, annotation_clip=False,
    )  # fmt: skip


def head_beside(axes: Axes, text: str) -> None:
    """Write what stands to the right of the axes, level with their title."""
    axes.annotate(
        text, (1.0, 1.0), xycoords="axes fraction", xytext=(5, 6), textcoords="offset points",
        va="baseline", fontsize=9, fontweight="bold", annotation_clip=False,
    )  # fmt: skip


def rows_of_cells(axes: Axes, labels: Sequence[str]) -> None:
    """Make the y axis a list of cells from top to bottom."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def label_line_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], inches: float) -> None:
    """Write (y, text, colour) beside the right edge of `axes`, `inches` tall, none on another."""
    low, high = axes.get_ylim()
    gap = 0.17 / inches
    wished = [(y - low) / (high - low) for y, _, _ in labels]
    for (_, text, colour), y in zip(labels, spread_apart(wished, gap), strict=True):
        axes.annotate(
            text, (1.0, y), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=9, color=colour, annotation_clip=False,
        )  # fmt: skip
