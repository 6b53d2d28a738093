"""How latency is distributed in each mode: the share of workflows done within a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.analysis.cells import wanted
from harness.analysis.selection import Dataset
from harness.records.clock import SECOND
from harness.records.schema import Call, Workflow
from harness.report.charts.model import (
    MODE_LOOKS,
    Chart,
    CurvePanel,
    Key,
    Point,
    Series,
    axis_from_zero,
)
from harness.report.tables import Column, Subject
from harness.report.wording import headline, number, sentence, spoken

MOST_STEPS = 150
"""More values than this are thinned to as many, evenly by rank: no eye sees the difference."""

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""The shares whose latencies are in the table."""


def band(n: int) -> float:
    """Return how far a true distribution may lie from that of n values, at 95 %.

    Dvoretzky, Kiefer and Wolfowitz's inequality with Massart's constant (Annals of Probability
    18, 1990): exact for no distribution, too wide for none.
    """
    return math.sqrt(math.log(2 / 0.05) / (2 * n))


def latency_ecdf(about: Subject, data: Dataset) -> Chart | None:
    """Return each mode's best cell: workflow latency with its band, call latency beside it."""
    summary, unit = about.summary, SECOND * about.summary.time_scale
    of_cell = data.cells
    ran = [cell for cell in summary.cells if of_cell[cell.id].workflows]
    if not ran:
        return None
    best = [
        headline([cell for cell in ran if cell.mode == mode], summary)
        for mode in MODE_LOOKS
        if any(cell.mode == mode for cell in ran)
    ]

    def seconds(ended: Sequence[Workflow] | Sequence[Call]) -> list[float]:
        return sorted((one.done - one.ready) / unit for one in ended)

    steady = [of_cell[cell.id].steady() for cell in best]
    workflows = [seconds(cell.workflows) for cell in steady]
    calls = [seconds(list(wanted(cell.calls))) for cell in steady]
    spoken_of = headline(best, summary)
    taken = workflows[best.index(spoken_of)]
    half = number(_within(taken, 0.5))
    longest = number(taken[-1]) if taken else number(None)
    panels = tuple(
        CurvePanel(
            f"{title}, from ready to done",
            axis_from_zero("seconds", max((one[-1] for one in found if one), default=1.0) * 1.02),
            axis_from_zero("share done within", 1.02),
            tuple(
                Series(about.labels[cell.id], MODE_LOOKS[cell.mode], _steps(one, banded), "steps")
                for cell, one in zip(best, found, strict=True)
                if one
            ),
        )
        for title, found, banded in (
            ("workflow latency", workflows, True),
            ("call latency", calls, False),
        )
    )
    return Chart(
        "How latency is distributed",
        f"{sentence(spoken(spoken_of, summary.cells))}: half of the workflows took {half} s or "
        f"less, the longest {longest} s",
        "The share of workflows, and of calls, done within a time, in each mode's best cell.",
        (
            "Each mode's best cell. Every workflow and call that ended counts, failed ones too, "
            "but no cancelled call. Shaded: the 95\u00a0% band of Dvoretzky, Kiefer and Wolfowitz; "
            "calls of one workflow depend on each other and have none.",
        ),
        panels,
        tuple(Key(MODE_LOOKS[cell.mode], about.labels[cell.id]) for cell in best),
        about.of_cells(
            "latency-ecdf",
            "Seconds within which a share of the workflows and calls was done",
            [
                Column(
                    f"{name}, {share * 100:.0f}\u00a0%",
                    about.seconds(f"{key}_p{share * 100:.0f}"),
                    [
                        _within(found[best.index(cell)], share) if cell in best else None
                        for cell in about.cells
                    ],
                )
                for name, key, found in (
                    ("workflows", "workflow_latency", workflows), ("calls", "call_latency", calls)
                )
                for share in SHARES
            ],
        ),
        across=2,
    )  # fmt: skip


def _within(taken: Sequence[float], share: float) -> float | None:
    """Return the least time within which so large a share was done."""
    return float(np.quantile(taken, share, method="inverted_cdf")) if taken else None


def _steps(taken: Sequence[float], banded: bool) -> tuple[Point, ...]:
    n = len(taken)
    reach = band(n) if banded else None
    ranks = np.unique(np.linspace(0, n, min(n, MOST_STEPS) + 1).round().astype(int)).tolist()
    points = []
    for rank in ranks:
        share = rank / n
        points.append(
            Point(
                taken[rank - 1] if rank else 0.0,
                share,
                max(share - reach, 0.0) if reach and rank else None,
                min(share + reach, 1.0) if reach and rank else None,
            )
        )
    return tuple(points)
