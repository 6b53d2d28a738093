"""Tables for the page, the terminal and CSV files."""

from __future__ import annotations

import csv
import io
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from harness.analysis.model import Cell, Figure, Summary
from harness.analysis.settings import settings_of
from harness.records.settings import value_text
from harness.report.wording import (
    NONE,
    cell_labels,
    in_reading_order,
    in_seconds,
    number,
    rate_unit,
    scaled,
    sentence,
    spoken,
    whole_number,
    with_labels,
)
from harness.store.run_directory import Records

if TYPE_CHECKING:
    from harness.analysis.selection import Dataset

Value = Figure | float | int | str | None
_Value = TypeVar("_Value")

HALF = 80
"""The number of characters that fit into half the width of a large screen."""

LONG = 28
"""Texts longer than this are broken into lines on a narrow screen."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet reads text that begins with one of these as a formula."""


def csv_safe(value: _Value) -> _Value | str:
    """Return `value`, with a quote before text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


class Column(NamedTuple):
    """One column. The page leaves it out without a `head`, and CSV files without a `key`.

    `show` writes a number; CSV files have all digits, and two more columns for the bounds of a
    figure. `left`: aligned left on the terminal, where the `head` can have two lines.
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
        """The number of characters in a line on the terminal."""
        return len(self.lines()[0])

    def text(self, value: Value) -> str:
        """Write a value without its interval."""
        if isinstance(value, Figure):
            value = value.value
        if value is None:
            return NONE
        if isinstance(value, int) and self.show is number:
            return whole_number(value)
        return value if isinstance(value, str) else self.show(value)

    def shown(self, value: Value) -> Shown:
        """Return what the page shows of a value."""
        text = self.text(value)
        if not isinstance(value, Figure):
            rank = "" if value is None else value if isinstance(value, str) else repr(value)
            return Shown(text, "", rank)
        interval = ""
        if value.low is not None and value.high is not None:
            low, high = self.show(value.low), self.show(value.high)
            dash = " to " if high.startswith("−") else "–"  # a dash before a minus reads as two
            interval = low.removesuffix("\u00a0%") + dash + high
        return Shown(text, interval, repr(value.value))

    def csv(self) -> Iterable[tuple[str, list[Any]]]:
        """Yield the columns of a CSV file: a header and values."""
        if not any(isinstance(value, Figure) for value in self.values):
            yield self.key, [csv_safe(value) for value in self.values]
            return
        for field in Figure.__struct_fields__:
            name = self.key if field == "value" else f"{self.key}_{field}"
            yield name, [getattr(value, field, None) for value in self.values]

    @property
    def is_text(self) -> bool:
        """Whether the column holds text."""
        return any(isinstance(value, str) for value in self.values)

    @property
    def is_long(self) -> bool:
        """Whether the column holds texts that are better broken into lines."""
        return any(isinstance(value, str) and len(value) > LONG for value in self.values)


class Shown(NamedTuple):
    """A value on the page: its text, its interval as text, and the key to sort by."""

    text: str
    interval: str
    rank: str


class Row(NamedTuple):
    """A row on the page: its heading, its values, and whether it is highlighted."""

    head: Shown
    values: tuple[Shown, ...]
    marked: bool


class Table(NamedTuple):
    """A table. Its first shown column heads the rows; the rows in `marked` are highlighted."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    marked: frozenset[int] = frozenset()

    @property
    def shown(self) -> list[Column]:
        """The columns on the page; columns without any value are left out."""
        return [
            column
            for column in self.columns
            if column.head and any(value is not None for value in column.values)
        ]

    @property
    def rows(self) -> list[Row]:
        """The rows on the page."""
        written = zip(*(map(column.shown, column.values) for column in self.shown), strict=True)
        return [
            Row(head, tuple(values), at in self.marked)
            for at, (head, *values) in enumerate(written)
        ]

    @property
    def is_wide(self) -> bool:
        """Whether it needs the whole width of a large screen."""
        width = 0
        for column in self.shown:
            shown = map(column.shown, column.values)
            longest = max(max(len(one.text), len(one.interval)) for one in shown)
            head = max(map(len, column.head.split("\n")))
            width += max(head + 2, longest) + 3
        return width > HALF

    def csv(self, *, simulated: bool) -> str:
        """Return CSV (RFC 4180, LF line ends) with a header and a last column if `simulated`."""
        parts = [part for column in self.columns if column.key for part in column.csv()]
        if simulated:
            parts.append(("simulated", ["true"] * len(self.columns[0].values)))
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(key for key, _ in parts)
        writer.writerows(zip(*(values for _, values in parts), strict=True))
        return file.getvalue()


class Subject(NamedTuple):
    """What a report is about: the summary, the records, the cells in order, and their names."""

    summary: Summary
    data: Dataset
    cells: list[Cell]
    labels: dict[str, str]

    def seconds(self, name: str) -> str:
        """Return the CSV name of a duration: it says when the seconds are scenario seconds."""
        return f"{name}_scenario_s" if self.summary.has_simulator else f"{name}_s"

    def duration(self, figure: Figure | None) -> Figure | None:
        """Return a duration in scenario seconds."""
        return in_seconds(figure, self.summary)

    def rate(self, figure: Figure | None) -> Figure | None:
        """Return a rate in the unit of `rate_unit`."""
        return scaled(figure, rate_unit(self.summary)[1])

    @property
    def rate_unit(self) -> str:
        """The unit of rates: `a minute` or `an hour`."""
        return rate_unit(self.summary)[0]

    def name(self, cell: Cell) -> str:
        """Return the name of a cell at the start of a sentence."""
        return sentence(spoken(cell, self.summary.cells))

    def is_recommended(self, cell: Cell) -> bool:
        """Return whether a cell is the recommended one."""
        return cell.id == self.summary.recommendation.candidate

    def cell_columns(self, cells: Sequence[Cell] | None = None) -> tuple[Column, ...]:
        """Return what identifies a cell: a name on the page, settings in the CSV."""
        rows = self.cells if cells is None else cells
        settings = [settings_of(cell) for cell in rows]
        names = dict.fromkeys(name for found in settings for name in found)
        return (
            Column("setting", "", [self.labels[cell.id] for cell in rows]),
            Column("", "cell", [cell.id for cell in rows]),
            *(Column("", name, [_plain(found.get(name)) for found in settings]) for name in names),
        )

    def of_cells(
        self,
        name: str,
        caption: str,
        columns: Iterable[Column],
        cells: Sequence[Cell] | None = None,
    ) -> Table:
        """Return a table with a row for each cell; the recommended one is highlighted."""
        rows = self.cells if cells is None else cells
        marked = frozenset(at for at, cell in enumerate(rows) if self.is_recommended(cell))
        return Table(name, caption, (*self.cell_columns(rows), *columns), marked)

    def named(self, text: str) -> str:
        """Replace the ids of cells by their names, and keep `95 %` on one line."""
        tune = self.summary.tune
        untried = {} if tune is None else cell_labels([one.info for one in tune.settings])
        whole = with_labels(text, {**untried, **self.labels})
        return whole.replace(" %", "\u00a0%").replace(" ·", "\u00a0·")


def _plain(value: Any) -> Value:
    return value if isinstance(value, int | float | str) else value_text(value)


def subject(summary: Summary, records: Records) -> Subject:
    """Return what a report of `summary` is about."""
    from harness.analysis.selection import Dataset  # imports NumPy

    cells = in_reading_order(summary.cells)
    return Subject(summary, Dataset.of(records), cells, cell_labels(summary.cells))


class Download(NamedTuple):
    """A file within the page: its name and a `data:` URL with its content (RFC 2397)."""

    file: str
    url: str


def csv_download(table: Table, summary: Summary) -> Download:
    """Return the table of a run as a CSV file."""
    return csv_of_scenario(table, summary.scenario, simulated=summary.simulated)


def csv_of_scenario(table: Table, scenario: str, *, simulated: bool) -> Download:
    """Return a table as a CSV file named after a scenario."""
    text = table.csv(simulated=simulated)
    return Download(
        f"{_stem(scenario, simulated)}-{table.name}.csv",
        "data:text/csv;charset=utf-8," + quote(text),
    )


def summary_download(summary: Summary) -> Download:
    """Return the whole summary.json."""
    coded = b64encode(msgspec.json.encode(summary)).decode()
    stem = _stem(summary.scenario, summary.simulated)
    return Download(f"{stem}-summary.json", "data:application/json;base64," + coded)


def _stem(scenario: str, simulated: bool) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", scenario).strip("-.") or "run"
    return f"{plain}-simulated" if simulated else plain
