"""Decides which attempts found an idle connection, from those of their trial before them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.records.connections import KEEP_ALIVE_SECONDS

_Times = NDArray[np.float64]


def without_idle_connection(
    trial: NDArray[np.int64], begin: _Times, sent: _Times, end: _Times, leaves: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which attempts had to open a connection.

    `begin`: when each attempt needed a connection. `sent`: when it was sent, nan if it was not; of
    attempts that begin together, the one sent first had the idle connection. `end`: when the
    connection was idle again, if the attempt `leaves` one. Trials begin without connections.
    """
    opens = np.zeros(len(begin), np.bool_)
    for number in np.unique(trial).tolist():
        rows = np.flatnonzero((trial == number) & ~np.isnan(sent))
        rows = rows[np.lexsort((sent[rows], begin[rows]))]
        opens[rows] = _of_trial(begin[rows], np.sort(end[rows[leaves[rows]]]))
    return opens


def _of_trial(begin: _Times, returned: _Times) -> list[bool]:
    """Return the same for the attempts of one trial. Both are in order of time."""
    idle: list[float] = []
    opens = []
    next_one, back = 0, returned.tolist()
    for at in begin.tolist():
        while next_one < len(back) and back[next_one] <= at:
            idle.append(back[next_one])
            next_one += 1
        # The latest one is taken; if that is idle for too long, so are the others.
        if idle and idle[-1] + KEEP_ALIVE_SECONDS < at:
            idle.clear()
        opens.append(not idle)
        if idle:
            idle.pop()
    return opens
