"""Fits the time of opening a connection: how much longer attempts without an idle one waited.

Records say when an attempt had its permit and when it was sent, but not whether it opened a
connection. That follows from the other attempts of the trial: each complete response leaves an idle
connection, which the next attempt takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.twin.observations import Observations

_LEAST = 3
SHORTEST_CONNECT = 1e-3
"""Seconds; below this, the waits are those of the client itself."""

_CLEARLY = 0.75
"""The share of the new connections that waited longer than nine in ten of the reused ones."""


@dataclass(frozen=True)
class ConnectFit:
    """`seconds` to connect, None if that cannot be told; `low` to `high`: of 8 in 10.

    `opened`: the attempts that had no idle connection; `reused`: the others that were sent.
    `own`: the median seconds that these waited, which is the client's own delay.
    """

    seconds: float | None
    low: float
    high: float
    opened: int
    reused: int
    own: float


def fit_connect(seen: Observations) -> ConnectFit:
    """Return the time of connecting."""
    waits, opened = seen.client_wait[seen.was_sent], seen.opens[seen.was_sent]
    new, kept = waits[opened], waits[~opened]
    own, most = np.quantile(kept, [0.5, 0.9]).tolist() if len(kept) >= _LEAST else (0.0, 0.0)
    if len(new) < _LEAST:
        return ConnectFit(None, 0.0, 0.0, len(new), len(kept), own)
    low, middle, high = np.maximum(np.quantile(new, [0.1, 0.5, 0.9]) - own, 0.0).tolist()
    is_clear = middle >= SHORTEST_CONNECT and float(np.mean(new > most)) >= _CLEARLY
    return ConnectFit(middle if is_clear else None, low, high, len(new), len(kept), own)
