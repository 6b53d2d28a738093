"""How far the clock of another machine is ahead, from round trips over the network.

The other clock is read at some moment of the round trip. If that is its middle, the difference to
the middle of the round trip by our clock is the offset; wherever it is, the error is at most half
of the round trip. So the shortest round trip tells most, as in the Network Time Protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class RoundTrip(NamedTuple):
    """One question for the time of another clock; nanoseconds.

    `asked`, `answered`: by our clock. `read`: what the other clock showed between them.
    """

    asked: int
    read: int
    answered: int


class ClockOffset(NamedTuple):
    """Nanoseconds by which another clock is ahead of ours; it is wrong by at most `uncertainty`."""

    offset: int
    uncertainty: int
    round_trips: int


def clock_offset(trips: Sequence[RoundTrip]) -> ClockOffset:
    """Return the offset from at least one round trip."""
    best = min(trips, key=lambda trip: trip.answered - trip.asked)
    took = best.answered - best.asked
    return ClockOffset(best.read - best.asked - took // 2, -(-took // 2), len(trips))
