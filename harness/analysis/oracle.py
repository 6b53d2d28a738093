"""An oracle that is not the client: its records held against the simulated provider's own log.

And from that, with what the client noticed about itself: did the measurement measure the endpoint,
or the machine it ran on?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.model import Oracle, Spread, Verdict
from harness.analysis.selection import CellRecords
from harness.bench.store import Records
from harness.clock import SECOND
from harness.failures import OK
from harness.histogram import Histogram, merge, quantile
from harness.ids import attempt_span
from harness.records import Attempt, ProviderHead, Served

CPU_LIMIT = 0.9
"""Above this share of one core a client that runs on one core has nothing left to keep time with;
a queue's wait grows without bound as its load nears 1."""

TYPICAL_FLOOR, TYPICAL_SHARE = 0.005, 0.05
"""What half of all readings may be late by: 5 ms, or 5 % of the median time to first token, if that
is more. Medians shift by as much."""

RARE_FLOOR, RARE_SHARE = 0.05, 0.25
"""What one reading in a hundred may be late by: 50 ms, or 25 % of the median time to first token.
Only the tails feel it, and those are several times the median (3.6 times for the longest of 8 at
log-normal sigma 0.8)."""

FEWEST_READINGS = 100
"""With fewer readings the 99th percentile is the maximum, one hiccup of the start."""

CLIENT_CLOSED = "client_closed"
"""What the provider calls a request whose client went away."""

_WE_LEFT = frozenset(
    {"first_token_timeout", "idle_timeout", "call_timeout", "workflow_timeout", "cancelled"}
)
_WHOLE_BUT_UNUSABLE = frozenset(
    {"truncated", "content_filter", "insufficient_system_resource", "empty_answer"}
)


class Joined(NamedTuple):
    """Attempts with their lines of the provider's log, and how many stand on one side only.

    `shift`: nanoseconds to add to the provider's times to get the client's.
    """

    pairs: list[tuple[Attempt, Served]]
    unmatched: int
    shift: int


def join(records: Records) -> Joined | None:
    """Join attempts to the provider's log by span id; None where there is no log.

    Both anchors carry a reading of the same monotonic clock, so their difference is exact. An
    attempt that was never sent has no line in the log and needs none.
    """
    if records.provider is None:
        return None
    head, log = records.provider
    waiting = {served.span_id: served for served in log if served.span_id is not None}
    nameless = sum(served.span_id is None for served in log)
    pairs, missing = [], 0
    for attempt in records.attempts:
        served = waiting.pop(attempt_span(records.run.run_id, attempt), None)
        if served is not None:
            pairs.append((attempt, served))
        elif attempt.sent is not None:
            missing += 1
    return Joined(pairs, missing + len(waiting) + nameless, _shift(records, head))


def _shift(records: Records, head: ProviderHead) -> int:
    return head.anchor.monotonic_ns - records.run.anchor.monotonic_ns


def disagreements(joined: Joined) -> dict[str, NDArray[np.float64]]:
    """Return client's first text minus provider's first write, in seconds, by cell."""
    parts: dict[str, list[int]] = {}
    for attempt, served in joined.pairs:
        first, written = attempt.first_text, served.first_written
        if first is not None and written is not None:
            parts.setdefault(attempt.cell, []).append(first - written - joined.shift)
    return {cell: np.array(apart, np.float64) / SECOND for cell, apart in parts.items()}


def _pooled(parts: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([*parts.values(), np.empty(0)])


def compare(joined: Joined) -> Oracle:
    """Return how far client and provider agree."""
    pairs = joined.pairs
    ours = quantile(merge(attempt.gaps for attempt, _ in pairs), 0.5)
    theirs = quantile(merge(served.gaps for _, served in pairs), 0.5)
    return Oracle(
        attempts=len(pairs),
        unmatched=joined.unmatched,
        outcome_mismatches=sum(not agree(a.outcome, s.outcome) for a, s in pairs),
        token_mismatches=sum(not _same_tokens(a, s) for a, s in pairs),
        first_text_s=_spread(_pooled(disagreements(joined))),
        inter_token_p50_s=None if ours is None or theirs is None else (ours - theirs) / SECOND,
    )


def agree(client: str, provider: str) -> bool:
    """Return whether the client's outcome is what the provider's must look like to a client.

    A client that stops waiting leaves. What was served whole may still be no answer.
    """
    if provider == CLIENT_CLOSED:
        return client in _WE_LEFT
    if provider == OK:
        return client == OK or client in _WHOLE_BUT_UNUSABLE
    return client == provider


def _same_tokens(attempt: Attempt, served: Served) -> bool:
    """Compare what the client was told; what it never read cannot differ."""
    told, meant = attempt.tokens, served.tokens
    pairs = (
        (told.input, meant.input),
        (told.cached, meant.cached),
        (told.output, meant.output),
        (told.reasoning, meant.reasoning),
    )
    return all(one is None or one == other for one, other in pairs)


def _spread(values: NDArray[np.float64]) -> Spread | None:
    if not len(values):
        return None
    p50, p99 = np.quantile(values, (0.5, 0.99))
    return Spread(p50=float(p50), p99=float(p99))


class _Reading(NamedTuple):
    """One number against its limit. `blames`: whose doing it is when it is above."""

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


_CPU = "The client's processor time"


def judge(cells: Sequence[CellRecords], joined: Joined | None) -> Verdict:
    """Return what limited the measurement.

    Lag, processor share and lateness are those of the cell in which they are worst: an average
    would hide the one cell that is wrong. When several are above their limits, the one furthest
    above names the bottleneck. Against a live endpoint only the client can be judged.
    """
    lags = {cell.info.id: merge(t.loop_lag for t in cell.trials.values()) for cell in cells}
    late = _lateness(joined) if joined else {}
    apart = disagreements(joined) if joined else {}
    shares = {cell.info.id: _processor_share(cell) for cell in cells}
    readings: dict[str, _Reading] = {}
    for cell in cells:
        name = cell.info.id
        typical, rare = _limits(cell)
        found = [_Reading("client", _CPU, name, shares[name], CPU_LIMIT)]
        found += _of_histogram("client", "event-loop lag", name, lags[name], typical, rare)
        found += _of_histogram(
            "simulator", "provider lateness", name, late.get(name, {}), typical, rare
        )
        if name in apart:
            middle = abs(float(np.median(apart[name])))
            what = "Median delay from the provider's first write to the client's first text"
            found.append(_Reading("client", what, name, middle, typical))
        for reading in found:
            if reading.what not in readings or reading.excess > readings[reading.what].excess:
                readings[reading.what] = reading
    worst = sorted(readings.values(), key=lambda reading: reading.excess, reverse=True)
    over = [reading for reading in worst if reading.excess > 1]
    return Verdict(
        bottleneck=over[0].blames if over else "none",
        because=tuple(reading.sentence() for reading in over or worst),
        event_loop_lag_s=_worst(lags.values()),
        client_cpu_share=max(shares.values(), default=None),
        provider_lateness_s=_worst(late.values()),
        clock_disagreement_s=_spread(_pooled(apart)),
    )


def _processor_share(cell: CellRecords) -> float:
    whole = sum(trial.end - trial.start for trial in cell.trials.values())
    return sum(trial.cpu for trial in cell.trials.values()) / whole if whole > 0 else 0.0


def _lateness(joined: Joined) -> dict[str, Histogram]:
    parts: dict[str, list[Histogram]] = {}
    for attempt, served in joined.pairs:
        parts.setdefault(attempt.cell, []).append(served.lateness)
    return {cell: merge(histograms) for cell, histograms in parts.items()}


def _limits(cell: CellRecords) -> tuple[float, float]:
    """Return what half of the readings and what one in a hundred may be late by, in seconds."""
    ttfts = [attempt.ttft for attempt in cell.attempts if attempt.ttft is not None]
    median = float(np.median(ttfts)) / SECOND if ttfts else 0.0
    return (
        max(TYPICAL_FLOOR, TYPICAL_SHARE * median),
        max(RARE_FLOOR, RARE_SHARE * median),
    )


def _of_histogram(
    blames: str, what: str, cell: str, late: Histogram, typical: float, rare: float
) -> list[_Reading]:
    spread = _spread_of(late)
    if spread is None:
        return []
    readings = [_Reading(blames, f"Median {what}", cell, spread.p50, typical)]
    if sum(late.values()) >= FEWEST_READINGS:
        what = f"99th percentile of {what}"
        readings.append(_Reading(blames, what, cell, spread.p99, rare))
    return readings


def _spread_of(late: Histogram) -> Spread | None:
    p50, p99 = quantile(late, 0.5), quantile(late, 0.99)
    if p50 is None or p99 is None:
        return None
    return Spread(p50=p50 / SECOND, p99=p99 / SECOND)


def _worst(parts: Iterable[Histogram]) -> Spread | None:
    spreads = [spread for part in parts if (spread := _spread_of(part)) is not None]
    return max(spreads, key=lambda spread: spread.p99, default=None)
