"""Draws the panels of a chart with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, assert_never

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from harness.analysis.model import Figure
from harness.report.charts.model import (
    LOOKS,
    SERIES,
    Axis,
    Bar,
    ChartRow,
    CurvePanel,
    HeatPanel,
    Panel,
    Point,
    RowPanel,
    Series,
)

INK, MUTED = "#222222", "#666666"
MARKERS = {
    **dict(zip(SERIES, ("o", "s", "^", "D", "v", "P"), strict=True)),
    "dark": "x",
    "pale": "o",
}

PIXELS = 80
"""Pixels of a row's height per inch."""

CURVES, HEAT_ROW, MOST_INCHES, LEAST_ROW = 2.7, 0.34, 5.2, 0.16
"""Inches: the height of curves and of a row of a heat map; the largest height of all rows together,
unless each would have less than the least."""

MOST_EDGED = 400
"""With more bars than this they have no white edges, which would hide them."""

_DARK = {"blue", "green", "vermillion", "dark"}


def inches(panel: Panel) -> float:
    """Return the height of a panel."""
    match panel:
        case RowPanel():
            count = max(len(panel.rows), 1)
            return min(count * panel.height / PIXELS, max(MOST_INCHES, count * LEAST_ROW))
        case CurvePanel():
            return CURVES
        case HeatPanel():
            return HEAT_ROW * len(panel.rows)
        case _:
            assert_never(panel)


def draw_panel(axes: Axes, panel: Panel, *, labelled: bool = True) -> None:
    """Draw a panel; `labelled`: with the labels of its rows, unless its neighbour has them."""
    axes.set_title(panel.title)
    match panel:
        case RowPanel():
            _draw_rows(axes, panel)
        case CurvePanel():
            _draw_curves(axes, panel)
        case HeatPanel():
            _draw_heat(axes, panel)
        case _:
            assert_never(panel)
    axes.tick_params(axis="y", labelleft=labelled)


def _set_axis(axes: Axes, axis: Axis, which: str) -> None:
    if axis.log:
        getattr(axes, f"set_{which}scale")("log")
    end = axis.end if axis.end > axis.start else axis.start + 1
    getattr(axes, f"set_{which}lim")(axis.start, end)
    side = getattr(axes, f"{which}axis")
    side.set_major_locator(FixedLocator([tick.value for tick in axis.ticks]))
    side.set_minor_locator(NullLocator())
    side.set_ticklabels([tick.text for tick in axis.ticks])
    getattr(axes, f"set_{which}label")(axis.label)


def _draw_rows(axes: Axes, panel: RowPanel) -> None:
    rows = panel.rows
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    _set_axis(axes, panel.axis, "x")
    _label_rows(axes, panel)
    by_look: dict[tuple[str, bool], list[tuple[int, Bar]]] = {}
    for at, row in enumerate(rows):
        for bar in row.bars:
            by_look.setdefault((bar.look, bar.pale), []).append((at, bar))
    edge = 0.4 if sum(map(len, by_look.values())) < MOST_EDGED else 0.0
    for (look, pale), bars in by_look.items():
        axes.add_collection(
            PolyCollection(
                [_corners(at, bar) for at, bar in bars],
                facecolors=LOOKS[look].paper, edgecolors="white", linewidths=edge,
                alpha=0.35 if pale else 1.0, label=look,
            ),
            autolim=False,
        )  # fmt: skip
    for at, row in enumerate(rows):
        _draw_row(axes, at, row)
    axes.annotate(
        panel.beside, (1.0, 1.0), xycoords="axes fraction", xytext=(5, 6),
        textcoords="offset points", va="baseline", fontsize=9, fontweight="bold",
        annotation_clip=False,
    )  # fmt: skip
    axes.grid(visible=False, axis="y")


def _corners(at: int, bar: Bar) -> list[tuple[float, float]]:
    low, high = at + 0.39 - 0.78 * bar.low, at + 0.39 - 0.78 * bar.high
    return [(bar.start, low), (bar.end, low), (bar.end, high), (bar.start, high)]


def _label_rows(axes: Axes, panel: RowPanel) -> None:
    rows = panel.rows
    step = -(-len(rows) * 15 // int(100 * inches(panel))) or 1
    named = list(range(len(rows) - 1, -1, -step))
    axes.set_yticks(named, [rows[at].label for at in named])
    axes.tick_params(axis="y", length=0, labelsize=9 if len(rows) <= 12 else 8)
    for at, text in zip(named, axes.get_yticklabels(), strict=True):
        text.set_fontweight("bold" if rows[at].mark else "normal")
        if rows[at].beside:
            axes.annotate(
                rows[at].beside, (1.0, at), xycoords=("axes fraction", "data"), xytext=(5, 0),
                textcoords="offset points", va="center", fontsize=9 if len(rows) <= 12 else 8,
                annotation_clip=False,
            )  # fmt: skip


def _draw_row(axes: Axes, at: int, row: ChartRow) -> None:
    for bar in row.bars:
        if bar.text:
            axes.text(
                (bar.start + bar.end) / 2, at, bar.text, ha="center", va="center", fontsize=8.5,
                color="white" if bar.look in _DARK else INK,
            )  # fmt: skip
    looks: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for dot in row.dots:
        looks.setdefault((dot.look, dot.shape), []).append((dot.value, at + dot.aside))
    for (look, shape), places in looks.items():
        colour = LOOKS[look].paper
        axes.scatter(
            [value for value, _ in places], [y for _, y in places], s=17,
            marker="x" if shape == "cross" else "o",
            facecolors="none" if shape == "hollow" else colour,
            edgecolors=colour if shape == "hollow" else None, linewidths=1, alpha=0.75,
            label=f"{shape} {row.label}", zorder=2,
        )  # fmt: skip
    if row.interval is not None:
        axes.errorbar(
            row.interval.value, at, xerr=_lengths(row.interval), fmt="|", color=INK, capsize=2.5,
            markersize=13, markeredgewidth=2, elinewidth=1.4, label=row.label,
        )  # fmt: skip


def _lengths(figure: Figure | Point) -> list[list[float]] | None:
    """Return an interval as matplotlib expects it; None without an interval."""
    value = figure.y if isinstance(figure, Point) else figure.value
    if figure.low is None or figure.high is None:
        return None
    return [[max(value - figure.low, 0.0)], [max(figure.high - value, 0.0)]]


def _breadths(point: Point) -> list[list[float]] | None:
    """Return the interval of x as matplotlib expects it; None without one."""
    if point.left is None or point.right is None:
        return None
    return [[max(point.x - point.left, 0.0)], [max(point.right - point.x, 0.0)]]


def _draw_curves(axes: Axes, panel: CurvePanel) -> None:
    _set_axis(axes, panel.x, "x")
    _set_axis(axes, panel.y, "y")
    names: dict[str, tuple[float, str]] = {}
    for one in panel.references:
        axes.axhline(one.value, color=MUTED, linestyle=":", linewidth=1.3, label=one.name)
        names[one.name] = (one.value, MUTED)
    for one in panel.verticals:
        axes.axvline(one.value, color=MUTED, linestyle=":", linewidth=1.3, label=one.name)
    faint = len(panel.series) > 6
    for series in panel.series:
        _draw_series(axes, series, faint=faint)
        colour = MUTED if series.shape == "dashed" else LOOKS[series.look].paper
        names[series.name] = (series.points[-1].y, colour)
    _label_line_ends(axes, [(y, name, colour) for name, (y, colour) in names.items()])


def _draw_series(axes: Axes, series: Series, *, faint: bool) -> None:
    colour, xs = LOOKS[series.look].paper, [point.x for point in series.points]
    style: dict[str, Any] = {"color": colour, "linewidth": 1.8, "label": series.name}
    ys = [point.y for point in series.points]
    match series.shape:
        case "dashed":
            axes.plot(xs, ys, "--", **style | {"linewidth": 1.2})
        case "steps":
            axes.step(xs, ys, where="post", **style)
            banded = [p for p in series.points if p.low is not None and p.high is not None]
            axes.fill_between(
                [p.x for p in banded], [p.low or 0.0 for p in banded],
                [p.high or 0.0 for p in banded], step="post", color=colour, alpha=0.13, linewidth=0,
            )  # fmt: skip
        case "line":
            axes.plot(xs, ys, **style)
        case "cloud":
            axes.scatter(xs, ys, s=5, color=colour, alpha=0.3, linewidths=0, label=series.name)
        case "marked" | "loose":
            if series.shape == "marked":
                axes.plot(xs, ys, **style)
            for point in series.points:
                if point.lost is not None:
                    axes.vlines(
                        point.x, point.y, point.lost, color=colour, linewidth=5, alpha=0.3,
                        label="lost",
                    )  # fmt: skip
                axes.errorbar(
                    point.x, point.y, yerr=_lengths(point), xerr=_breadths(point), color=colour,
                    capsize=3, marker=MARKERS[series.look], markersize=6,
                    markerfacecolor="white" if point.hollow else colour,
                    elinewidth=0.9 if faint else 1.3,
                )  # fmt: skip
                if point.ringed:
                    axes.plot(
                        point.x, point.y, "o", markersize=13, markerfacecolor="none",
                        markeredgecolor=colour, markeredgewidth=1.2, label="ring",
                    )  # fmt: skip
        case _:
            assert_never(series.shape)


def _draw_heat(axes: Axes, panel: HeatPanel) -> None:
    shade = LinearSegmentedColormap.from_list("shade", ["#FFFFFF", LOOKS[panel.look].paper])
    for at, (_, cells) in enumerate(panel.rows):
        for column, cell in enumerate(cells):
            axes.add_patch(
                Rectangle((column - 0.5, at - 0.5), 1, 1, facecolor=shade(cell.strength * 0.9))
            )
            axes.text(
                column, at, cell.text, ha="center", va="center", fontsize=9,
                color="white" if cell.strength > 0.62 else INK,
            )  # fmt: skip
            if cell.framed:
                axes.add_patch(
                    Rectangle((column - 0.46, at - 0.45), 0.92, 0.9, fill=False, linewidth=2)
                )
    axes.set_xlim(-0.5, len(panel.columns) - 0.5)
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    axes.set_xticks(range(len(panel.columns)), panel.columns)
    axes.set_yticks(range(len(panel.rows)), [label for label, _ in panel.rows])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xlabel(panel.axis)


def _label_line_ends(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write (y, text, colour) beside the right edge of `axes` without overlaps."""
    low, high = axes.get_ylim()
    wished = [(y - low) / (high - low) for y, _, _ in labels]
    for (_, text, colour), y in zip(labels, spread_apart(wished, 0.17 / CURVES), strict=True):
        axes.annotate(
            text, (1.0, y), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=9, color=colour, annotation_clip=False,
        )  # fmt: skip


def spread_apart(positions: Sequence[float], gap: float) -> list[float]:
    """Move positions as little as needed so that neighbours are `gap` apart; keep the order."""
    order = sorted(range(len(positions)), key=lambda at: positions[at])
    blocks: list[list[float]] = []  # positions less the gaps below; overlaps share their mean
    for rank, at in enumerate(order):
        blocks.append([positions[at] - rank * gap])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    levels = [fmean(block) for block in blocks for _ in block]
    moved = {at: levels[rank] + rank * gap for rank, at in enumerate(order)}
    return [moved[at] for at in range(len(positions))]
