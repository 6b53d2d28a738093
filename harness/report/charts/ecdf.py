"""The distribution of latency in each policy or mode: the share of workflows done within a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.cells import MeasuredCell, PopulationName
from harness.analysis.model import Cell
from harness.analysis.selection import CellRecords
from harness.analysis.settings import policy_of
from harness.records.clock import SECOND
from harness.records.settings import one_at_a_time
from harness.report.charts.model import (
    MODE_LOOKS,
    SERIES,
    Chart,
    CurvePanel,
    Key,
    Point,
    Series,
    axis_from_zero,
)
from harness.report.tables import Column, Subject
from harness.report.wording import headline, keeps_enough, left_out_note, number

MOST_STEPS = 150
"""The most points of a curve; of more values, this many are drawn, evenly by rank."""

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""The shares whose latencies are in the table."""


def band(n: int) -> float:
    """Return the half width of a 95 % band around the distribution of n values.

    Valid for every distribution: Dvoretzky, Kiefer and Wolfowitz with Massart's constant (Annals
    of Probability 18, 1990).
    """
    return math.sqrt(math.log(2 / 0.05) / (2 * n))


class BestCells(NamedTuple):
    """The best cell of each policy or mode (`each`), how they are drawn, and how many are not."""

    cells: list[Cell]
    looks: dict[str, str]
    each: Literal["policy", "mode"]
    more: int


def _best_of_each(about: Subject, ran: Sequence[Cell], shown: Sequence[Cell]) -> BestCells:
    by_policy = len(set(map(policy_of, (cell for cell in ran if not one_at_a_time(cell.mode))))) > 1
    groups: dict[object, list[Cell]] = {}
    for cell in shown:
        groups.setdefault(policy_of(cell) if by_policy else cell.mode, []).append(cell)
    best = [headline(cells, about.summary) for cells in groups.values()]
    best = sorted(best, key=lambda cell: not about.is_recommended(cell))[: len(SERIES)]
    best = [cell for cell in about.cells if cell in best]
    looks = (
        dict(zip((cell.id for cell in best), SERIES, strict=False))
        if by_policy
        else {cell.id: MODE_LOOKS[cell.mode] for cell in best}
    )
    return BestCells(best, looks, "policy" if by_policy else "mode", len(groups) - len(best))


def latency_ecdf(about: Subject) -> Chart | None:
    """Return workflow latency with its band, and call latency, of the best cells.

    Of each policy where policies are compared, otherwise of each mode. Cells that lost too many
    workflows are left out; None if no other cell is left.
    """
    unit, of_cell = SECOND * about.summary.time_scale, about.data.cells
    ran = [cell for cell in about.summary.cells if of_cell[cell.id].workflows]
    shown = [cell for cell in ran if keeps_enough(cell)]
    if not shown:
        return None
    best, looks, each, more = _best_of_each(about, ran, shown)

    def panel(title: str, found: Sequence[NDArray[np.float64]], *, banded: bool) -> CurvePanel:
        series = [
            Series(about.labels[cell.id], looks[cell.id], _steps(one, banded), "steps")
            for cell, one in zip(best, found, strict=True)
            if len(one)
        ]
        return _panel_of(title, series, found)

    steady = [of_cell[cell.id].steady() for cell in best]
    workflows = [_latencies(cell, "workflows") / unit for cell in steady]
    calls = [_latencies(cell, "calls") / unit for cell in steady]
    main = headline(best, about.summary)
    taken = workflows[best.index(main)]
    # The figure of the tables, not that of the curve, which takes all repeats as one sample.
    median = about.duration(main.workflow_latency_s.p50)
    half, longest = number(median or _within(taken, 0.5)), number(max(taken, default=None))
    return Chart(
        "Distribution of latency",
        f"{about.name(main)}: half of the workflows took {half} s or less, the longest {longest} s",
        f"The share of workflows, and of calls, done within a time, by {each}.",
        (
            f"The best setting of each {each}. All workflows and calls that ended count, also "
            "failed ones, but no cancelled calls. Shaded: the 95\u00a0% band of Dvoretzky, Kiefer "
            "and Wolfowitz; calls have none, as those of one workflow depend on each other.",
            *left_out_note(ran, about.labels, "curve"),
            *([f"Not shown: the best settings of {more} more."] if more else []),
        ),
        (
            panel("workflow latency", workflows, banded=True),
            panel("call latency", calls, banded=False),
        ),
        tuple(Key(looks[cell.id], about.labels[cell.id]) for cell in best),
        about.of_cells(
            "latency-ecdf",
            "Time within which a share of workflows and calls was done, all repeats together",
            [
                *_columns(about, "workflows", "workflow_latency", workflows),
                *_columns(about, "calls", "call_latency", calls),
            ],
            best,
        ),
        across=2,
    )


def _latencies(cell: CellRecords, name: PopulationName) -> NDArray[np.float64]:
    """Return the latencies in nanoseconds, in ascending order."""
    ended = MeasuredCell(cell).population(name).items
    taken: NDArray[np.float64] = np.sort(ended.column("done") - ended.column("ready"))
    return taken


def _columns(
    about: Subject, name: str, key: str, found: Sequence[NDArray[np.float64]]
) -> Iterator[Column]:
    """Yield a column for each share: the time within which it was done."""
    for share in SHARES:
        shown = f"{share * 100:.0f}"
        values = [_within(one, share) for one in found]
        yield Column(f"{shown}\u00a0% of\n{name} s", about.seconds(f"{key}_p{shown}"), values)


def _panel_of(
    title: str, series: Sequence[Series], found: Sequence[NDArray[np.float64]]
) -> CurvePanel:
    """Return the panel of series from values in ascending order."""
    longest = max((float(one[-1]) for one in found if len(one)), default=1.0)
    return CurvePanel(
        f"{title}, from ready to done",
        axis_from_zero("seconds", longest * 1.02),
        axis_from_zero("share done within", 1.02),
        tuple(series),
    )


def _within(taken: NDArray[np.float64] | None, share: float) -> float | None:
    """Return the least time within which that share was done."""
    if taken is None or not len(taken):
        return None
    return float(np.quantile(taken, share, method="inverted_cdf"))


def _steps(taken: NDArray[np.float64], banded: bool) -> tuple[Point, ...]:
    n = len(taken)
    reach = band(n) if banded else None
    ranks = np.unique(np.linspace(0, n, min(n, MOST_STEPS) + 1).round().astype(int)).tolist()
    points = []
    for rank in ranks:
        share, band_here = rank / n, reach if rank else None
        low = None if band_here is None else max(share - band_here, 0.0)
        high = None if band_here is None else min(share + band_here, 1.0)
        points.append(Point(float(taken[rank - 1]) if rank else 0.0, share, low, high))
    return tuple(points)
