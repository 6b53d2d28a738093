"""The lag of timers: how late a busy client runs what is due.

A probe sets one timer after another, each `PROBE_INTERVAL` after the last one ran. While the client
is blocked, the probe is too, and the timers that it would have set are missing from its readings
(coordinated omission). `corrected` adds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from harness.records.clock import SECOND
from harness.records.histogram import Histogram, bucket
from harness.records.units import Nanoseconds

PROBE_INTERVAL = SECOND // 50
"""Nanoseconds from one timer of a probe to the next."""

LATE = SECOND // 1000
"""The lag in nanoseconds from which a timer is recorded with its time."""


class LateTimer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """When a timer was due, and by how many nanoseconds it ran late."""

    due: Nanoseconds[int]
    late: Nanoseconds[int]


class TimerLag(NamedTuple):
    """The readings of a probe, as in `Trial`."""

    loop_lag: Histogram
    late_timers: tuple[LateTimer, ...]


NO_LAG = TimerLag({}, ())
"""The readings of a probe that has none."""


def merged_lag(readings: Sequence[TimerLag]) -> TimerLag:
    """Return the readings of several probes as those of one, the late timers by their times."""
    if len(readings) == 1:
        return readings[0]
    total: Histogram = {}
    for lag in readings:
        for name, count in lag.loop_lag.items():
            total[name] = total.get(name, 0) + count
    late = (timer for lag in readings for timer in lag.late_timers)
    return TimerLag(total, tuple(sorted(late, key=lambda timer: timer.due)))


def corrected(lag: Mapping[int, int]) -> Histogram:
    """Return a histogram of lags with those of the timers that a blocked client has not set.

    A lag of d stands for timers due later in the same block too, with the lags d - i, d - 2i, ...
    for the interval i.
    """
    total: Histogram = {}
    for name, count in lag.items():
        for late in range(name, 0 if name else -1, -PROBE_INTERVAL):
            one = bucket(late)
            total[one] = total.get(one, 0) + count
    return total
