"""The chart of limits that adapt: limit, attempts in flight and 429s over the time of a trial."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.limit_steps import (
    LimitStep,
    in_flight_over,
    limit_steps,
    permit_time,
    refusals_of,
)
from harness.analysis.model import Cell
from harness.records.clock import SECOND
from harness.records.schema import Trial
from harness.report.charts.model import Chart, CurvePanel, Key, Point, Series, axis_from_zero
from harness.report.tables import Column, Subject, Table
from harness.report.wording import counted, headline, whole_number

LIMIT_BINS = 120
"""The parts of a trial of which the chart shows the mean number in flight."""
MOST_LIMITS = 4
"""The most trials that the chart shows."""
MOST_MARKERS = 200
"""More 429s than these are small dots."""
MOST_REFUSALS = 2000
"""The most 429s of a trial that the chart shows."""


class LimitedTrial(NamedTuple):
    """A trial whose permits adapted. `in_flight`: means; `refused`: the times of 429s."""

    cell: Cell
    trial: Trial
    steps: list[LimitStep]
    in_flight: NDArray[np.float64]
    refused: NDArray[np.int64]


def _trials(about: Subject) -> list[LimitedTrial]:
    """Return the first whole trial of each cell whose permits adapt, the recommended one first."""
    adaptive = [cell for cell in about.cells if cell.limiter]
    adaptive.sort(key=lambda cell: not about.is_recommended(cell))
    found = []
    for cell in adaptive[:MOST_LIMITS]:
        records = about.data.cells[cell.id]
        for trial in list(records.whole_trials())[:1]:
            mine = records.attempts.take(records.attempts.column("repeat") == trial.repeat)
            steps = limit_steps(trial)
            if steps:
                over = in_flight_over(mine, trial, LIMIT_BINS)
                found.append(LimitedTrial(cell, trial, steps, over, refusals_of(mine)))
    return found


def limits_over_time(about: Subject) -> Chart | None:
    """Return limit, attempts in flight and 429s over time; None without a limit that adapts."""
    seen = _trials(about)
    if not seen:
        return None
    unit = SECOND * about.summary.time_scale
    best = headline([one.cell for one in seen], about.summary)
    main = next(one for one in seen if one.cell is best)
    last = main.steps[-1].limit
    low, high = (pick(step.limit for step in main.steps) for pick in (min, max))
    more = sum(bool(cell.limiter) for cell in about.cells) - len(seen)
    notes = [
        f"Repeat {main.trial.repeat + 1}. In flight: the mean of each of {LIMIT_BINS} equal parts "
        "of the trial. Markers: 429s, at the limit when they came back."
    ]
    if any(len(one.refused) > MOST_REFUSALS for one in seen):
        notes.append(f"At most {MOST_REFUSALS} 429s are shown.")
    if more:
        notes.append(f"Not shown: {counted(more, 'more setting')} whose permits adapt.")
    panels = tuple(_panel(one, about.labels[one.cell.id], unit) for one in seen)
    refused = counted(len(main.refused), "429")
    return Chart(
        "Limits that adapt",
        f"{about.name(best)}: from {main.steps[0].limit} to {last} calls at once, between {low} "
        f"and {high}, {refused}",
        "The limit, the attempts in flight and the 429s over the time of one trial.",
        tuple(notes),
        panels,
        (
            Key("blue", "limit", line="line"),
            Key("green", "in flight", line="line"),
            Key("vermillion", "429", marker=True),
        ),
        _table(about, seen),
        across=min(len(panels), 2),
        more=(_steps_table(about, seen, unit),),
    )


def _panel(one: LimitedTrial, title: str, unit: float) -> CurvePanel:
    start, lasted = one.trial.start, (one.trial.end - one.trial.start) / unit
    steps = [(step.start, step.limit) for step in one.steps]
    steps.append((one.steps[-1].end, one.steps[-1].limit))
    width = lasted / LIMIT_BINS
    limit_at = np.array([step.start for step in one.steps])
    refused = one.refused[:MOST_REFUSALS]
    # An attempt is counted at the limit before the change that it caused.
    places = np.maximum(np.searchsorted(limit_at, refused) - 1, 0)
    series = [
        Series("limit", "blue", tuple(Point((at - start) / unit, n) for at, n in steps), "steps"),
        Series(
            "in flight",
            "green",
            tuple(Point((at + 0.5) * width, n) for at, n in enumerate(one.in_flight.tolist())),
            "line",
        ),
    ]
    if len(refused):
        dots = zip(refused.tolist(), places.tolist(), strict=True)
        series.append(
            Series(
                "429",
                "vermillion",
                tuple(Point((at - start) / unit, one.steps[place].limit) for at, place in dots),
                "loose" if len(refused) <= MOST_MARKERS else "cloud",
            )
        )
    top = max([*(n for _, n in steps), *one.in_flight.tolist()])
    return CurvePanel(
        title,
        axis_from_zero("seconds since the trial began", lasted),
        axis_from_zero("calls at once", 1.08 * top),
        tuple(series),
    )


def _table(about: Subject, seen: list[LimitedTrial]) -> Table:
    """Return the limit at the start and the end of each trial, its range and mean, and the 429s."""
    limits = [[step.limit for step in one.steps] for one in seen]
    means = [permit_time(one.trial, 0) / max(one.trial.end - one.trial.start, 1) for one in seen]
    return about.of_cells(
        "limits",
        "The limits of one trial",
        (
            Column("at the start", "first", [found[0] for found in limits], whole_number),
            Column("at the end", "last", [found[-1] for found in limits], whole_number),
            Column("lowest", "lowest", list(map(min, limits)), whole_number),
            Column("highest", "highest", list(map(max, limits)), whole_number),
            Column("mean", "mean", means),
            Column("429s", "refused", [len(one.refused) for one in seen], whole_number),
        ),
        [one.cell for one in seen],
    )


def _steps_table(about: Subject, seen: list[LimitedTrial], unit: float) -> Table:
    """Return each limit with its time, the mean in flight and the 429s while it held."""
    rows = [
        (one, step, int(np.sum((one.refused > step.start) & (one.refused <= step.end))))
        for one in seen
        for step in one.steps
    ]
    return Table(
        "limit-steps",
        "Each limit, from when it held, and the 429s that came back under it",
        (
            Column("setting", "cell", [about.labels[one.cell.id] for one, _, _ in rows]),
            Column(
                "from, s", "start", [(step.start - one.trial.start) / unit for one, step, _ in rows]
            ),
            Column("limit", "limit", [step.limit for _, step, _ in rows], whole_number),
            Column("429s", "refused", [count for _, _, count in rows], whole_number),
        ),
    )
