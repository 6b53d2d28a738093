"""Tables: the same columns for the page, the terminal and CSV files."""

from __future__ import annotations

import csv
import io
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from harness.analysis.model import Cell, Figure, Summary
from harness.analysis.settings import settings_of
from harness.records.settings import value_text
from harness.report.csv_text import csv_safe
from harness.report.wording import NONE, cell_labels, in_reading_order, number

Value = Figure | float | int | str | None

PERCENT = "\u00a0%"

HALF = 80
"""Characters that fit side by side into half the width of a large screen."""

LONG = 28
"""Characters of a text that is broken into lines where there is little room."""


def whole_number(value: float) -> str:
    """Write a count, every digit of it."""
    return f"{value:.0f}"


class Column(NamedTuple):
    """One column. It is left out of the page without a `head`, and of the CSV without a `key`.

    `show` writes a number for the page and the terminal; the CSV has every digit, and the bounds of
    a figure in two columns of their own. `left`: aligned left on the terminal, where the `head` may
    take two lines.
    """

    head: str
    key: str
    values: Sequence[Value]
    show: Callable[[float], str] = number
    left: bool = False

    def lines(self) -> list[str]:
        """Return two lines of heading and a line for each value, padded to the same width."""
        texts = [*["", *self.head.split("\n")][-2:], *map(self.text, self.values)]
        width = max(map(len, texts))
        return [text.ljust(width) if self.left else text.rjust(width) for text in texts]

    @property
    def width(self) -> int:
        """Characters that a line takes on the terminal."""
        return len(self.lines()[0])

    def text(self, value: Value) -> str:
        """Write a value without its interval."""
        if isinstance(value, Figure):
            value = value.value
        if value is None:
            return NONE
        return value if isinstance(value, str) else self.show(value)

    @property
    def is_text(self) -> bool:
        """Whether the column is to be read rather than compared."""
        return any(isinstance(value, str) for value in self.values)

    @property
    def is_long(self) -> bool:
        """Whether its texts are better broken into lines."""
        return any(isinstance(value, str) and len(value) > LONG for value in self.values)


class Shown(NamedTuple):
    """One value on the page: its text, its interval in words, and what it is sorted by."""

    text: str
    interval: str
    rank: str


class Row(NamedTuple):
    """One row on the page: what it is about, and its values."""

    head: Shown
    values: tuple[Shown, ...]
    marked: bool


class Table(NamedTuple):
    """A table. Its first shown column heads the rows; `marked` holds the rows that stand out."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    marked: frozenset[int] = frozenset()

    @property
    def shown(self) -> list[Column]:
        """The columns on the page: not those in which no row has a value."""
        return [
            column
            for column in self.columns
            if column.head and any(value is not None for value in column.values)
        ]

    @property
    def rows(self) -> list[Row]:
        """The rows on the page."""
        written = zip(
            *(map(_shown_by(column), column.values) for column in self.shown), strict=True
        )
        return [
            Row(head, tuple(values), at in self.marked)
            for at, (head, *values) in enumerate(written)
        ]

    @property
    def is_wide(self) -> bool:
        """Whether it needs the whole width of a large screen."""
        widths = (
            max(len(column.head) + 2, *(len(_longest(_shown_by(column)(v))) for v in column.values))
            for column in self.shown
        )
        return sum(width + 3 for width in widths) > HALF

    def csv(self, *, simulated: bool) -> str:
        """Return the data as CSV (RFC 4180, but for its line ends), a header line first.

        Where a run is simulated, every line says so.
        """
        parts = [part for column in self.columns if column.key for part in _csv_columns(column)]
        if simulated:
            parts.append(("simulated", ["true"] * len(self.columns[0].values)))
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(key for key, _ in parts)
        writer.writerows(zip(*(values for _, values in parts), strict=True))
        return file.getvalue()


def _shown_by(column: Column) -> Callable[[Value], Shown]:
    def show(value: Value) -> Shown:
        text = column.text(value)
        if not isinstance(value, Figure):
            rank = "" if value is None else value if isinstance(value, str) else repr(value)
            return Shown(text, "", rank)
        if value.low is None or value.high is None:
            return Shown(text, "", repr(value.value))
        low, high = column.show(value.low), column.show(value.high)
        dash = " to " if high.startswith("−") else "–"  # a dash before a minus sign reads as two
        return Shown(text, f"{low.removesuffix(PERCENT)}{dash}{high}", repr(value.value))

    return show


def _longest(shown: Shown) -> str:
    return max(shown.text, shown.interval, key=len)


def _csv_columns(column: Column) -> Iterable[tuple[str, list[Any]]]:
    if not any(isinstance(value, Figure) for value in column.values):
        yield column.key, [csv_safe(value) for value in column.values]
        return
    for field in Figure.__struct_fields__:
        name = column.key if field == "value" else f"{column.key}_{field}"
        yield name, [getattr(value, field, None) for value in column.values]


class Subject(NamedTuple):
    """What a report is about: the summary, its cells as they are read, and their names."""

    summary: Summary
    cells: list[Cell]
    labels: dict[str, str]

    def seconds(self, name: str) -> str:
        """Return the CSV name of a duration, which says whose seconds they are."""
        return f"{name}_scenario_s" if self.summary.simulated else f"{name}_s"

    def cell_columns(self, cells: Sequence[Cell] | None = None) -> tuple[Column, ...]:
        """Return what tells one cell from another: a name on the page, settings in the CSV."""
        rows = self.cells if cells is None else cells
        settings = [settings_of(cell) for cell in rows]
        names = dict.fromkeys(name for found in settings for name in found)
        return (
            Column("cell", "", [self.labels[cell.id] for cell in rows]),
            Column("", "cell", [cell.id for cell in rows]),
            *(Column("", name, [_plain(found.get(name)) for found in settings]) for name in names),
        )

    def of_cells(self, name: str, caption: str, columns: Iterable[Column]) -> Table:
        """Return a table with a row for each cell; the recommended one is marked."""
        best = self.summary.recommendation.cell
        marked = frozenset(at for at, cell in enumerate(self.cells) if cell.id == best)
        return Table(name, caption, (*self.cell_columns(), *columns), marked)

    def named(self, text: str) -> str:
        """Put the names that the report uses in place of cells' ids."""
        ids = sorted(map(re.escape, self.labels), key=len, reverse=True)
        if not ids:
            return text
        whole = rf"(?<![\w-])(?:{'|'.join(ids)})(?![\w-])"
        return re.sub(whole, lambda found: self.labels[found.group()], text)


def _plain(value: Any) -> Value:
    """Return a setting as it stands in a CSV file."""
    return value if isinstance(value, int | float | str) else value_text(value)


def subject(summary: Summary) -> Subject:
    """Return what a report of `summary` is about."""
    cells = in_reading_order(summary.cells)
    return Subject(summary, cells, cell_labels(summary.cells))


class Download(NamedTuple):
    """A file that is part of the page: its name and a `data:` URL with all of it (RFC 2397)."""

    file: str
    url: str


def csv_download(table: Table, summary: Summary) -> Download:
    """Return the table as a CSV file."""
    text = table.csv(simulated=summary.simulated)
    return Download(
        f"{_stem(summary)}-{table.name}.csv", "data:text/csv;charset=utf-8," + quote(text)
    )


def summary_download(summary: Summary) -> Download:
    """Return summary.json, whole."""
    coded = b64encode(msgspec.json.encode(summary)).decode()
    return Download(f"{_stem(summary)}-summary.json", "data:application/json;base64," + coded)


def _stem(summary: Summary) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", summary.scenario).strip("-.") or "run"
    return f"{plain}-simulated" if summary.simulated else plain
