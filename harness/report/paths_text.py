"""What held the ends of a run's workflows, cell by cell, on a terminal within 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from harness.analysis.cells import terms_of
from harness.analysis.critical_path import (
    CellPath,
    OneMore,
    add_up,
    one_permit_more,
    paths_of,
)
from harness.analysis.selection import Dataset
from harness.records.schema import CellInfo, Run
from harness.report.cell_columns import PART_HEADS, settings_columns
from harness.report.path_text import held_by, one_more_words, simulated_line
from harness.report.tables import Column
from harness.report.terminal_tables import WIDTH, pack, wrapped
from harness.report.waterfall_text import say
from harness.report.wording import percent
from harness.store.run_directory import Records


class CellSaid(NamedTuple):
    """A cell, its workflows' paths added up, and what one permit more would buy."""

    info: CellInfo
    path: CellPath
    more: OneMore | None


def cells_said(records: Records) -> list[CellSaid]:
    """Add the critical paths of each cell's workflows up; cells without any are left out."""
    return [
        CellSaid(
            cell.info,
            add_up(paths_of(cell.workflows, cell.groups)),
            one_permit_more(cell, terms_of(records.run, cell.info).in_flight),
        )
        for cell in Dataset.of(records).cells.values()
        if cell.workflows
    ]


def render_paths(cells: Sequence[CellSaid], run: Run, console: Console) -> None:
    """Write the table of the cells' critical paths."""
    settings = settings_columns([cell.info for cell in cells])
    shares = [
        Column(head, "", [percent(cell.path.share(part)).removesuffix("\u00a0%") for cell in cells])
        for part, head in PART_HEADS.items()
    ]
    bought = Column("a permit\nmore", "", [one_more_words(cell.more) for cell in cells])
    say(console, Text("What the workflows' ends waited for, in % of their latency", style="bold"))
    if run.simulated:
        say(console, simulated_line(run))
    room = WIDTH - sum(column.width + 1 for column in settings)
    for block in pack([shares, [bought]], room):
        say(console)
        for line in zip(*(column.lines() for column in (*settings, *block)), strict=True):
            say(console, " ".join(line).rstrip())
    say(console)
    for text in _notes(cells, settings):
        for wrapped_line in wrapped(text):
            say(console, wrapped_line)


def _notes(cells: Sequence[CellSaid], settings: Sequence[Column]) -> list[str]:
    notes = [
        "a permit more: what it does to the makespan at best, by a replay of the measured service "
        "times, as if the provider answered as fast"
    ]
    for at, cell in enumerate(cells):
        if cell.path.held_by:
            label = " ".join(column.text(column.values[at]) for column in settings)
            notes.append(f"{label}: what held the fan-outs: {held_by(cell.path)}")
    return notes
