"""Attempts over time, by outcome: what each policy sent while the provider failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from harness.analysis.flow import Flow, flow
from harness.analysis.model import Cell, Summary
from harness.analysis.selection import CellRecords, Dataset
from harness.analysis.settings import identity
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.schema import Trial
from harness.report.plots.style import INK, ORANGE, PALE, PINK, SKY, VERMILLION, YELLOW, new_figure
from harness.report.wording import cell_labels, counted, headline, in_reading_order, number
from harness.store.run_directory import Records

BINS = 90
MOST_ROWS = 8
MOST_CLASSES = 5
"""`ok` and four failures have a colour of their own; the rest share one."""

_COLOURS = (VERMILLION, ORANGE, PINK, SKY)


class TrialAttempts(NamedTuple):
    """One trial of one cell: its attempts over time, and what it lasted in nanoseconds."""

    cell: Cell
    repeat: int
    flow: Flow
    lasted: int


def seen_over_time(summary: Summary, records: Records, bins: int = BINS) -> list[TrialAttempts]:
    """Return the first whole trial of each policy, all other settings alike.

    Those of the cell that titles speak of among those where attempts failed; empty where none did.
    """
    of_cell = Dataset.of(records).cells
    failing = [cell for cell in summary.cells if cell.attempts.failed]
    if not failing:
        return []
    main = headline([cell for cell in failing if cell.mode != "sync"] or failing, summary)
    beside = [
        cell
        for cell in in_reading_order(summary.cells)
        if identity(cell, ("retry",)) == identity(main, ("retry",))
    ]
    trials = [
        (cell, trial)
        for cell in beside[:MOST_ROWS]
        if (trial := _first_trial(of_cell[cell.id])) is not None
    ]
    longest = max((trial.end - trial.start for _, trial in trials), default=0)
    width = longest // bins + 1
    return [_seen(cell, trial, of_cell[cell.id], width) for cell, trial in trials]


def _first_trial(records: CellRecords) -> Trial | None:
    return next(iter(records.whole_trials() or records.trials.values()), None)


def _seen(cell: Cell, trial: Trial, records: CellRecords, width: int) -> TrialAttempts:
    mine = [attempt for attempt in records.attempts if attempt.repeat == trial.repeat]
    return TrialAttempts(cell, trial.repeat, flow(mine, trial, width), trial.end - trial.start)


def outages_until(records: Records, end: float) -> list[tuple[float, float]]:
    """Return when a simulated provider was out, in scenario seconds since a trial began."""
    found = []
    for fault in (records.run.profile or {}).get("faults") or ():
        outage = fault.get("outage")
        start = end if outage is None else outage["start"]
        while start < end:
            found.append((start, min(start + outage["duration"], end)))
            start = start + outage["every"] if outage["every"] else end
    return found


def colours_of(seen: Sequence[TrialAttempts]) -> dict[str, str]:
    """Return a colour for each outcome: `ok` is pale, failures are not."""
    totals: dict[str, int] = {}
    for one in seen:
        for outcome, counts in one.flow.counts.items():
            totals[outcome] = totals.get(outcome, 0) + int(counts.sum())
    failed = sorted((name for name in totals if name != OK), key=lambda name: -totals[name])
    chosen = dict(zip(failed, _COLOURS, strict=False))
    return {OK: PALE} | chosen | dict.fromkeys(failed[len(_COLOURS) :], INK)


def attempts_over_time(summary: Summary, records: Records) -> Figure | None:
    """Draw one row a policy on one axis of seconds; None where no attempt failed."""
    seen = seen_over_time(summary, records)
    if not seen:
        return None
    labels, colours = cell_labels(summary.cells), colours_of(seen)
    unit = SECOND * summary.time_scale
    notes = [
        f"Repeat {seen[0].repeat}; each attempt stands where it was sent, coloured by how it ended."
    ]
    keys = {name: colours[name] for name in list(colours)[:MOST_CLASSES]}
    if len(colours) > MOST_CLASSES:
        keys["other failures"] = INK
    if outages_until(records, max(one.lasted for one in seen) / unit):
        keys["the provider is out"] = YELLOW
    figure = new_figure(0.5 + 1.05 * len(seen), _title(seen), summary, notes, keys=keys)
    grid = figure.subplots(len(seen), 1, sharex=True, sharey=True, squeeze=False)
    longest = max(one.lasted for one in seen) / unit
    out = outages_until(records, longest)
    for axes, one in zip(grid[:, 0], seen, strict=True):
        width = one.flow.width / unit
        at = np.arange(len(next(iter(one.flow.counts.values()), []))) * width
        below = np.zeros(len(at))
        for outcome, counts in one.flow.counts.items():
            axes.bar(
                at, counts, width=width, bottom=below, align="edge", color=colours[outcome],
                label=f"{outcome} {one.cell.id}",
            )  # fmt: skip
            below += counts
        for start, end in out:
            axes.axvspan(
                start, end, color=YELLOW, alpha=0.35, linewidth=0, zorder=0, label="outage"
            )
        axes.set_title(f"{labels[one.cell.id]}: {_sent(one)}")
        axes.set_ylabel(f"per {number(width)} s")
    grid[-1, 0].set_xlim(0, longest)
    grid[-1, 0].set_xlabel("seconds since the trial began")
    return figure


def _sent(one: TrialAttempts) -> str:
    return f"{counted(one.flow.total, 'attempt')}, {one.flow.failed} of them failed"


def _title(seen: Sequence[TrialAttempts]) -> str:
    if len(seen) == 1:
        return "Attempts over time, by outcome"
    totals = [(one.flow.total, one.cell.retry) for one in seen]
    (least, calm), (most, eager) = min(totals), max(totals)
    return f"Attempts over time: {eager} sent {most}, {calm} {least}"
