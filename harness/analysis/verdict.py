"""Whether the client or the simulator limited the measurement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.model import Spread, Verdict
from harness.analysis.oracle import Joined, disagreements, pooled, two_percentiles
from harness.analysis.pooling import pool
from harness.analysis.selection import CellRecords
from harness.records.clock import SECOND
from harness.records.histogram import Histogram, merge, quantile
from harness.store.columns import AttemptTable
from harness.store.compact_records import ABSENT

CPU_LIMIT = 0.9
"""The limit of the share of one core: a queue's wait grows without bound as its load nears 1."""

TYPICAL_FLOOR, TYPICAL_SHARE = 0.005, 0.05
"""The limit of the median delay: 5 ms, or 5 % of the median time to first token if that is more."""

RARE_FLOOR, RARE_SHARE = 0.05, 0.25
"""The limit of the 99th percentile: 50 ms, or 25 % of the median time to first token.

It affects only the tails, which are several times the median (3.6 times for the longest of 8 at
log-normal sigma 0.8)."""

FEWEST_READINGS = 100
"""With fewer readings the 99th percentile is the maximum."""

_CPU = "The client's processor time"
_APART = "Median delay from the provider's first write to the client's first text"


VIRTUAL_VERDICT = Verdict(
    bottleneck="none",
    because=("Time was virtual: no figure depends on the speed of the machine.",),
)
"""The verdict on a run in virtual time."""


class _Reading(NamedTuple):
    """One number and its limit. `blames`: the cause of a number above the limit."""

    blames: str
    what: str
    cell: str
    value: float
    limit: float

    @property
    def excess(self) -> float:
        return self.value / self.limit

    def sentence(self) -> str:
        relation = "above" if self.excess > 1 else "within"
        if self.what == _CPU:
            shown, limit = (f"{100 * part:.0f} % of a core" for part in (self.value, self.limit))
        else:
            shown, limit = (f"{1000 * part:.3g} ms" for part in (self.value, self.limit))
        return f"{self.what} is {shown} in {self.cell}, {relation} the limit of {limit}."


def judge(cells: Sequence[CellRecords], joined: Joined | None) -> Verdict:
    """Return what limited the measurement.

    Lag, processor share and lateness are those of the cell in which they are worst, as an average
    would hide it. Of several that exceed their limits, the one with the largest ratio names the
    bottleneck. Against a live endpoint only the client is judged.
    """
    lags = {cell.info.id: merge(t.loop_lag for t in cell.trials.values()) for cell in cells}
    late = _lateness(joined) if joined else {}
    apart = disagreements(joined) if joined else {}
    shares = {cell.info.id: _processor_share(cell) for cell in cells}
    truth = _scheduled_ttfts(joined) if joined else {}
    readings: list[_Reading] = []
    for cell in cells:
        name = cell.info.id
        limits = _limits(truth[name] if name in truth else _ttfts(cell.attempts))
        readings.append(_Reading("client", _CPU, name, shares[name], CPU_LIMIT))
        readings += _of_histogram("client", "event-loop lag", name, lags[name], limits)
        readings += _of_histogram(
            "simulator", "provider lateness", name, late.get(name, {}), limits
        )
        if name in apart:
            middle = abs(float(np.median(apart[name])))
            readings.append(_Reading("client", _APART, name, middle, limits[0]))
    bottleneck, because = _conclude(readings)
    return Verdict(
        bottleneck=bottleneck,
        because=because,
        event_loop_lag_s=_worst(lags.values()),
        client_cpu_share=max(shares.values(), default=None),
        provider_lateness_s=_worst(late.values()),
        clock_disagreement_s=two_percentiles(pooled(apart)),
    )


def _conclude(readings: Iterable[_Reading]) -> tuple[str, tuple[str, ...]]:
    """Return the bottleneck and why; if there is none, the readings nearest to their limits."""
    ranked = sorted(readings, key=lambda reading: reading.excess, reverse=True)
    worst = list({reading.what: reading for reading in reversed(ranked)}.values())[::-1]
    over = [reading for reading in worst if reading.excess > 1]
    if over:
        return over[0].blames, tuple(reading.sentence() for reading in over)
    nearest = {reading.blames: reading for reading in reversed(ranked)}
    return "none", tuple(reading.sentence() for reading in nearest.values())


def _processor_share(cell: CellRecords) -> float:
    whole = sum(trial.end - trial.start for trial in cell.trials.values())
    return sum(trial.cpu for trial in cell.trials.values()) / whole if whole > 0 else 0.0


def _lateness(joined: Joined) -> dict[str, Histogram]:
    number: dict[str, int] = {}
    pooled_lateness = pool(
        (number.setdefault(attempt.cell, len(number)), served.lateness)
        for attempt, served in joined.pairs
    )
    return {cell: pooled_lateness.of(owner) for cell, owner in number.items()}


def _scheduled_ttfts(joined: Joined) -> dict[str, list[int]]:
    """Return the times to first token without the provider's lateness."""
    parts: dict[str, list[int]] = {}
    for attempt, served in joined.pairs:
        if served.first_scheduled is not None:
            parts.setdefault(attempt.cell, []).append(served.first_scheduled - served.arrived)
    return parts


def _ttfts(attempts: AttemptTable) -> NDArray[np.int64]:
    sent, first = attempts.column("sent"), attempts.column("first_text")
    found: NDArray[np.int64] = (first - sent)[(sent != ABSENT) & (first != ABSENT)]
    return found


def _limits(ttfts: Sequence[int] | NDArray[np.int64]) -> tuple[float, float]:
    """Return the limits of the median and of the 99th percentile, in seconds."""
    median = float(np.median(ttfts)) / SECOND if len(ttfts) else 0.0
    return max(TYPICAL_FLOOR, TYPICAL_SHARE * median), max(RARE_FLOOR, RARE_SHARE * median)


def _of_histogram(
    blames: str, what: str, cell: str, late: Histogram, limits: tuple[float, float]
) -> list[_Reading]:
    seen = _spread_of(late)
    if seen is None:
        return []
    typical, rare = limits
    readings = [_Reading(blames, f"Median {what}", cell, seen.p50, typical)]
    if sum(late.values()) >= FEWEST_READINGS:
        what = f"99th percentile of {what}"
        readings.append(_Reading(blames, what, cell, seen.p99, rare))
    return readings


def _spread_of(late: Histogram) -> Spread | None:
    p50, p99 = quantile(late, 0.5), quantile(late, 0.99)
    if p50 is None or p99 is None:
        return None
    return Spread(p50=p50 / SECOND, p99=p99 / SECOND)


def _worst(parts: Iterable[Histogram]) -> Spread | None:
    spreads = [seen for part in parts if (seen := _spread_of(part)) is not None]
    return max(spreads, key=lambda seen: seen.p99, default=None)
