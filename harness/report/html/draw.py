"""Draws the panels of a chart as SVG whose text keeps its size at any width."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, assert_never

from harness.report.charts.model import (
    Axis,
    ChartRow,
    CurvePanel,
    HeatPanel,
    Panel,
    RowPanel,
    Series,
)

LEAST_WIDTH = 0.1
"""Percent of the axis, so that a bar without a length is visible."""


def panel_kind(panel: Panel) -> Literal["rows", "curves", "heat"]:
    """Return the kind of a panel, for the template."""
    match panel:
        case RowPanel():
            return "rows"
        case CurvePanel():
            return "curves"
        case HeatPanel():
            return "heat"
        case _:
            assert_never(panel)


def bar_paths(row: ChartRow, axis: Axis) -> list[tuple[str, str]]:
    """Return a path for each colour of a row, in a box of 100 by 100."""
    paths: dict[str, str] = {}
    for bar in row.bars:
        x = axis.place(bar.start)
        width = max(axis.place(bar.end) - x, LEAST_WIDTH)
        tall = 100 * (bar.high - bar.low)
        look = f"{bar.look} light" if bar.pale else bar.look
        paths[look] = paths.get(look, "") + (
            f"M{x:.5g} {100 * (1 - bar.high):.4g}h{width:.3g}v{tall:.4g}h-{width:.3g}z"
        )
    return list(paths.items())


def curve_paths(series: Series, panel: CurvePanel) -> list[tuple[str, str]]:
    """Return the paths of a series, the band of steps first, in a box of 100 by 100."""
    points = series.points
    line = [(point.x, point.y) for point in points]
    match series.shape:
        case "marked" | "dashed" | "line":
            return [(series.shape, _path(line, panel))]
        case "loose":
            return []
        case "cloud":
            # Lines without a length have round ends: one path for all dots.
            return [(series.shape, "".join(f"{_path([place], panel)}h0" for place in line))]
        case "steps":
            low = _steps([(p.x, p.low) for p in points if p.low is not None])
            high = _steps([(p.x, p.high) for p in points if p.high is not None])
            band = [("band", _path([*low, *reversed(high)], panel))] if low else []
            return [*band, (series.shape, _path(_steps(line), panel))]
        case _:
            assert_never(series.shape)


def _steps(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Insert a corner between each point and the next one, level with the first."""
    corners = [[(x, y), (after, y)] for (x, y), (after, _) in pairwise(points)]
    return [*(corner for pair in corners for corner in pair), *points[-1:]]


def _path(points: list[tuple[float, float]], panel: CurvePanel) -> str:
    places = [(f"{panel.x.place(x):.4g}", f"{100 - panel.y.place(y):.4g}") for x, y in points]
    path = "M" + " ".join(places[0])
    for (x, y), (next_x, next_y) in pairwise(places):
        if y == next_y:
            path += f"H{next_x}"
        else:
            path += f"V{next_y}" if x == next_x else f"L{next_x} {next_y}"
    return path
