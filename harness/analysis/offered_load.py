"""Whether the workflows of an open loop arrived as planned: the offered rate and the lateness.

A workflow is planned at `Workflow.ready` and arrives at `Workflow.started`. In modes that run one
workflow at a time, the wait for the workflow before it is left out: it is a queue of the setting,
and the client is not late.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.model import NO_ARRIVALS, Lateness
from harness.analysis.selection import CellRecords
from harness.records.clock import SECOND
from harness.records.schema import Workflow
from harness.records.settings import one_at_a_time

RATE_SHARE = 0.01
"""From this difference on, as a share of the planned rate, a load is not the configured one."""

LATE_SHARE = 0.01
"""The limit of the 99th percentile of lateness, as a share of the median workflow latency.

Latency counts from the planned arrival, so lateness is a part of it."""

TIMER_FLOOR = 0.002
"""Seconds below which no lateness matters: timers of an event loop are late by 1 ms themselves."""

Moments = NDArray[np.int64]


class TrialArrivals(NamedTuple):
    """The workflows of one trial, in nanoseconds since the run's anchor, in the order planned.

    `planned`: when each is ready. `actual`: when it arrived. `done`: when it ended.
    """

    planned: Moments
    actual: Moments
    done: Moments

    @property
    def lateness(self) -> Moments:
        """Nanoseconds from the planned to the actual arrival."""
        late: Moments = self.actual - self.planned
        return late


def arrivals_of(cell: CellRecords) -> dict[int, TrialArrivals]:
    """Return the arrivals of each uninterrupted trial, by repeat; none of a closed loop."""
    if not cell.open_loop:
        return {}
    by_repeat: dict[int, list[Workflow]] = {trial.repeat: [] for trial in cell.whole_trials()}
    for workflow in cell.workflows:
        by_repeat.get(workflow.repeat, []).append(workflow)
    is_queue = one_at_a_time(cell.info.mode)
    return {at: _arrivals(mine, is_queue) for at, mine in by_repeat.items() if mine}


def _arrivals(workflows: list[Workflow], is_queue: bool) -> TrialArrivals:
    workflows.sort(key=attrgetter("ready", "started"))
    planned, started, done = (
        np.array([getattr(one, name) for one in workflows], np.int64)
        for name in ("ready", "started", "done")
    )
    if not is_queue:
        return TrialArrivals(planned, started, done)
    could_start = np.maximum(planned, np.concatenate([planned[:1], done[:-1]]))
    return TrialArrivals(planned, planned + started - could_start, done)


def rate_of(moments: Moments) -> float | None:
    """Return the arrivals per second after the first one; None of fewer than two moments."""
    length = int(np.ptp(moments)) if len(moments) else 0
    return (len(moments) - 1) * SECOND / length if length else None


def configured_rate(cell: CellRecords) -> float | None:
    """Return `load.arrivals.per_second`, per real second; None of a closed loop."""
    arrivals = cell.scenario["load"].get("arrivals")
    return None if arrivals is None else arrivals["per_second"] / cell.run.time_scale


def is_random(cell: CellRecords) -> bool:
    """Return whether the schedule of an open loop is drawn."""
    return bool(cell.scenario["load"]["arrivals"]["process"] == "poisson")


def offered_rates(trials: dict[int, TrialArrivals]) -> dict[int, float]:
    """Return the actual arrivals per real second in each trial with two workflows or more."""
    rates = {repeat: rate_of(trial.actual) for repeat, trial in trials.items()}
    return {repeat: rate for repeat, rate in rates.items() if rate is not None}


def planned_rates(cell: CellRecords, trials: dict[int, TrialArrivals]) -> dict[int, float]:
    """Return the planned arrivals per real second in each trial with two workflows or more.

    With constant arrivals, that is the configured rate; with random ones, that of the schedule as
    drawn.
    """
    rates = {repeat: rate_of(trial.planned) for repeat, trial in trials.items()}
    known = {repeat: rate for repeat, rate in rates.items() if rate is not None}
    configured = configured_rate(cell)
    if configured is None or is_random(cell):
        return known
    return dict.fromkeys(known, configured)


def lateness_of(trials: dict[int, TrialArrivals]) -> Lateness:
    """Return how late the workflows of all trials arrived, in real seconds."""
    if not trials:
        return NO_ARRIVALS
    late = np.concatenate([trial.lateness for trial in trials.values()]) / SECOND
    p50, p99 = np.quantile(late, (0.5, 0.99)).tolist()
    return Lateness(p50=p50, p99=p99, max=float(late.max()))


class ScheduleCheck(NamedTuple):
    """How far the load of a cell was from the planned one, beside the limits.

    `offered`, `planned`: rates per real second, geometric means over the repeats; 0 if no trial
    has two workflows. `late`: the 99th percentile of lateness, `latency`: the median from arrival
    to end, in real seconds. `rate_limit` is a share, `late_limit` in real seconds.
    """

    offered: float
    planned: float
    rate_limit: float
    late: float
    latency: float

    @property
    def rate_error(self) -> float:
        """The difference of the offered from the planned rate, as a signed share of it."""
        return self.offered / self.planned - 1 if self.planned else 0.0

    @property
    def late_limit(self) -> float:
        """The limit of `late`, in real seconds."""
        return max(TIMER_FLOOR, LATE_SHARE * self.latency)

    @property
    def is_rate_off(self) -> bool:
        """Whether the offered rate is too far from the planned one."""
        return abs(self.rate_error) >= self.rate_limit

    @property
    def is_late(self) -> bool:
        """Whether workflows arrived too late."""
        return self.late > self.late_limit

    @property
    def excess(self) -> float:
        """The larger of the two figures in their limits."""
        return max(abs(self.rate_error) / self.rate_limit, self.late / self.late_limit)


def check_schedule(cell: CellRecords) -> ScheduleCheck | None:
    """Return how far the load of a cell was from the planned one; None of a closed loop.

    The rate has to differ by `TIMER_FLOOR` a trial, too: a few workflows within milliseconds show
    the timers.
    """
    trials = arrivals_of(cell)
    if not trials:
        return None
    offered, planned = offered_rates(trials), planned_rates(cell, trials)
    both = sorted(offered.keys() & planned.keys())
    lengths = [float(np.ptp(trials[at].planned)) / SECOND for at in both]
    taken = np.concatenate([trial.done - trial.actual for trial in trials.values()])
    return ScheduleCheck(
        _mean([offered[at] for at in both]),
        _mean([planned[at] for at in both]),
        max(RATE_SHARE, TIMER_FLOOR / (sum(lengths) / len(lengths)) if both else 0.0),
        lateness_of(trials).p99 or 0.0,
        float(np.median(taken)) / SECOND,
    )


def _mean(rates: list[float]) -> float:
    """Return the geometric mean, as figures over repeats are; 0 of nothing."""
    return float(np.exp(np.mean(np.log(rates)))) if rates else 0.0


def schedule_fault(cells: Iterable[CellRecords]) -> str:
    """Return in one sentence where the load was not the planned one, and the way out.

    It is about the worst cell, in scenario seconds, without a capital and a full stop; empty if
    each cell kept its schedule.
    """
    found = [(cell, check) for cell in cells if (check := check_schedule(cell)) is not None]
    off = [(cell, check) for cell, check in found if check.is_rate_off or check.is_late]
    if not off:
        return ""
    cell, check = max(off, key=lambda one: one[1].excess)
    scale, said = cell.run.time_scale, []
    if check.is_rate_off:
        said.append(_off(cell, check))
    if check.is_late:
        share = "beside"
        if check.latency:
            share = f"{_short(100 * check.late / check.latency, 2)} % of"
        said.append(
            f"the 99th percentile of lateness is {_short(check.late / scale)} s, {share} the "
            f"median workflow latency of {_short(check.latency / scale)} s"
        )
    others = f" and {len(off) - 1} more" if len(off) > 1 else ""
    scaled = " or a larger endpoint.time_scale" if scale < 1 else ""
    return (
        f"the client did not keep the schedule of arrivals in {cell.info.id}{others}: "
        f"{', and '.join(said)}; set a lower load.arrivals.per_second{scaled}, or use a less busy "
        "machine"
    )


def _off(cell: CellRecords, check: ScheduleCheck) -> str:
    scale = cell.run.time_scale
    planned, second = _short(check.planned * scale), "a second"
    which = f"the configured {planned}"
    if is_random(cell):
        mean = _short(cell.scenario["load"]["arrivals"]["per_second"])
        which = f"the {planned} of the schedule that was drawn (Poisson, {mean} on average)"
    if scale != 1:
        second = "a scenario second"
    more = "more" if check.rate_error > 0 else "fewer"
    return (
        f"{_short(check.offered * scale)} workflows {second} arrived, "
        f"{100 * abs(check.rate_error):.1f} % {more} than {which}"
    )


def _short(value: float, digits: int = 3) -> str:
    """Write so many significant digits, without an exponent."""
    return np.format_float_positional(value, digits, unique=False, fractional=False, trim="-")
