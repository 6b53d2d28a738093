"""Throughput and speed-up over permits: a panel each, one line a mode, policy and scope."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from harness.analysis.model import Cell, Figure
from harness.report.html.chart_model import Chart, Key, Scale, Tick, extremes, ticks
from harness.report.tables import Column, Subject, Table
from harness.report.plots.permits import KNEE, PermitCurve, knee, lines_of
from harness.report.plots.style import axis_end, runs_out
from harness.report.wording import in_seconds, rate_unit, scaled, value_of

HEIGHT = 240
"""Of a panel's plot, in pixels."""

LOOKS = 6
"""There are so many colours and shapes of lines; then they begin again."""

_EDGE = 7.0
"""Percent left free beside the outermost permit counts."""

_ASIDE = 1.1
"""How far apart lines stand at one permit count, in percent, so that their bars stay apart."""


class Point(NamedTuple):
    """One cell: `x` in percent, the rest in pixels from above."""

    x: float
    y: float
    low: float | None
    high: float | None
    lossy: bool


class Stroke(NamedTuple):
    """A straight piece of a line."""

    x1: float
    y1: float
    x2: float
    y2: float


class Series(NamedTuple):
    """One line: its colour and shape, its points, the strokes between them, and its bound."""

    look: str
    points: tuple[Point, ...]
    strokes: tuple[Stroke, ...]
    bound: tuple[Stroke, ...]


class Panel(NamedTuple):
    """One quantity over permits. `y_ticks` are pixels from above, `x_ticks` percent."""

    title: str
    axis: str
    height: int
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    series: tuple[Series, ...]
    references: tuple[float, ...]


class _Quantity(NamedTuple):
    title: str
    axis: str
    of: Callable[[Cell], Figure | None]
    bounded: bool = True


def permits_chart(about: Subject) -> Chart | None:
    """Draw what more permits bring; None when no mode ran with more than one permit count."""
    summary = about.summary
    lines = lines_of(summary)
    if not any(len(line.cells) > 1 for line in lines):
        return None
    unit, factor = rate_unit(summary)
    every = (
        _Quantity("throughput", f"workflows {unit}",
                  lambda cell: scaled(cell.throughput.workflows_per_s, factor)),
        _Quantity("speed-up over sync", "times as fast as sync", lambda c: c.speedup_over_sync),
        _Quantity("workflow latency, median", "seconds",
                  lambda c: in_seconds(c.workflow_latency_s.p50, summary), bounded=False),
        _Quantity("workflow latency, 95th percentile", "seconds",
                  lambda c: in_seconds(c.workflow_latency_s.p95, summary), bounded=False),
    )  # fmt: skip
    cells = [cell for line in lines for cell in line.cells]
    quantities = [one for one in every if any(one.of(cell) for cell in cells)]
    if not quantities:
        return None
    first = next(one for one in reversed(quantities[:2]))
    values = [value_of(first.of(cell)) for cell in cells]
    drawn = [figure for one in quantities for cell in cells if (figure := one.of(cell))]
    words = extremes((about.labels[cell.id] for cell in cells), values, first.axis)
    return Chart(
        "permits",
        "What more permits bring",
        f"{' and '.join(one.title for one in quantities)} over permits. {words}",
        (
            "Bars: 95\u00a0% intervals, of latencies over workflows, else over repeats. Dotted: "
            "sync. Dashed: the bound set by the critical path, decompose + longest branch + "
            "synthesize as measured, with a permit always at hand.",
            *_note_of_knees(lines),
            *_note_of_losses(cells),
            *runs_out(drawn),
        ),
        "permits",
        tuple(_panel(one, lines) for one in quantities),
        tuple(Key(f"line-{at % LOOKS}", line.name) for at, line in enumerate(lines)),
        _table(about, every),
    )  # fmt: skip


def _note_of_knees(lines: Sequence[PermitCurve]) -> list[str]:
    found = [(line.name, cell) for line in lines if (cell := knee(line)) is not None]
    if not found:
        return []
    where = ", ".join(f"{name} {cell.permits}" for name, cell in found)
    share = f"{KNEE * 100:.0f}\u00a0%"
    return [f"The knee, the fewest permits with {share} of a line's highest throughput: {where}."]


def _table(about: Subject, every: Sequence[_Quantity]) -> Table:
    throughput, speedup = ([one.of(cell) for cell in about.cells] for one in every[:2])
    bounds = [_bound(every[0], cell) for cell in about.cells]
    unit, _ = rate_unit(about.summary)
    per = unit.split()[1]
    return about.of_cells(
        "permits",
        f"Throughput in workflows {unit}, and speed-up over sync",
        (
            Column("permits", "", [cell.permits for cell in about.cells]),
            Column("throughput", f"throughput_workflows_per_{per}", throughput),
            Column("speed-up", "speedup_over_sync", speedup),
            Column("throughput at the bound", f"bound_workflows_per_{per}", bounds),
        ),
    )


def _note_of_losses(cells: Sequence[Cell]) -> list[str]:
    said = "Hollow: not every workflow ended ok; throughput counts all that ended."
    return [said] if any(_loses(cell) for cell in cells) else []


def _loses(cell: Cell) -> bool:
    return cell.workflows.ok < cell.workflows.started


def _bound(quantity: _Quantity, cell: Cell) -> float | None:
    """Return what the value would be if the makespan were its critical-path bound."""
    value, makespan = quantity.of(cell), cell.makespan_s
    if not quantity.bounded or value is None or makespan is None or not cell.critical_path_bound_s:
        return None
    return value.value * makespan.value / cell.critical_path_bound_s


def _panel(quantity: _Quantity, lines: Sequence[PermitCurve]) -> Panel:
    cells = [cell for line in lines for cell in line.cells]
    known = [figure for cell in cells if (figure := quantity.of(cell)) is not None]
    bounds = [bound for cell in cells if (bound := _bound(quantity, cell)) is not None]
    syncs = [
        figure.value
        for line in lines
        if line.sync is not None and (figure := quantity.of(line.sync)) is not None
    ]
    scale = Scale(max([axis_end(known), *bounds, *syncs]) * 1.05)
    counts = sorted({cell.permits for cell in cells})
    places = dict(zip(counts, _places(counts), strict=True))
    return Panel(
        quantity.title,
        quantity.axis,
        HEIGHT,
        tuple(Tick(_height(tick.at), tick.text) for tick in ticks(scale)),
        _legible([Tick(places[count], str(count)) for count in counts]),
        tuple(
            _series(quantity, line, at, at - (len(lines) - 1) / 2, places, scale)
            for at, line in enumerate(lines)
        ),
        tuple(_height(scale.place(value)) for value in dict.fromkeys(syncs)),
    )


def _height(percent: float) -> float:
    return round(HEIGHT * (1 - percent / 100), 1)


def _places(counts: Sequence[int]) -> list[float]:
    low, high = math.log2(counts[0]), math.log2(counts[-1])
    span = (high - low) or 1.0
    inner = 100 - 2 * _EDGE
    if low == high:
        return [50.0]
    return [round(_EDGE + inner * (math.log2(count) - low) / span, 3) for count in counts]


def _legible(found: Sequence[Tick], gap: float = 6.0) -> tuple[Tick, ...]:
    """Leave out, from the right, ticks that stand closer together than their texts are wide."""
    kept: list[Tick] = []
    for tick in reversed(found):
        if not kept or kept[-1].at - tick.at >= gap:
            kept.append(tick)
    return tuple(reversed(kept))


def _series(
    quantity: _Quantity,
    line: PermitCurve,
    at: int,
    aside: float,
    places: dict[int, float],
    scale: Scale,
) -> Series:
    def y(value: float | None) -> float | None:
        return None if value is None else _height(scale.place(value))

    points, bound = [], []
    for cell in line.cells:
        figure, most = quantity.of(cell), _bound(quantity, cell)
        x = round(places[cell.permits] + aside * _ASIDE, 3)
        if figure is not None:
            top = _height(scale.place(figure.value))
            points.append(Point(x, top, y(figure.low), y(figure.high), _loses(cell)))
        if most is not None:
            bound.append((places[cell.permits], _height(scale.place(most))))
    ends = (
        [(bound[0][0] - 4, bound[0][1]), *bound, (bound[-1][0] + 4, bound[-1][1])] if bound else []
    )
    return Series(
        f"line-{at % LOOKS}",
        tuple(points),
        tuple(Stroke(one.x, one.y, other.x, other.y) for one, other in pairwise(points)),
        tuple(Stroke(*one, *other) for one, other in pairwise(ends)),
    )
