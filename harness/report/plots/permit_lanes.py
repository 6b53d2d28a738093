"""Permits over time, one lane each: who held them, and when they lay idle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from harness.analysis.call_segments import of_attempt
from harness.analysis.flow import Held, lanes
from harness.analysis.model import Cell, Summary
from harness.analysis.selection import CellRecords, Dataset
from harness.records.clock import SECOND
from harness.records.schema import Trial
from harness.report.plots.style import PART_STYLES, new_figure
from harness.report.wording import counted, headline, number, percent, sentence, spoken
from harness.store.run_directory import Records

MOST_LANES = 64
MOST_HELD = 3000
"""A longer trial is shown from its beginning up to so many attempts."""


def permit_lanes(summary: Summary, records: Records) -> Figure | None:
    """Draw the first whole trial of the recommended cell, or of the fastest; None without one."""
    found = _trial(summary, Dataset.of(records).cells)
    if found is None:
        return None
    cell, trial, held = found
    shown = [one for one in held[:MOST_HELD] if one.lane < MOST_LANES]
    if not shown:
        return None
    unit = SECOND * summary.time_scale
    until = max(one.end for one in shown)
    rows = max(one.lane for one in shown) + 1
    parts = [part for part in PART_STYLES if part not in ("permit_wait",)]
    figure = new_figure(
        0.75 + min(0.22 * max(rows, 3), 5.0), _title(cell, trial, held, summary), summary,
        _notes(cell, trial, held, shown), parts,
    )  # fmt: skip
    axes = figure.subplots()
    for part in parts:
        for lane in range(rows):
            bars = [
                ((start - trial.start) / unit, (end - start) / unit)
                for one in shown
                if one.lane == lane
                for kind, start, end in _pieces(one)
                if kind == part
            ]
            if bars:
                axes.broken_barh(
                    bars, (lane - 0.42, 0.84), facecolors=PART_STYLES[part][1], linewidth=0
                )
    axes.set_xlim(0, (until - trial.start) / unit)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_ylabel("permit")
    axes.set_yticks([0, rows - 1] if rows > 1 else [0], ["1", str(rows)] if rows > 1 else ["1"])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("seconds since the trial began")
    return figure


def _trial(
    summary: Summary, of_cell: Mapping[str, CellRecords]
) -> tuple[Cell, Trial, list[Held]] | None:
    whole = [cell for cell in summary.cells if of_cell[cell.id].whole_trials()]
    if not whole:
        return None
    cell = headline([cell for cell in whole if cell.mode != "sync"] or whole, summary)
    mine = of_cell[cell.id]
    trial = mine.whole_trials()[0]
    attempts = [attempt for attempt in mine.attempts if attempt.repeat == trial.repeat]
    calls = [call for call in mine.calls if call.repeat == trial.repeat]
    return cell, trial, lanes(calls, attempts, cell.permit_scope)


def _pieces(held: Held) -> list[tuple[str, int, int]]:
    """Cut what a permit was held for into parts; between attempts that is backoff."""
    cut: list[tuple[str, int, int]] = []
    last = held.start
    for attempt in held.attempts:
        if attempt.permit_granted > last:
            cut.append(("backoff", last, attempt.permit_granted))
        cut += [
            ("other" if piece.part == "client_wait" else piece.part, piece.start, piece.end)
            for piece in of_attempt(attempt)
            if piece.part != "permit_wait"
        ]
        last = attempt.done
    return [piece for piece in cut if piece[2] > piece[1]]


def _title(cell: Cell, trial: Trial, held: Sequence[Held], summary: Summary) -> str:
    whole = cell.permits * (trial.end - trial.start)
    used = sum(one.end - one.start for one in held) / whole if whole else 0.0
    name = sentence(spoken(cell, summary.cells))
    return f"{name}: the permits were in use {percent(used)} of the time"


def _notes(cell: Cell, trial: Trial, held: Sequence[Held], shown: Sequence[Held]) -> list[str]:
    used = max(one.lane for one in held) + 1
    notes = [f"Repeat {trial.repeat}; white: the permit lay idle."]
    if used < cell.permits:
        notes.append(f"Of {cell.permits} permits {number(used)} were ever in use at once.")
    if len(shown) < len(held):
        notes.append(f"Only {counted(len(shown), 'attempt')} of {len(held)} are shown.")
    return notes
