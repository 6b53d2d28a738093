"""The quantities that cells are ranked and compared by, one value for each repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from harness.analysis.cells import CountingRules, begun, makespan
from harness.analysis.selection import CellRecords
from harness.records.clock import SECOND
from harness.records.schema import Attempt

ByRepeat = dict[int, float]


class Metric(NamedTuple):
    """One quantity of a cell.

    `unit`: `s` (real seconds), `USD`, or nothing for a pure number. `worse`: the direction of a
    regression. `by_repeat`: its value in each repeat that has one. `latencies`: for a percentile
    `share` of workflow latency, which can also be compared workflow by workflow.
    """

    name: str
    words: str
    unit: str
    worse: Literal["higher", "lower"]
    by_repeat: Callable[[CellRecords, CountingRules], ByRepeat]
    percentile: float | None = None


def makespans(cell: CellRecords, terms: CountingRules) -> ByRepeat:
    """Return the seconds of every trial that ran in one go."""
    return {trial.repeat: makespan(trial) for trial in cell.whole_trials()}


def latencies(cell: CellRecords) -> dict[tuple[int, int], float]:
    """Return the seconds of every workflow by (repeat, workflow), warm-up left out."""
    return {(w.repeat, w.workflow): (w.done - w.ready) / SECOND for w in cell.steady().workflows}


def percentile_of_latency(share: float) -> Callable[[CellRecords, CountingRules], ByRepeat]:
    """Return what gives the `share`-quantile of each repeat's workflow latencies."""

    def by_repeat(cell: CellRecords, terms: CountingRules) -> ByRepeat:
        return _quantiles(((repeat, at) for (repeat, _), at in latencies(cell).items()), share)

    return by_repeat


def _quantiles(values: Iterable[tuple[int, float]], share: float) -> ByRepeat:
    parts: dict[int, list[float]] = {}
    for repeat, value in values:
        parts.setdefault(repeat, []).append(value)
    return {
        repeat: float(np.quantile(mine, share, method="inverted_cdf"))
        for repeat, mine in sorted(parts.items())
    }


def costs_of_success(cell: CellRecords, terms: CountingRules) -> ByRepeat:
    """Return the USD a success in each repeat; nothing when any repeat had no success."""
    successes = Counter(w.repeat for w in cell.workflows if terms.is_success(w))
    attempts: dict[int, list[Attempt]] = {workflow.repeat: [] for workflow in cell.workflows}
    for attempt in cell.attempts:
        attempts[attempt.repeat].append(attempt)
    costs = {repeat: terms.cost(mine) for repeat, mine in attempts.items()}
    if attempts.keys() != successes.keys():
        return {}
    return {repeat: cost / successes[repeat] for repeat, cost in costs.items() if cost is not None}


def _rate(cell: CellRecords, counts: Mapping[int, int]) -> ByRepeat:
    return {
        trial.repeat: counts.get(trial.repeat, 0) / makespan(trial)
        for trial in cell.whole_trials()
        if trial.end > trial.start
    }


def _throughput(cell: CellRecords, terms: CountingRules) -> ByRepeat:
    return _rate(cell, Counter(workflow.repeat for workflow in cell.workflows))


def _goodput(cell: CellRecords, terms: CountingRules) -> ByRepeat:
    return _rate(cell, Counter(w.repeat for w in cell.workflows if terms.is_good(w)))


def _amplification(cell: CellRecords, terms: CountingRules) -> ByRepeat:
    calls = Counter(call.repeat for call in cell.calls if begun(call))
    attempts = Counter(attempt.repeat for attempt in cell.attempts)
    return {repeat: attempts[repeat] / count for repeat, count in sorted(calls.items())}


def _ttft_p50(cell: CellRecords, terms: CountingRules) -> ByRepeat:
    seen = ((a.repeat, a.ttft / SECOND) for a in cell.steady().attempts if a.ttft is not None)
    return _quantiles(seen, 0.5)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("makespan", "makespan", "s", "higher", makespans),
        Metric(
            "workflow_p50", "workflow latency, median", "s", "higher",
            percentile_of_latency(0.5), 0.5,
        ),
        Metric(
            "workflow_p95", "workflow latency, 95th percentile", "s", "higher",
            percentile_of_latency(0.95), 0.95,
        ),
        Metric("ttft_p50", "time to first token, median", "s", "higher", _ttft_p50),
        Metric("throughput", "throughput, workflows per second", "1/s", "lower", _throughput),
        Metric("goodput", "goodput, workflows per second", "1/s", "lower", _goodput),
        Metric("amplification", "attempts a call", "", "higher", _amplification),
        Metric(
            "cost_per_successful_workflow", "cost of a successful workflow", "USD", "higher",
            costs_of_success,
        ),
    )
}  # fmt: skip
"""Every quantity whose change is a ratio, by name. Shares are compared on their own."""
