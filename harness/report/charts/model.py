"""What a chart is made of. All values are in the units of the data.

A chart has panels of three kinds: rows over one axis, curves over two, and a grid of shaded cells.
A `look` is the name of a colour in `LOOKS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from harness.analysis.model import Figure
from harness.report.tables import Table
from harness.report.wording import number


class Look(NamedTuple):
    """One colour: on white paper, and as a character and a colour of the terminal.

    What has no character is not drawn there.
    """

    paper: str
    mark: str
    style: str


LOOKS = {
    "blue": Look("#0072B2", "▒", "blue"),
    "orange": Look("#E69F00", "~", "yellow"),
    "green": Look("#009E73", "█", "green"),
    "pink": Look("#CC79A7", "+", "magenta"),
    "vermillion": Look("#D55E00", "x", "red"),
    "sky": Look("#56B4E9", "░", "cyan"),
    "pale": Look("#C4C4C4", "·", "bright_black"),
    "dark": Look("#222222", "-", "default"),
    "outage": Look("#F8F3B4", "", ""),
    "path": Look("#222222", "", ""),
}
"""Colours of Okabe and Ito, Color Universal Design (https://jfly.uni-koeln.de/color/), which people
with any common colour vision tell apart; the page has its own shades of them in each scheme."""

SERIES = ("blue", "orange", "green", "pink", "vermillion", "sky")
"""The colours of series without a colour of their own; each has a shape of marker, too."""

MODE_LOOKS = {"sync": "orange", "threads": "green", "async": "blue"}

PART_LOOKS = {
    "permit_wait": ("permit wait", "pale"),
    "backoff": ("backoff", "orange"),
    "failed_attempts": ("failed attempts", "vermillion"),
    "to_first_token": ("first token", "sky"),
    "reasoning": ("reasoning", "blue"),
    "answer": ("answer", "green"),
    "other": ("other, client wait", "dark"),
}
"""The parts of a call's time, in the order in which they are stacked: name in words, colour."""


class Tick(NamedTuple):
    """A marked value of an axis and what is written there."""

    value: float
    text: str


class Axis(NamedTuple):
    """An axis; `end` equals `start` where everything was over in no time."""

    label: str
    start: float
    end: float
    ticks: tuple[Tick, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Return where `value` stands, in percent, kept within the axis."""
        start, end = self.start, self.end
        if self.log:
            start, end, value = math.log(start), math.log(end), math.log(value)
        if end <= start:
            return 0.0
        return round(min(max(100 * (value - start) / (end - start), 0.0), 100.0), 3)


class Bar(NamedTuple):
    """A rectangle from `start` to `end`; `text` stands inside.

    `low`, `high`: shares (0 to 1) of the row's height. `pale`: drawn lighter.
    """

    start: float
    end: float
    look: str
    text: str = ""
    low: float = 0.0
    high: float = 1.0
    pale: bool = False


class Dot(NamedTuple):
    """A dot. `aside`: how far from the middle of the row, as a share of its height."""

    value: float
    look: str
    shape: Literal["filled", "hollow", "cross"] = "filled"
    aside: float = 0.0


class ChartRow(NamedTuple):
    """One row: a label, marks over the axis, and what is written beside.

    `mark`: why the row stands out, in words. `words`: all of the row in words.
    """

    label: str
    beside: str = ""
    bars: tuple[Bar, ...] = ()
    dots: tuple[Dot, ...] = ()
    interval: Figure | None = None
    mark: str = ""
    words: str = ""


class RowPanel(NamedTuple):
    """Rows over one axis. `height` is a row's, in pixels; `beside` heads the texts beside."""

    title: str
    rows: tuple[ChartRow, ...]
    axis: Axis
    height: int
    beside: str = ""


class Point(NamedTuple):
    """A point of a series and its interval, where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    hollow: bool = False
    ringed: bool = False


class Series(NamedTuple):
    """Points joined by a line: with markers, as steps (an interval is a band), or dashed.

    `name` is written at its end.
    """

    name: str
    look: str
    points: tuple[Point, ...]
    shape: Literal["marked", "steps", "dashed"] = "marked"


class Reference(NamedTuple):
    """A value of the y axis that the curves are compared with."""

    name: str
    value: float


class CurvePanel(NamedTuple):
    """Curves over two axes."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    references: tuple[Reference, ...] = ()


class HeatCell(NamedTuple):
    """One cell of a grid: its text, how strongly it is shaded (0 to 1), whether it is framed."""

    text: str
    strength: float = 0.0
    framed: bool = False


class HeatPanel(NamedTuple):
    """A grid of cells: `rows` are labels with a cell for each of `columns`."""

    title: str
    look: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]
    axis: str


Panel = RowPanel | CurvePanel | HeatPanel


class Key(NamedTuple):
    """One entry of a legend. `marker`: the colour is that of a series with markers."""

    look: str
    text: str
    marker: bool = False


class Chart(NamedTuple):
    """A chart. `finding` says what it shows, `alt` describes it, `table` has its numbers.

    `across`: how many panels stand side by side where there is room. `more`: data that are drawn
    but too long to be shown as a table.
    """

    title: str
    finding: str
    alt: str
    notes: tuple[str, ...]
    panels: tuple[Panel, ...]
    legend: tuple[Key, ...]
    table: Table
    across: int = 1
    more: tuple[Table, ...] = ()


def axis_from_zero(label: str, end: float) -> Axis:
    """Return an axis from 0 to `end` with round ticks."""
    return Axis(label, 0.0, end, round_ticks(0.0, end))


def log_axis(label: str, low: float, high: float) -> Axis:
    """Return a logarithmic axis that holds two positive values, and two ticks at least."""
    start, end = low / (high / low * 1.2) ** 0.06, high * (high / low * 1.2) ** 0.06
    powers = range(math.floor(math.log10(start)), math.ceil(math.log10(end)) + 1)
    factors = (1, 2, 5) if len(powers) < 4 else (1,)
    values = [factor * 10.0**power for power in powers for factor in factors]
    ticks = tuple(Tick(value, f"{value:g}") for value in values if start <= value <= end)
    return Axis(label, start, end, ticks if len(ticks) > 2 else round_ticks(start, end), log=True)


def round_ticks(start: float, end: float, most: int = 5) -> tuple[Tick, ...]:
    """Return round values (1, 2 or 5 times a power of ten), `most` steps of them at most."""
    if end <= start:
        return (Tick(start, f"{start:g}"),)
    rough = (end - start) / most * 0.999999
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(start / step - 1e-6), math.floor(end / step + 1e-6)
    return tuple(
        Tick(at * step, f"{at * step:.{decimals}f}" if at else "0") for at in range(first, last + 1)
    )


def legible(ticks: Sequence[Tick], axis: Axis, gap: float = 6.0) -> tuple[Tick, ...]:
    """Leave out, from the right, ticks that stand closer together than their texts are wide."""
    kept: list[Tick] = []
    for tick in reversed(ticks):
        if not kept or axis.place(kept[-1].value) - axis.place(tick.value) >= gap:
            kept.append(tick)
    return tuple(reversed(kept))


def axis_end(figures: Sequence[Figure]) -> float:
    """Return how far an axis from 0 must reach: to every interval, but not for one that is huge.

    Two or three repeats can give an interval many times the value; drawn whole, it would flatten
    all the rest. Such a bar runs out of the axes instead.
    """
    largest = max((figure.value for figure in figures), default=0.0)
    ends = [figure.high or figure.value for figure in figures]
    return min(max(ends, default=0.0), 1.8 * largest) or 1.0


def runs_out(figures: Sequence[Figure]) -> list[str]:
    """Return a note when an interval is longer than its axis."""
    end = axis_end(figures)
    cut = any(figure.high is not None and figure.high > end for figure in figures)
    return ["A bar that meets the edge goes on beyond it."] if cut else []


def scattered(at: int) -> float:
    """Return how far aside dot number `at` stands, so that it does not hide its neighbours.

    Steps of the golden ratio keep neighbours apart and are the same every time.
    """
    return (at * 0.618034 % 1 - 0.5) * 0.55


def stacked(parts: Iterable[tuple[str, float, str]]) -> tuple[Bar, ...]:
    """Return bars of these looks, lengths and texts, one after the other from 0."""
    bars, start = [], 0.0
    for look, length, text in parts:
        if length > 0:
            bars.append(Bar(start, start + length, look, text))
        start += length
    return tuple(bars)


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
