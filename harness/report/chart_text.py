"""Draws charts on a terminal. Each colour has its own character, so colours are not needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from harness.analysis.model import Summary
from harness.report.charts.model import LOOKS, Axis, Bar, Chart, ChartRow, Key, RowPanel
from harness.report.console import table_blocks
from harness.report.line_wrap import WIDTH, wrapped
from harness.report.wording import shortened, simulated_note

MOST_LABEL = 24
"""Labels of rows are cut to this length."""

DOTS = {"filled": "o", "hollow": "°", "cross": "x"}
FAILED = "vermillion"


def chart_lines(chart: Chart, summary: Summary, width: int = WIDTH) -> Iterator[Text]:
    """Yield the lines of a chart: rows as bars, other panels as the table of their numbers."""
    yield Text(chart.title, style="bold")
    if chart.finding:
        yield from map(Text, wrapped(f"{chart.finding}."))
    rows = [panel for panel in chart.panels if isinstance(panel, RowPanel)]
    for panel in rows:
        yield Text()
        yield from panel_lines(panel, chart.legend, width)
    if len(rows) < len(chart.panels):
        yield Text()
        columns = [column._replace(left=column.is_text) for column in chart.table.shown]
        for block in table_blocks(columns[:1], [[column] for column in columns[1:]], width):
            yield from map(Text, block)
    yield Text()
    for note in filter(None, (simulated_note(summary), *chart.notes)):
        yield from map(Text, wrapped(note))


def panel_lines(panel: RowPanel, legend: Sequence[Key], width: int = WIDTH) -> Iterator[Text]:
    """Yield the axis, a line for each row, and a legend. `*` is before a row with a mark."""
    if panel.title:
        yield Text(panel.title, style="bold")
    labels = shortened((row.label for row in panel.rows), MOST_LABEL)
    label = max(map(len, labels.values()), default=0)
    beside = max((len(row.beside) for row in panel.rows), default=0)
    room = width - 2 - label - 1 - beside - 1
    margin = " " * (2 + label + 1)
    yield _axis(panel.axis, margin, room, width)
    shown: set[str] = set()
    for row in panel.rows:
        line = Text("* " if row.mark else "  ", style="bold" if row.mark else "")
        line.append(labels[row.label].ljust(label) + " ")
        for mark, style in _cells(row, panel.axis, room):
            line.append(mark, style)
            shown.add(mark)
        line.append(" " + row.beside.rjust(beside))
        line.rstrip()
        yield line
    keys = [(LOOKS[key.look].mark, LOOKS[key.look].style, key.text) for key in legend]
    said = [key for key in keys if key[0] in shown]
    marks = dict.fromkeys(row.mark for row in panel.rows if row.mark)
    said += [("*", "bold", mark) for mark in marks]
    yield from _legend([*said, ("", "bright_black", panel.axis.label)], margin, width)


def _cells(row: ChartRow, axis: Axis, width: int) -> list[tuple[str, str]]:
    """Return the character and the colour of each column."""
    cells = [
        (LOOKS[look].mark, LOOKS[look].style) if look else (" ", "")
        for look in bar_columns(row.bars, axis, width)
    ]

    def column(value: float) -> int:
        return min(int(axis.place(value) * width / 100), width - 1)

    one = row.interval
    if one is not None and one.low is not None and one.high is not None:
        for at in range(column(one.low), column(one.high) + 1):
            cells[at] = ("─", "") if cells[at][0] == " " else cells[at]
    for dot in row.dots:
        cells[column(dot.value)] = (DOTS[dot.shape], LOOKS[dot.look].style)
    if one is not None:
        cells[column(one.value)] = ("┃", "bold")
    return cells


def bar_columns(bars: Sequence[Bar], axis: Axis, width: int) -> list[str | None]:
    """Return the colour of each column: the bar with most of it; a failure has at least one."""
    most = [0.0] * width
    shown: list[str | None] = [None] * width
    drawn = [
        (axis.place(bar.start) * width / 100, axis.place(bar.end) * width / 100, bar)
        for bar in bars
        if LOOKS[bar.look].mark
    ]
    for start, end, bar in drawn:
        for at in range(int(start), min(int(end), width - 1) + 1):
            overlap = min(end, at + 1) - max(start, at)
            weight = overlap * (bar.high - bar.low)
            if weight > most[at] and (shown[at] is not None or 2 * overlap >= 1):
                most[at], shown[at] = weight, bar.look
    for start, _, bar in drawn:
        if bar.look == FAILED:
            shown[min(int(start), width - 1)] = bar.look
    if drawn and not any(shown):
        start, _, longest = max(drawn, key=lambda one: one[1] - one[0])
        shown[min(int(start), width - 1)] = longest.look
    return shown


def _axis(axis: Axis, margin: str, room: int, width: int) -> Text:
    """Return the texts of the ticks above their values; texts that would touch are left out."""
    line = margin
    for tick in axis.ticks:
        middle = len(margin) + int(axis.place(tick.value) * room / 100)
        at = min(max(middle - len(tick.text) // 2, len(margin)), width - len(tick.text))
        if at > len(line) or len(line) == len(margin):
            line = line.ljust(at) + tick.text
    return Text(line, style="bright_black")


def _legend(keys: Sequence[tuple[str, str, str]], margin: str, width: int) -> Iterator[Text]:
    line = Text(margin)
    for mark, style, words in keys:
        if len(line) + len(mark) + 1 + len(words) > width and len(line) > len(margin):
            line.rstrip()
            yield line
            line = Text(margin)
        line.append(mark, style).append(
            f" {words}  " if mark else f"{words}  ", "" if mark else style
        )
    line.rstrip()
    yield line
