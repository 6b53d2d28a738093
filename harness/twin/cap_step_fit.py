"""Fits a limit of concurrent requests that changes once, at the same time of each trial.

Before a moment one threshold separates refused from admitted requests, and another one after it.
The moment and the two thresholds that contradict the fewest requests are taken, if one threshold
for the whole time contradicts many more, and if several trials show the change by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.twin.cap_fit import CapFit, is_served, late_ends
from harness.twin.in_flight import active_at, active_before
from harness.twin.observations import Flags, Floats, Integers, Observations

_LEAST_WRONG = 10
_WRONG = 0.05
"""One cap is enough if it contradicts fewer requests than this share of the refusals, or of the
admissions if they are fewer.
"""

_CLEARLY = 0.25
"""The contradictions that a step may leave, as a share of those of one cap."""
_MISSED = 0.1
_LEAST_SHOWN = 3
_LEAST_TRIALS = 2
_WEIGHT = 20
"""How many admissions while others end weigh as much as one that contradicts a cap."""
_NEAR = 0.01
_ROUND = (60.0, 30.0, 10.0, 5.0, 1.0)


@dataclass(frozen=True)
class CapStepFit:
    """The cap is `before`, and `after` from `at` on, in seconds since a trial's first request.

    None for a cap that was not met, with up to `most_before` or `most_after` in service. The change
    was later than `earliest` and not later than `latest`. `trials`: those that show it.
    """

    before: int | None
    after: int | None
    at: float
    earliest: float
    latest: float
    most_before: int
    most_after: int
    trials: int
    against: int
    explains: Flags

    @property
    def refused(self) -> int:
        """The refusals that the two caps explain."""
        return int(self.explains.sum())


@dataclass(frozen=True)
class CapStepSearch:
    """The step; None if there is none. `hints`: trials with a step when no common one is found.

    `hinted`: the requests that contradict the caps if each of these trials has its own step.
    """

    step: CapStepFit | None
    hints: int = 0
    hinted: int = 0


@dataclass(frozen=True)
class _Arrivals:
    """The requests that were refused or served, by the time since the first one of their trial.

    `active`: in service when each came; `at_least`: the same if those that left just after had left
    already, for admissions. `row`: of the attempt.
    """

    elapsed: Floats
    active: Integers
    at_least: Integers
    refused: Flags
    trial: Integers
    row: Integers

    def take(self, which: Flags | Integers) -> _Arrivals:
        """Return some of them."""
        return _Arrivals(
            self.elapsed[which], self.active[which], self.at_least[which], self.refused[which],
            self.trial[which], self.row[which],
        )  # fmt: skip

    def contradicting(self, caps: Integers | int) -> Flags:
        """Return which requests contradict a cap, or one for each."""
        wrong: Flags = np.where(self.refused, self.active < caps, self.at_least >= caps)
        return wrong


@dataclass(frozen=True)
class _Split:
    """The first `place` requests met the cap `before`, the others `after`.

    Any place from `low` to `high` contradicts as few.
    """

    place: int
    low: int
    high: int
    before: int
    after: int

    def caps(self, count: int) -> Integers:
        """Return the cap for each of the requests."""
        return np.where(np.arange(count) < self.place, self.before, self.after)


def fit_cap_step(seen: Observations, refused: Flags, cap: CapFit) -> CapStepSearch:
    """Return the step of the cap. `refused`: the 429s that it may explain; `cap`: the one cap."""
    if refused.sum() < _LEAST_WRONG:
        return CapStepSearch(None)
    arrivals = _arrivals(seen, refused)
    constant = _left_by(arrivals, cap)
    if not constant:
        return CapStepSearch(None)
    split = _best_split(arrivals)
    wrong = arrivals.contradicting(split.caps(len(arrivals.row)))
    shown = _trials_that_show(arrivals, split)
    if wrong.sum() <= _CLEARLY * constant and shown >= _LEAST_TRIALS:
        return CapStepSearch(_step(arrivals, split, wrong, shown, len(seen)))
    return CapStepSearch(None, *_hints(arrivals, cap))


def _arrivals(seen: Observations, refused: Flags) -> _Arrivals:
    served = is_served(seen)
    sent, until = seen.sent[served], seen.served_until[served]
    late = late_ends(seen, served)
    active, at_least = np.zeros(len(seen), np.int64), np.zeros(len(seen), np.int64)
    active[served] = active_before(sent, until)
    at_least[served] = active_before(sent, until - late)
    active[refused] = active_at(seen.sent[refused], sent, until)
    began = np.full(int(seen.trial.max()) + 1, np.inf)
    np.minimum.at(began, seen.trial, seen.sent)
    elapsed = seen.sent - began[seen.trial]
    row = np.flatnonzero(served | refused)
    row = row[np.argsort(elapsed[row], kind="stable")]
    return _Arrivals(elapsed[row], active[row], at_least[row], refused[row], seen.trial[row], row)


def _contradicting(arrivals: _Arrivals, cap: CapFit) -> int:
    """Return how many requests contradict one cap."""
    if cap.cap is None:
        return int(arrivals.refused.sum())
    return int(arrivals.contradicting(cap.cap).sum())


def _left_by(arrivals: _Arrivals, cap: CapFit) -> int:
    """Return how many requests contradict one cap; 0 if they are so few that it is enough."""
    refusals, wrong = int(arrivals.refused.sum()), _contradicting(arrivals, cap)
    # Retries can make refusals many times as many as admissions, or the other way round.
    fewer = min(refusals, len(arrivals.row) - refusals)
    return wrong if wrong >= max(_LEAST_WRONG, _WRONG * fewer) else 0


def _best_split(arrivals: _Arrivals) -> _Split:
    """Return the split with the fewest contradictions. A cap above all numbers is none."""
    count, most = len(arrivals.row), int(arrivals.active.max()) + 1
    least_before = np.full(count + 1, np.iinfo(np.int64).max // 2)
    least_after = least_before.copy()
    cap_before, cap_after = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for cap in range(1, most + 1):
        # Admissions while others end contradict hardly, but decide between caps that are as good.
        at_end = ~arrivals.refused & (arrivals.active >= cap)
        wrong = _WEIGHT * arrivals.contradicting(cap) + at_end
        before = np.concatenate([[0], np.cumsum(wrong)])
        after = before[-1] - before
        better = before < least_before
        least_before[better], cap_before[better] = before[better], cap
        better = after < least_after
        least_after[better], cap_after[better] = after[better], cap
    total = least_before + least_after
    best = np.flatnonzero(total == total.min())
    low = high = int(best[len(best) // 2])
    while low > 0 and total[low - 1] == total[low]:
        low -= 1
    while high < count and total[high + 1] == total[high]:
        high += 1
    place = (low + high) // 2
    return _Split(place, low, high, int(cap_before[place]), int(cap_after[place]))


def _trials_that_show(arrivals: _Arrivals, split: _Split) -> int:
    """Return how many trials have requests by which each cap differs from the other, in its time.

    Requests in service between the two caps tell them apart: refused under the lower one, admitted
    under the higher one.
    """
    low, high = sorted((split.before, split.after))
    is_low = arrivals.refused & (arrivals.active >= low) & (arrivals.active < high)
    is_high = ~arrivals.refused & (arrivals.at_least >= low) & (arrivals.at_least < high)
    is_early = np.arange(len(arrivals.row)) < split.place
    should_be_low = is_early if split.before < split.after else ~is_early
    shown = 0
    for trial in np.unique(arrivals.trial).tolist():
        own = arrivals.trial == trial
        right_low = int((own & is_low & should_be_low).sum())
        right_high = int((own & is_high & ~should_be_low).sum())
        told = int((own & (is_low | is_high)).sum())
        agrees = told - right_low - right_high <= _MISSED * told
        shown += agrees and min(right_low, right_high) >= _LEAST_SHOWN
    return shown


def _hints(arrivals: _Arrivals, cap: CapFit) -> tuple[int, int]:
    """Return how many trials show a step, each at a time of its own, and what contradicts them."""
    hints = total = 0
    for trial in np.unique(arrivals.trial[arrivals.refused]).tolist():
        own = arrivals.take(arrivals.trial == trial)
        left = _contradicting(own, cap)
        if _left_by(own, cap):
            split = _best_split(own)
            wrong = int(own.contradicting(split.caps(len(own.row))).sum())
            if wrong <= _CLEARLY * left and _trials_that_show(own, split) == 1:
                hints, left = hints + 1, wrong
        total += left
    return hints, total


def _step(
    arrivals: _Arrivals, split: _Split, wrong: Flags, shown: int, attempts: int
) -> CapStepFit:
    is_early = np.arange(len(arrivals.row)) < split.place
    met = arrivals.refused & ~wrong
    explains = np.zeros(attempts, np.bool_)
    explains[arrivals.row[met]] = True
    earliest = float(arrivals.elapsed[split.low - 1]) if split.low else 0.0
    latest = float(arrivals.elapsed[min(split.high, len(arrivals.row) - 1)])
    before, after = (
        cap if (met & part).any() else None
        for cap, part in ((split.before, is_early), (split.after, ~is_early))
    )
    most_before, most_after = (
        int(arrivals.active[part & ~arrivals.refused].max(initial=-1)) + 1
        for part in (is_early, ~is_early)
    )
    return CapStepFit(
        before, after, _moment(earliest, latest), earliest, latest, most_before, most_after,
        shown, int((wrong & ~arrivals.refused).sum()), explains,
    )  # fmt: skip


def _moment(earliest: float, latest: float) -> float:
    """Return a time about between the two: the roundest, as such times are, or else the middle."""
    middle = (earliest + latest) / 2
    late = _NEAR * middle  # a client sees what happens late
    for step in _ROUND:
        moment = step * round(middle / step)
        if earliest - late < moment <= latest + late:
            return moment
    return middle
