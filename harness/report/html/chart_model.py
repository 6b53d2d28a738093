"""What a chart is made of, ready to be drawn: places in percent of its width, heights in pixels.

Charts are drawn by the page itself, as SVG whose text keeps its size at any width and whose
colours follow the page's scheme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.analysis.model import Figure
from harness.report.tables import Table
from harness.report.wording import number


class Scale(NamedTuple):
    """An axis from 0 to `end`, which is 0 where everything was over in no time."""

    end: float

    def place(self, value: float) -> float:
        """Return where `value` stands, in percent, kept within the axis."""
        if self.end <= 0:
            return 0.0
        return round(min(max(100 * value / self.end, 0.0), 100.0), 3)


class Tick(NamedTuple):
    """A marked place on an axis and what is written there."""

    at: float
    text: str


class Bar(NamedTuple):
    """A rectangle from `x`, `width` wide. `look` is its colour's name, `text` stands inside.

    `height`: share (0 to 1) of the row's, from below.
    """

    x: float
    width: float
    look: str
    text: str = ""
    height: float = 1.0


class Dot(NamedTuple):
    """A dot at `x` percent and `y` pixels; `look` tells its mode, `outcome` its shape."""

    x: float
    y: float
    look: str
    outcome: str


class Interval(NamedTuple):
    """A value with its interval, where it has one; `cut` when it goes on beyond the axis."""

    x: float
    low: float | None
    high: float | None
    cut: bool


class ChartRow(NamedTuple):
    """One row of a chart: a label, marks over the axis, and what is written beside."""

    label: str
    beside: str
    bars: tuple[Bar, ...] = ()
    dots: tuple[Dot, ...] = ()
    interval: Interval | None = None
    marked: bool = False


class RowChart(NamedTuple):
    """A chart of rows over one axis. `height` is a row's; `beside` heads the texts beside."""

    title: str
    lines: tuple[ChartRow, ...]
    ticks: tuple[Tick, ...]
    axis: str
    height: int
    beside: str = ""


class Key(NamedTuple):
    """One entry of a legend: the colour's name and what it stands for."""

    look: str
    text: str


class Chart(NamedTuple):
    """A figure of the report. `alt` says it in words, `table` in numbers.

    `panels` are `Rows`, or `permits.Panel` where `kind` is "permits": each kind has a drawing of
    its own in the template. `more`: data that is drawn but too long to be shown as a table.
    """

    name: str
    title: str
    alt: str
    notes: tuple[str, ...]
    kind: str
    panels: Sequence[object]
    legend: tuple[Key, ...]
    table: Table
    more: tuple[Table, ...] = ()


def ticks(scale: Scale, most: int = 5) -> tuple[Tick, ...]:
    """Return round values (1, 2 or 5 times a power of ten) from 0, `most` steps of them at most."""
    if scale.end <= 0:
        return (Tick(0.0, "0"),)
    rough = scale.end / most * 0.999999
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    count = math.floor(scale.end / step * 1.000001)
    return tuple(
        Tick(scale.place(at * step), f"{at * step:.{decimals}f}" if at else "0")
        for at in range(count + 1)
    )


def interval(figure: Figure, scale: Scale) -> Interval:
    """Return where a figure and its interval stand."""
    if figure.low is None or figure.high is None:
        return Interval(scale.place(figure.value), None, None, cut=False)
    return Interval(
        scale.place(figure.value), scale.place(figure.low), scale.place(figure.high),
        cut=figure.high > scale.end,
    )  # fmt: skip


def extremes(labels: Iterable[str], values: Iterable[float | None], unit: str) -> str:
    """Say between which numbers a chart's values lie, and whose they are."""
    known = [
        (value, label) for label, value in zip(labels, values, strict=True) if value is not None
    ]
    if not known:
        return "No value is known."
    (low, least), (high, most) = min(known), max(known)
    if least == most:
        return f"{least}: {number(low)} {unit}."
    return f"From {number(low)} {unit} ({least}) to {number(high)} {unit} ({most})."
