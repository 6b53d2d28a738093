"""Whether the client or the simulator limited the measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from harness.analysis.client_delay import ClientDelays, delays_by_cell, worst_second
from harness.analysis.model import Spread, Verdict
from harness.analysis.offered_load import check_schedule, schedule_fault
from harness.analysis.oracle import Joined, disagreements, pooled, two_percentiles
from harness.analysis.pooling import pool
from harness.analysis.selection import CellRecords
from harness.records.clock import SECOND
from harness.records.histogram import Histogram, merge, quantile
from harness.records.timer_lag import corrected

CPU_LIMIT = 0.9
"""The limit of the share of one core: a queue's wait grows without bound as its load nears 1."""

CLIENT_FLOOR, CLIENT_SHARE = 0.001, 0.025
"""The limit of what the client adds to a percentile: 2.5 % of the percentile without it, or 1 ms.

The estimate may be wrong by a factor of two. So an error above 5 % is found, and one below 1 % is
not taken for more. A call of the SDK costs about 1 ms."""

SECOND_FACTOR, SECOND_SHARE = 4.0, 0.1
"""The limit of the worst second, in limits of the whole, and the share of the attempts it needs."""

TYPICAL_FLOOR, TYPICAL_SHARE = 0.005, 0.05
"""The limit of the provider's median lateness: 5 ms, or 5 % of the median time to first token."""

RARE_FLOOR, RARE_SHARE = 0.05, 0.25
"""The limit of its 99th percentile: 50 ms, or 25 % of the median time to first token.

It affects only the tails, which are several times the median (3.6 times for the longest of 8 at
log-normal sigma 0.8)."""

FEWEST_READINGS = 100
"""With fewer readings the 99th percentile is the maximum."""

_CPU = "The client's processor time"
_RATE = "The difference of the offered from the planned rate of arrivals"
_LATE = "The 99th percentile of the lateness of arrivals"
_TTFT = "The client's part of the median time to first token"
_RARE_TTFT = "The client's part of the 99th percentile of the time to first token"
_FROM_PERMIT = "The client's part of the median time from permit to first token"
_IN_A_SECOND = f"{_FROM_PERMIT} in the worst second"
_SENTENCES = 2
"""The most sentences about either party in a verdict that names a bottleneck."""


VIRTUAL_VERDICT = Verdict(
    bottleneck="none",
    because=("Time was virtual: no figure depends on the speed of the machine.",),
)
"""The verdict on a run in virtual time."""


class _Reading(NamedTuple):
    """One number and its limit. `blames`: the cause of a number above the limit.

    `note`: where exactly, or of what the limit is a part.
    """

    blames: str
    what: str
    cell: str
    value: float
    limit: float
    note: str = ""

    @property
    def excess(self) -> float:
        return self.value / self.limit

    def sentence(self) -> str:
        relation = "above" if self.excess > 1 else "within"
        if self.what == _RATE:
            shown, limit = (f"{100 * part:.2g} %" for part in (self.value, self.limit))
        elif self.what == _CPU:
            shown, limit = (f"{100 * part:.0f} % of a core" for part in (self.value, self.limit))
        else:
            shown, limit = (_in_ms(part) for part in (self.value, self.limit))
        return f"{self.what} is {shown} in {self.cell}{self.note}, {relation} the limit of {limit}."


def _in_ms(seconds: float) -> str:
    ms = 1000 * seconds
    return f"{ms:.0f} ms" if ms >= 1000 else f"{ms:.3g} ms"


def judge(cells: Sequence[CellRecords], joined: Joined | None) -> Verdict:
    """Return what limited the measurement.

    Each number is that of the cell in which it is worst, as an average would hide it. Of several
    that exceed their limits, the one with the largest ratio names the bottleneck. Against a live
    endpoint only the client is judged.
    """
    lags = [corrected(merge(t.loop_lag for t in cell.trials.values())) for cell in cells]
    late = _lateness(joined) if joined else {}
    apart = disagreements(joined) if joined else {}
    shares = {cell.info.id: _processor_share(cell) for cell in cells}
    truth = _scheduled_ttfts(joined) if joined else {}
    delays = delays_by_cell(cells, joined)
    readings: list[_Reading] = []
    for cell in cells:
        name = cell.info.id
        readings.append(_Reading("client", _CPU, name, shares[name], CPU_LIMIT))
        if len(delays[name].ttft):
            readings += _of_client(cell, delays[name])
        readings += _of_arrivals(cell)
        readings += _of_provider(name, late.get(name, {}), truth.get(name, ()))
    bottleneck, because = _conclude(readings)
    fault = schedule_fault(cells)
    return Verdict(
        bottleneck=bottleneck,
        because=because,
        event_loop_lag_s=_worst(lags),
        client_cpu_share=max(shares.values(), default=None),
        provider_lateness_s=_worst(late.values()),
        clock_disagreement_s=two_percentiles(pooled(apart)),
        limited_cells=tuple(dict.fromkeys(one.cell for one in readings if one.excess > 1)),
        arrivals=f"{fault[0].upper()}{fault[1:]}." if fault else "",
    )


def _of_arrivals(cell: CellRecords) -> Iterator[_Reading]:
    """Yield how far the load of an open loop was from its schedule."""
    check = check_schedule(cell)
    if check is not None:
        name = cell.info.id
        yield _Reading("client", _RATE, name, abs(check.rate_error), check.rate_limit)
        yield _Reading("client", _LATE, name, check.late, check.late_limit)


def _of_client(cell: CellRecords, delays: ClientDelays) -> Iterator[_Reading]:
    """Yield what the client added to three percentiles, and to those of its worst second.

    The limits are parts of percentiles without that delay, which a slow client does not raise.
    """
    name = cell.info.id
    wanted = [
        (_TTFT, 0.5, delays.ttft),
        (_RARE_TTFT, 0.99, delays.ttft),
        (_FROM_PERMIT, 0.5, delays.ttft + delays.wait),
    ]
    for what, q, measured in wanted:
        clean, whole = (float(np.quantile(times, q)) / SECOND for times in (delays.clean, measured))
        yield _Reading("client", what, name, whole - clean, client_limit(clean))
    second = worst_second(delays, SECOND_SHARE)
    if second is not None:
        limit = SECOND_FACTOR * client_limit(float(np.median(delays.clean)) / SECOND)
        began = min((trial.start for trial in cell.trials.values()), default=0)
        note = (
            f" ({max(second.start - began, 0) / SECOND:.0f} s after its first trial began, "
            f"{100 * second.share:.0f} % of the attempts)"
        )
        yield _Reading("client", _IN_A_SECOND, name, second.median / SECOND, limit, note)


def client_limit(clean: float) -> float:
    """Return the limit of what the client may add to a percentile which is `clean` without it."""
    return max(CLIENT_FLOOR, CLIENT_SHARE * clean)


def _conclude(readings: Iterable[_Reading]) -> tuple[str, tuple[str, ...]]:
    """Return the bottleneck and why; if there is none, the readings nearest to their limits."""
    ranked = sorted(readings, key=lambda reading: reading.excess, reverse=True)
    worst = list({reading.what: reading for reading in reversed(ranked)}.values())[::-1]
    over = [reading for reading in worst if reading.excess > 1]
    if over:
        told = Counter[str]()
        shown = []
        for reading in over:
            if told[reading.blames] < _SENTENCES:
                shown.append(reading.sentence())
            told[reading.blames] += 1
        return over[0].blames, tuple(shown)
    nearest = {reading.blames: reading for reading in reversed(ranked)}
    return "none", tuple(reading.sentence() for reading in nearest.values())


def _processor_share(cell: CellRecords) -> float:
    """Return the processor time of a process of the client, as a share of one core."""
    whole = sum(trial.processes * (trial.end - trial.start) for trial in cell.trials.values())
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


def _of_provider(cell: str, late: Histogram, scheduled: Sequence[int]) -> Iterator[_Reading]:
    """Yield how late the provider wrote, against parts of its scheduled times to first token."""
    seen = _spread_of(late)
    if seen is None:
        return
    median = float(np.median(scheduled)) / SECOND if len(scheduled) else 0.0
    what, limit = "provider lateness", max(TYPICAL_FLOOR, TYPICAL_SHARE * median)
    yield _Reading("simulator", f"Median {what}", cell, seen.p50, limit)
    if sum(late.values()) >= FEWEST_READINGS:
        limit = max(RARE_FLOOR, RARE_SHARE * median)
        yield _Reading("simulator", f"99th percentile of {what}", cell, seen.p99, limit)


def _spread_of(late: Histogram) -> Spread | None:
    p50, p99 = quantile(late, 0.5), quantile(late, 0.99)
    if p50 is None or p99 is None:
        return None
    return Spread(p50=p50 / SECOND, p99=p99 / SECOND)


def _worst(parts: Iterable[Histogram]) -> Spread | None:
    spreads = [seen for part in parts if (seen := _spread_of(part)) is not None]
    return max(spreads, key=lambda seen: seen.p99, default=None)
