"""Permits over time, one lane each: which parts of attempts held them, and when they were idle."""

from __future__ import annotations

from harness.analysis.call_segments import CallSegment
from harness.analysis.flow import Held, lanes
from harness.analysis.limit_steps import most_allowed, permit_time
from harness.records.clock import SECOND
from harness.records.settings import one_at_a_time
from harness.report.charts.model import Bar, Chart, ChartRow, RowPanel, axis_from_zero, part_keys
from harness.report.charts.timeline import look_of
from harness.report.tables import Column, Subject, Table
from harness.report.waterfall import parts_of
from harness.report.wording import counted, headline, percent, whole_number

MOST_LANES = 64
MOST_HELD = 400
"""Of a longer trial, only this many attempts from its beginning are shown."""


def permit_lanes(about: Subject) -> Chart | None:
    """Return the first whole trial of the recommended cell, or of the fastest; None without one."""
    of_cell = about.data.cells
    whole = [cell for cell in about.summary.cells if of_cell[cell.id].whole_trials()]
    if not whole:
        return None
    cell = headline(
        [cell for cell in whole if not one_at_a_time(cell.mode)] or whole, about.summary
    )
    mine = of_cell[cell.id]
    trial = mine.whole_trials()[0]
    attempts = mine.attempts.take(mine.attempts.column("repeat") == trial.repeat)
    calls = mine.calls.take(mine.calls.column("repeat") == trial.repeat)
    held = lanes(calls, attempts, cell.permit_scope)
    shown = [one for one in held[:MOST_HELD] if one.lane < MOST_LANES]
    if not shown:
        return None
    unit = SECOND * about.summary.time_scale

    def seconds(at: int) -> float:
        return (at - trial.start) / unit

    bars: list[list[Bar]] = [[] for _ in range(max(one.lane for one in shown) + 1)]
    for one in shown:
        for piece in _pieces(one):
            bar = Bar(seconds(piece.start), seconds(piece.end), look_of(piece.part))
            bars[one.lane].append(bar)
    length = permit_time(trial, cell.permits)
    used = percent(sum(one.end - one.start for one in held) / length if length else 0.0)
    most_used = max(one.lane for one in held) + 1
    notes = [f"Repeat {trial.repeat + 1}; empty: the permit was idle."]
    if cell.limiter:
        notes.append(f"The limit {cell.limiter} allowed at most {most_allowed(trial)} at once.")
    elif most_used < cell.permits:
        notes.append(f"At most {most_used} of {cell.permits} permits were in use at once.")
    if len(shown) < len(held):
        notes.append(f"Only {counted(len(shown), 'attempt')} of {len(held)} are shown.")
    axis = axis_from_zero("seconds since the trial began", seconds(max(o.end for o in shown)))
    rows = tuple(ChartRow(f"permit {lane}", bars=tuple(some)) for lane, some in enumerate(bars, 1))
    times = [sum(bar.end - bar.start for bar in some) for some in bars]
    counts = [sum(len(o.attempts) for o in shown if o.lane == lane) for lane in range(len(bars))]
    return Chart(
        "Permits in use",
        f"{about.name(cell)}: the permits were in use for {used} of the time",
        f"What each permit was used for over time. In use: {used} of the time.",
        tuple(notes),
        (RowPanel("", rows, axis, 18),),
        part_keys(bar.look for some in bars for bar in some),
        Table(
            "permit-lanes",
            "How long each permit was held",
            (
                Column("permit", "permit", [row.label for row in rows]),
                Column("held s", about.seconds("held"), times),
                Column("attempts", "attempts", counts, whole_number),
            ),
        ),
    )


def _pieces(held: Held) -> list[CallSegment]:
    """Return the parts of the time that a permit was held; between attempts it is backoff."""
    cut: list[CallSegment] = []
    last = held.start
    for attempt in held.attempts:
        cut.append(CallSegment("backoff", last, attempt.permit_granted))
        cut += [piece for piece in parts_of(attempt) if piece.part != "permit_wait"]
        last = attempt.done
    return [piece for piece in cut if piece.length > 0]
