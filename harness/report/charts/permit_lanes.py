"""Permits over time, one lane each: who held them, and when they lay idle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.call_segments import CallSegment, of_attempt
from harness.analysis.flow import Held, lanes
from harness.analysis.model import Cell
from harness.analysis.selection import CellRecords, Dataset
from harness.records.clock import SECOND
from harness.records.schema import Trial
from harness.report.charts.model import (
    PART_LOOKS,
    Bar,
    Chart,
    ChartRow,
    Key,
    RowPanel,
    axis_from_zero,
)
from harness.report.charts.timeline import look_of
from harness.report.tables import Column, Subject, Table
from harness.report.wording import counted, headline, number, percent, sentence, spoken

MOST_LANES = 64
MOST_HELD = 400
"""A longer trial is shown from its beginning up to so many attempts."""


def permit_lanes(about: Subject, data: Dataset) -> Chart | None:
    """Return the first whole trial of the recommended cell, or of the fastest; None without one."""
    found = _trial(about, data.cells)
    if found is None:
        return None
    cell, trial, held = found
    shown = [one for one in held[:MOST_HELD] if one.lane < MOST_LANES]
    if not shown:
        return None
    unit = SECOND * about.summary.time_scale

    def seconds(at: int) -> float:
        return (at - trial.start) / unit

    cut = [(one.lane, piece) for one in shown for piece in _pieces(one)]
    bars: list[list[Bar]] = [[] for _ in range(max(one.lane for one in shown) + 1)]
    for lane, piece in cut:
        bars[lane].append(Bar(seconds(piece.start), seconds(piece.end), look_of(piece.part)))
    axis = axis_from_zero("seconds since the trial began", seconds(max(o.end for o in shown)))
    whole = cell.permits * (trial.end - trial.start)
    used = sum(one.end - one.start for one in held) / whole if whole else 0.0
    name = sentence(spoken(cell, about.summary.cells))
    rows = tuple(ChartRow(f"permit {lane}", bars=tuple(some)) for lane, some in enumerate(bars, 1))
    looks = {bar.look for some in bars for bar in some}
    return Chart(
        "Who held the permits",
        f"{name}: the permits were in use {percent(used)} of the time",
        f"What each permit was held for over time. In use: {percent(used)} of the time.",
        tuple(_notes(cell, trial, held, shown)),
        (RowPanel("", rows, axis, 18),),
        tuple(Key(look, words) for words, look in PART_LOOKS.values() if look in looks),
        Table(
            "permit-lanes",
            "How long each permit was held, in seconds",
            (
                Column("permit", "permit", [row.label for row in rows]),
                Column("held", about.seconds("held"), [
                    sum(bar.end - bar.start for bar in some) for some in bars
                ]),
                Column("attempts", "attempts", [
                    str(sum(len(one.attempts) for one in shown if one.lane == lane))
                    for lane in range(len(bars))
                ]),
            ),
        ),
    )  # fmt: skip


def _trial(
    about: Subject, of_cell: Mapping[str, CellRecords]
) -> tuple[Cell, Trial, list[Held]] | None:
    summary = about.summary
    whole = [cell for cell in summary.cells if of_cell[cell.id].whole_trials()]
    if not whole:
        return None
    cell = headline([cell for cell in whole if cell.mode != "sync"] or whole, summary)
    mine = of_cell[cell.id]
    trial = mine.whole_trials()[0]
    attempts = [attempt for attempt in mine.attempts if attempt.repeat == trial.repeat]
    calls = [call for call in mine.calls if call.repeat == trial.repeat]
    return cell, trial, lanes(calls, attempts, cell.permit_scope)


def _pieces(held: Held) -> list[CallSegment]:
    """Cut what a permit was held for into parts; between attempts that is backoff."""
    cut: list[CallSegment] = []
    last = held.start
    for attempt in held.attempts:
        cut.append(CallSegment("backoff", last, attempt.permit_granted))
        cut += [piece for piece in of_attempt(attempt) if piece.part != "permit_wait"]
        last = attempt.done
    return [piece for piece in cut if piece.length > 0]


def _notes(cell: Cell, trial: Trial, held: Sequence[Held], shown: Sequence[Held]) -> list[str]:
    used = max(one.lane for one in held) + 1
    notes = [f"Repeat {trial.repeat}; empty: the permit lay idle."]
    if used < cell.permits:
        notes.append(f"Of {cell.permits} permits {number(used)} were ever in use at once.")
    if len(shown) < len(held):
        notes.append(f"Only {counted(len(shown), 'attempt')} of {len(held)} are shown.")
    return notes
