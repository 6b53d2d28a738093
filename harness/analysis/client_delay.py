"""How much the client itself added to the times to first token that it measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.oracle import Joined
from harness.analysis.selection import CellRecords
from harness.records.clock import SECOND
from harness.records.histogram import Histogram, merge, middle
from harness.records.timer_lag import PROBE_INTERVAL, LateTimer, corrected
from harness.store.compact_records import ABSENT

Times = NDArray[np.int64]


class ClientDelays(NamedTuple):
    """The attempts of a cell that had a first text, in nanoseconds.

    `first`: when it was read. `wait`: client wait. `ttft`: time to first token as measured.
    `read_late`: the part of it by which the client read the first text late.
    """

    first: Times
    wait: Times
    ttft: Times
    read_late: Times

    @property
    def clean(self) -> Times:
        """The times to first token without the delay of the client."""
        return self.ttft - self.read_late


def delays_by_cell(cells: Sequence[CellRecords], joined: Joined | None) -> dict[str, ClientDelays]:
    """Return the delays of each cell.

    The log of the simulated provider says when the first text was written. Without a log, the late
    timers say how late the client was at that time.
    """
    logged = {} if joined is None else _from_log(joined)
    return {cell.info.id: logged.get(cell.info.id) or _from_timers(cell) for cell in cells}


def _from_log(joined: Joined) -> dict[str, ClientDelays]:
    rows: dict[str, list[tuple[int, int, int, int]]] = {}
    for attempt, served in joined.pairs:
        sent, first, written = attempt.sent, attempt.first_text, served.first_written
        if sent is not None and first is not None and written is not None:
            late = max(first - written - joined.shift, 0)
            row = (first, sent - attempt.permit_granted, first - sent, min(late, first - sent))
            rows.setdefault(attempt.cell, []).append(row)
    return {cell: ClientDelays(*np.array(some, np.int64).T) for cell, some in rows.items()}


def _from_timers(cell: CellRecords) -> ClientDelays:
    columns = (cell.attempts.column(name) for name in ("permit_granted", "sent", "first_text"))
    granted, sent, first = (column.astype(np.int64) for column in columns)
    has_text = (sent != ABSENT) & (first != ABSENT)
    granted, sent, first = granted[has_text], sent[has_text], first[has_text]
    ttft = first - sent
    timers = [trial.late_timers for trial in cell.trials.values()]
    known = [some for some in timers if some is not None]
    if len(known) == len(timers):
        late = lag_at(first, chain.from_iterable(known))
    else:
        late = lag_by_rank(ttft, merge(trial.loop_lag for trial in cell.trials.values()))
    return ClientDelays(first, sent - granted, ttft, np.minimum(late, ttft))


def lag_at(moments: Times, late_timers: Iterable[LateTimer]) -> Times:
    """Return the lag at each moment: of the timer that was overdue then, or of the nearest one.

    At a moment without a timer near it, the lag is 0: only late timers are recorded.
    """
    timers = np.array(sorted((one.due, one.late) for one in late_timers), np.int64).reshape(-1, 2)
    # Two more, so that each moment has a timer before and after it.
    far = np.iinfo(np.int64).max // 2
    due, lag = np.vstack([[-far, 0], timers, [far, 0]]).T
    after = np.searchsorted((due + lag)[:-1], moments)
    since = moments - (due + lag)[after - 1]
    until = np.maximum(due[after] - moments, 0)
    nearest = np.where(until <= since, lag[after], lag[after - 1])
    found: Times = np.where(np.minimum(since, until) <= PROBE_INTERVAL // 2, nearest, 0)
    return found


def lag_by_rank(ttft: Times, readings: Histogram) -> Times:
    """Return a lag for each attempt if nothing says when it was.

    The lags are quantiles of all readings, the largest for the largest time to first token.
    """
    lags = corrected(readings)
    if not lags or not len(ttft):
        return np.zeros(len(ttft), np.int64)
    names = sorted(lags)
    counts = np.cumsum([lags[name] for name in names])
    rank = np.empty(len(ttft))
    rank[np.argsort(ttft, kind="stable")] = (np.arange(len(ttft)) + 0.5) / len(ttft)
    which = np.searchsorted(counts, rank * counts[-1])
    found: Times = np.array([middle(name) for name in names])[which].astype(np.int64)
    return found


class WorstSecond(NamedTuple):
    """The second in which the client was slowest; `start`: nanoseconds since the run's anchor."""

    start: int
    median: float
    share: float


def worst_second(delays: ClientDelays, least: float) -> WorstSecond | None:
    """Return the second with the largest median of client wait plus late reading.

    `least`: the share of the cell's attempts that a second needs to count.
    """
    of_second = delays.first // SECOND
    order = np.argsort(of_second, kind="stable")
    seconds, starts = np.unique(of_second[order], return_index=True)
    parts = np.split((delays.wait + delays.read_late)[order], starts[1:])
    found = [
        WorstSecond(second * SECOND, float(np.median(part)), len(part) / len(order))
        for second, part in zip(seconds.tolist(), parts, strict=False)
        if len(part) >= least * len(order)
    ]
    return max(found, key=lambda one: one.median, default=None)
