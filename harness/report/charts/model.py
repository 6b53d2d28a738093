"""The parts of a chart, in the units of the data. A `look` is the name of a colour in `LOOKS`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from harness.analysis.model import Figure
from harness.report.tables import Table
from harness.report.wording import number


class Look(NamedTuple):
    """A colour on paper; a character and a colour on the terminal (not drawn without one)."""

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
"""Colours of Okabe and Ito, Color Universal Design (https://jfly.uni-koeln.de/color/), which can be
told apart with any common colour vision. The style sheet of the page has shades of its own."""

SERIES = ("blue", "orange", "green", "pink", "vermillion", "sky")
"""The default colours of series; each also has its own shape of marker."""

MODE_LOOKS = {"sync": "orange", "serial": "orange", "threads": "green", "async": "blue"}

PART_LOOKS = {
    "permit_wait": ("permit wait", "pale"),
    "backoff": ("backoff", "orange"),
    "failed_attempts": ("failed attempts", "vermillion"),
    "to_first_token": ("first token", "sky"),
    "reasoning": ("reasoning", "blue"),
    "answer": ("answer", "green"),
    "other": ("other, client wait", "dark"),
}
"""Name and colour of each part of a call's time, in the order in which the parts are stacked."""


class Tick(NamedTuple):
    """A value on an axis and its text."""

    value: float
    text: str


class Axis(NamedTuple):
    """An axis; `end` equals `start` when nothing took any time.

    `names_from`: beyond it, places have names and no values; None without such places.
    """

    label: str
    start: float
    end: float
    ticks: tuple[Tick, ...]
    log: bool = False
    names_from: float | None = None

    def is_name(self, value: float) -> bool:
        """Return whether a place has a name and no value."""
        return self.names_from is not None and value > self.names_from

    def place(self, value: float) -> float:
        """Return the position of `value` in percent, limited to the axis."""
        start, end = self.start, self.end
        if self.log:
            start, end, value = math.log(start), math.log(end), math.log(value)
        if end <= start:
            return 0.0
        return round(min(max(100 * (value - start) / (end - start), 0.0), 100.0), 3)


class Bar(NamedTuple):
    """A rectangle. `low`, `high`: shares (0 to 1) of the row's height. `pale`: drawn lighter."""

    start: float
    end: float
    look: str
    text: str = ""
    low: float = 0.0
    high: float = 1.0
    pale: bool = False


class Dot(NamedTuple):
    """A dot. `aside`: its distance from the middle of the row, as a share of the height."""

    value: float
    look: str
    shape: Literal["filled", "hollow", "cross"] = "filled"
    aside: float = 0.0


class ChartRow(NamedTuple):
    """A row. `mark`: the reason why it is highlighted. `words`: the whole row in words."""

    label: str
    beside: str = ""
    bars: tuple[Bar, ...] = ()
    dots: tuple[Dot, ...] = ()
    interval: Figure | None = None
    mark: str = ""
    words: str = ""


class RowPanel(NamedTuple):
    """Rows over one axis. `height`: of a row, in pixels; `beside`: the head of the texts beside."""

    title: str
    rows: tuple[ChartRow, ...]
    axis: Axis
    height: int
    beside: str = ""


class Point(NamedTuple):
    """A point of a series, with an interval of y, and one of x, if it has them.

    `lost`: the end of a lighter bar above the point, for work that does not count.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    hollow: bool = False
    ringed: bool = False
    lost: float | None = None
    left: float | None = None
    right: float | None = None


class Series(NamedTuple):
    """Points joined by a line, with `name` at its end; steps can have a band.

    `line` and `dashed` have no markers. `loose`: markers without a line; `cloud`: many small dots.
    """

    name: str
    look: str
    points: tuple[Point, ...]
    shape: Literal["marked", "steps", "dashed", "line", "loose", "cloud"] = "marked"

    @property
    def has_markers(self) -> bool:
        """Whether each point has a marker and its intervals."""
        return self.shape in ("marked", "loose")


class Reference(NamedTuple):
    """A value of an axis to compare the curves with."""

    name: str
    value: float


class CurvePanel(NamedTuple):
    """Curves over two axes. `references`: values of the y axis; `verticals`: of the x axis."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    references: tuple[Reference, ...] = ()
    verticals: tuple[Reference, ...] = ()


class HeatCell(NamedTuple):
    """One cell of a grid: its text, the strength of its shade (0 to 1), whether it is framed."""

    text: str
    strength: float = 0.0
    framed: bool = False


class HeatPanel(NamedTuple):
    """A grid: `rows` are labels with a cell for each of `columns`."""

    title: str
    look: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]
    axis: str


Panel = RowPanel | CurvePanel | HeatPanel


class Key(NamedTuple):
    """An entry of a legend. `marker`: of a series with markers; `hollow`: of hollow ones.

    `line`: of a line without markers.
    """

    look: str
    text: str
    marker: bool = False
    hollow: bool = False
    line: Literal["", "line", "dashed", "reference"] = ""


class Chart(NamedTuple):
    """A chart. `finding`: the result in a sentence; `alt`: a description; `table`: the numbers.

    `across`: the number of panels side by side. `more`: data that are too long for the page.
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
    """Return a logarithmic axis around two positive values, with at least two ticks."""
    start, end = low / (high / low * 1.2) ** 0.06, high * (high / low * 1.2) ** 0.06
    powers = range(math.floor(math.log10(start)), math.ceil(math.log10(end)) + 1)
    for factors in ((1,), (1, 2, 5)) if len(powers) > 3 else ((1, 2, 5),):
        values = [factor * 10.0**power for power in powers for factor in factors]
        ticks = tuple(Tick(value, f"{value:g}") for value in values if start <= value <= end)
        if len(ticks) > 2:
            return Axis(label, start, end, ticks, log=True)
    return Axis(label, start, end, round_ticks(start, end), log=True)


def round_ticks(start: float, end: float, most: int = 5) -> tuple[Tick, ...]:
    """Return ticks at round values (1, 2 or 5 times a power of ten), at most `most` steps."""
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
    """Leave out, from the right, ticks whose texts would overlap."""
    kept: list[Tick] = []
    for tick in reversed(ticks):
        if not kept or axis.place(kept[-1].value) - axis.place(tick.value) >= gap:
            kept.append(tick)
    return tuple(reversed(kept))


def axis_end(figures: Sequence[Figure]) -> float:
    """Return the end of an axis from 0: the highest bound, limited to 1.8 times the largest value.

    An axis with room for the interval of two or three repeats could flatten everything else.
    """
    largest = max((figure.value for figure in figures), default=0.0)
    ends = [figure.high or figure.value for figure in figures]
    return min(max(ends, default=0.0), 1.8 * largest) or 1.0


def cut_off_note(figures: Sequence[Figure]) -> list[str]:
    """Return a note when an interval is longer than its axis."""
    end = axis_end(figures)
    cut = any(figure.high is not None and figure.high > end for figure in figures)
    return ["An interval that reaches the edge continues beyond it."] if cut else []


CANCELLED_LOOK = "pink"
"""The colour of a cancelled attempt, which did not fail: another one was faster."""


def part_keys(looks: Iterable[str]) -> tuple[Key, ...]:
    """Return the legend of the parts of a call's time that have these colours."""
    shown = set(looks)
    keys = [Key(look, words) for words, look in PART_LOOKS.values() if look in shown]
    return (*keys, *([Key(CANCELLED_LOOK, "cancelled attempts")] * (CANCELLED_LOOK in shown)))


def scattered(at: int) -> float:
    """Return how far dot number `at` is from the middle: golden-ratio steps avoid overlaps."""
    return (at * 0.618034 % 1 - 0.5) * 0.55


def stacked(parts: Iterable[tuple[str, float, str]]) -> tuple[Bar, ...]:
    """Return bars with these looks, lengths and texts, one after the other from 0."""
    bars, start = [], 0.0
    for look, length, text in parts:
        if length > 0:
            bars.append(Bar(start, start + length, look, text))
        start += length
    return tuple(bars)


def extremes(labels: Iterable[str], values: Iterable[float | None], unit: str) -> str:
    """Return a sentence with the smallest and the largest value and their labels."""
    pairs = zip(values, labels, strict=True)
    known = [(value, label) for value, label in pairs if value is not None]
    if not known:
        return "No value is known."
    (low, least), (high, most) = min(known), max(known)
    if least == most:
        return f"{least}: {number(low)} {unit}."
    return f"From {number(low)} {unit} ({least}) to {number(high)} {unit} ({most})."
