"""Fits the limit of concurrent requests: a threshold on the number in service at each 429.

With a cap, every request below it is served and every one at it is refused. The number that
contradicts the fewest requests is taken. A client sees the ends of requests later than the
provider, so an admission contradicts a cap only if no request ended just after it, and a few may.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.records.failures import CANCELLED
from harness.twin.in_flight import active_at, active_before
from harness.twin.observations import CLIENT_TIMEOUTS, Flags, Floats, Integers, Observations

_LEAST = 3
_WRONG_ADMISSIONS = 0.1
_CLOSE = 0.05
_ODDS = 5
"""How many times the odds of a refusal are higher at a cap than below it, at least, where most
admissions at it are taken for those of a client that sees the ends of requests late."""
_LATE_ENDS = 0.05
"""By how much later than the provider a client sees the end of a request, as a share of it."""
_MOST_LATE = 0.25
"""The same at most, for a client that is busy: a longer time would hide every admission."""


@dataclass(frozen=True)
class CapFit:
    """`cap`: None if none was met; then it is above `most`, the most in service at an admission.

    `refused`: the 429s it explains, by `explains`. `against`: the requests that contradict it.
    """

    cap: int | None
    most: int
    refused: int
    against: int
    explains: Flags

    def contradicts(self, count: int) -> int:
        """Return how many requests contradict the cap, if it is the only limit of `count` 429s."""
        return count - self.refused + self.against


def is_refusal(seen: Observations) -> Flags:
    """Return which attempts were refused with 429 at once."""
    refused: Flags = seen.has_outcome("rate_limited") & np.isnan(seen.first_text)
    refused &= seen.was_sent & ((seen.status == 429) | (seen.status < 0))
    return refused


def is_served(seen: Observations) -> Flags:
    """Return which attempts the provider served: those with text, or that waited for it."""
    waited = seen.has_outcome(CANCELLED, *CLIENT_TIMEOUTS)
    has_text = ~np.isnan(seen.first_text)
    served: Flags = seen.was_sent & (has_text | waited | seen.ok)
    return served


def fit_cap(seen: Observations, refused: Flags, most_wrong: float = _WRONG_ADMISSIONS) -> CapFit:
    """Return the cap. `refused`: the 429s that it may explain.

    `most_wrong`: the share of admissions, of the requests that came at it, that may contradict it.
    """
    served = is_served(seen)
    nothing = np.zeros(len(seen), np.bool_)
    if not served.any():
        return CapFit(None, 0, 0, 0, nothing)
    sent, until = seen.sent[served], seen.served_until[served]
    before = active_before(sent, until)
    most = int(before.max()) + 1
    if refused.sum() < _LEAST:
        return CapFit(None, most, 0, 0, nothing)
    late = late_ends(seen, served)
    met = active_at(seen.sent[refused], sent, until)
    cap, wrong = _threshold(met, before, active_before(sent, until - late), most_wrong)
    if cap is None:
        return CapFit(None, most, 0, 0, nothing)
    explains = nothing.copy()
    explains[np.flatnonzero(refused)[met >= (cap - 1 if wrong else cap)]] = True
    return CapFit(cap, most, int(explains.sum()), wrong, explains)


def late_ends(seen: Observations, served: Flags) -> Floats:
    """Return by how many seconds a client may see the ends of the served requests late.

    A client that was busy saw them as late as it ran its timers.
    """
    usual = float(np.median(seen.served_until[served] - seen.sent[served]))
    late: Floats = np.clip(seen.client_lag[served], _LATE_ENDS * usual, _MOST_LATE * usual)
    return late


def _threshold(
    met: Integers, before: Integers, at_least: Integers, most_wrong: float
) -> tuple[int | None, int]:
    """Return the cap, if there is one, and how many admissions contradict it.

    `met`: in service at each refusal. `before`: in service when each admitted request came;
    `at_least`: the same if those that left just after had left already.
    """
    caps = np.arange(1, int(max(met.max(), before.max())) + 2)
    below = np.searchsorted(np.sort(met), caps, "left")
    reached = len(met) - below
    # The cap may explain only a part of the refusals: rates may explain the others. So what counts
    # is how sharp the threshold is among the requests that came when it was reached.
    against = len(at_least) - np.searchsorted(np.sort(at_least), caps, "left")
    admitted = np.searchsorted(np.sort(before), caps, "left")  # below each cap
    at_cap = len(before) - admitted
    # A busy client sees refusals by chance so, too: then they are as frequent below the cap.
    is_sharp = (at_cap <= most_wrong * (at_cap + reached)) | (
        reached * admitted >= _ODDS * at_cap * below
    )
    wrong = against / np.maximum(against + reached, 1)
    fits = is_sharp & (wrong <= most_wrong) & (reached >= max(_LEAST, _CLOSE * len(met)))
    if not fits.any():
        return None, 0
    cost = at_cap + below
    place = int(np.flatnonzero(fits)[np.argmin(cost[fits])])
    return int(caps[place]), int(against[place])
