"""The time of the records: integer nanoseconds since the run's anchor.

The anchor relates a monotonic time to a wall time. All other times are monotonic, so a change of
the system clock during a run affects no latency.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from harness.records.units import Nanoseconds

SECOND = 1_000_000_000
"""Nanoseconds in a second."""

ReadClock = Callable[[], int]
"""Returns the nanoseconds since the run's anchor."""


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """One moment on two clocks.

    `unix_ns`: nanoseconds since the Unix epoch. `monotonic_ns`: `time.monotonic_ns()` at the same
    moment; comparable only within one machine, and until it restarts.
    """

    unix_ns: Nanoseconds[int]
    monotonic_ns: Nanoseconds[int]


def take_anchor() -> Anchor:
    """Read both clocks at nearly the same moment: the closest pair of five tries."""
    tries = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(5)]
    before, unix, after = min(tries, key=lambda one: one[2] - one[0])
    return Anchor(unix_ns=unix, monotonic_ns=(before + after) // 2)


def monotonic_since(anchor: Anchor) -> ReadClock:
    """Return a function that reads the nanoseconds since `anchor`."""
    origin, read = anchor.monotonic_ns, time.monotonic_ns

    def now() -> int:
        return read() - origin

    return now
