"""Fits the limits of requests and of tokens per minute, from the refusals that no cap explains.

A limit is a token bucket, full at the first request of a trial. A bucket and its rate predict, for
every request, whether it was admitted. Refusals below the rate and admissions above it contradict
it; the rate with the fewest contradictions is taken, of every kind of bucket. Where refusals say
when the limit has room, that decides between kinds that predict the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np

from harness.twin.cap_fit import is_refusal, is_served
from harness.twin.observations import Flags, Floats, Integers, Observations

BURSTS = (60.0, 45.0, 30.0, 20.0, 15.0, 10.0, 5.0, 3.0, 2.0, 1.0)
_LEAST = 5
_MOST_EVENTS = 8_000
_WRONG = 0.2
"""The share of refusals and of admissions near them that may contradict a limit."""

_WRONG_ADMISSIONS = 0.01
_HALVINGS = 24
_LATE = 0.05
"""Seconds by which the provider may see a request earlier or later than its record has it."""
_NEAR = 0.25
"""How many more contradictions are accepted, as a share, for waits that agree better."""

_LATER = 0.002
"""How much better, as a share of the refusals, each kind has to be than the one before it."""

RateKind = Literal["requests", "rejected_count", "used", "reserved"]


@dataclass(frozen=True)
class RateFit:
    """`amount` a minute of `kind`; `burst`: seconds.

    A round number, of two digits, is preferred within 0.5 % of the best one, as limits are round.
    `refused`: the refusals it explains of `of`. `admitted_against`: the requests that were admitted
    although it refuses them.
    """

    kind: RateKind
    amount: float
    burst: float
    refused: int
    of: int
    admitted_against: int
    wait_error: float | None

    def contradicts(self, count: int) -> float:
        """Return how many requests contradict it, if it is the limit of `count` refusals.

        They are estimated from the refusals that it was fitted to.
        """
        return (self.of - self.refused + self.admitted_against) * count / self.of


@dataclass(frozen=True)
class RetryAfterFit:
    """What refusals by limits say: seconds, "exact", or None for nothing."""

    value: float | Literal["exact"] | None
    count: int
    of: int


def fit_retry_after(seen: Observations, refused: Flags) -> RetryAfterFit:
    """Return what refusals say of the time to wait."""
    said = seen.retry_after[refused]
    known = said[said > 0]
    if not len(known) or len(known) < 0.05 * len(said):
        return RetryAfterFit(None, len(known), len(said))
    middle = float(np.median(known))
    if float(np.mean(np.abs(known - middle) <= 0.02 * middle)) > 0.9:
        return RetryAfterFit(middle, len(known), len(said))
    return RetryAfterFit("exact", len(known), len(said))


@dataclass(frozen=True)
class _Requests:
    """Requests of trials, in order of time.

    `takes`: what each takes when it is admitted, at `at`; charges at the end of a request are
    requests of their own that are always admitted (`is_request` false).
    """

    trial: Integers
    at: Floats
    takes: Floats
    refused: Flags
    is_request: Flags
    said: Floats

    @cached_property
    def begins(self) -> list[int]:
        """Where each trial begins."""
        return np.flatnonzero(np.diff(self.trial, prepend=-1)).tolist()

    @cached_property
    def elapsed(self) -> Floats:
        """Seconds since the request before."""
        return np.diff(self.at, prepend=self.at[0])

    @cached_property
    def taken_before(self) -> Floats:
        """What the request before each one took: nothing if it was refused."""
        return np.concatenate([[0.0], np.where(self.refused, 0.0, self.takes)[:-1]])

    @cached_property
    def need(self) -> Floats:
        """What a bucket has to have for each one; -inf for charges."""
        return np.where(self.is_request, self.takes, -np.inf)

    @cached_property
    def admitted(self) -> Flags:
        """Those that were admitted, without charges."""
        return ~self.refused & self.is_request


@dataclass(frozen=True)
class _Score:
    """How a bucket contradicts the requests.

    `level`: what was in it when each came. `said`: the refusals that say how long to wait.
    """

    wrong: float
    refused_wrong: int
    admitted_wrong: int
    level: Floats
    said: Flags

    def wait_error(self, requests: _Requests, amount: float) -> float | None:
        """Return the typical relative error of the waits that refusals told; None for none."""
        if not self.said.any():
            return None
        expected = np.maximum(requests.takes - self.level, 0)[self.said] / (amount / 60)
        told = requests.said[self.said]
        return float(np.median(np.abs(expected - told) / np.maximum(told, 1e-3)))


def fit_rate(seen: Observations, explained: Flags) -> RateFit | None:
    """Return the limit that explains the refusals beyond `explained`; None for none."""
    refused = is_refusal(seen) & ~explained
    if int(refused.sum()) < _LEAST:
        return None
    best: tuple[float, RateFit] | None = None
    kinds: tuple[RateKind, ...] = ("requests", "used", "reserved", "rejected_count")
    for order, kind in enumerate(kinds):
        if kind == "reserved" and not (seen.limit > 0).any():
            continue
        requests = _requests(seen, refused, kind)
        for burst in BURSTS:
            if best is not None and best[0] <= _LATER * order:
                break  # no limit of this kind can be better
            found = _fit_amount(requests, kind, burst, np.inf if best is None else best[0])
            if found is None:
                continue
            fit, score = found
            key = score.wrong + 0.3 * min(fit.wait_error or 0.0, 1.0) + _LATER * order
            if score.wrong <= _WRONG and (best is None or key < best[0]):
                best = key, fit
    if best is None or _is_contradicted(best[1], seen, refused):
        return None
    return best[1]


def _is_contradicted(fit: RateFit, seen: Observations, refused: Flags) -> bool:
    """Return whether more admissions of all trials contradict a limit than refusals it explains.

    It was fitted to the trials with refusals. A few refusals of one trial, whatever their cause,
    have a limit that explains them and that the other trials are far above.
    """
    requests = _requests(seen, refused, fit.kind, of_all_trials=True)
    score = _score(requests, fit.kind, fit.amount, fit.burst, _fill_of(fit.kind))
    return score.admitted_wrong > fit.refused


def _requests(
    seen: Observations, refused: Flags, kind: RateKind, *, of_all_trials: bool = False
) -> _Requests:
    """Return the requests of the trials with refusals, or of all trials."""
    served = is_served(seen)
    rows = np.flatnonzero(served | refused)
    if not of_all_trials:
        rows = rows[np.isin(seen.trial[rows], seen.trial[refused])][:_MOST_EVENTS]
    takes = np.ones(len(rows))
    inputs = np.maximum(seen.input, 0)
    if kind in ("used", "reserved"):
        takes = _input_of_prompts(seen, inputs, served)[rows]
    if kind == "reserved":
        takes += seen.limit[rows]
    one = _Requests(
        seen.trial[rows], seen.sent[rows], takes, refused[rows], np.ones(len(rows), np.bool_),
        np.where(refused[rows], seen.retry_after[rows], np.nan),
    )  # fmt: skip
    if kind != "used":
        return one
    ended = rows[served[rows] & (seen.output[rows] > 0)]
    nothing = np.zeros(len(ended), np.bool_)
    trial = np.concatenate([one.trial, seen.trial[ended]])
    at = np.concatenate([one.at, seen.served_until[ended]])
    order = np.lexsort((np.repeat([1, 0], [len(rows), len(ended)]), at))
    return _Requests(
        trial[order], at[order],
        np.concatenate([one.takes, seen.output[ended].astype(np.float64)])[order],
        np.concatenate([one.refused, nothing])[order],
        np.concatenate([one.is_request, nothing])[order],
        np.concatenate([one.said, np.full(len(ended), np.nan)])[order],
    )  # fmt: skip


def _input_of_prompts(seen: Observations, inputs: Integers, served: Flags) -> Floats:
    """Return the input tokens; where not reported, those of the same question elsewhere."""
    most = np.zeros(int(seen.prompt.max()) + 1, np.int64)
    np.maximum.at(most, seen.prompt, inputs)
    typical = int(np.median(inputs[served])) if served.any() else 0
    known = np.where(inputs > 0, inputs, most[seen.prompt])
    return np.where(known > 0, known, typical).astype(np.float64)


def _fit_amount(
    requests: _Requests, kind: RateKind, burst: float, most_wrong: float
) -> tuple[RateFit, _Score] | None:
    """Return the amount a minute that contradicts the fewest requests.

    None if each one contradicts a larger share of the refusals than `most_wrong`.
    """
    fill = _fill_of(kind)
    total = float(requests.takes[~requests.refused].sum())
    length = max(float(np.ptp(requests.at)) / 60, 1e-3)
    grid = np.geomspace(max(total / length / 20, 1.0), max(total, 2.0) * 60, 24)
    scores: dict[float, _Score] = {}

    def scored(amount: float) -> _Score:
        if amount not in scores:
            scores[amount] = _score(requests, kind, amount, burst, fill)
        return scores[amount]

    def wait_error(amount: float) -> float | None:
        return scored(amount).wait_error(requests, amount)

    # The least amount that admits what was admitted: below it, many admissions contradict at once.
    low, high = np.log(grid[0]), np.log(grid[-1])
    allowed = _WRONG_ADMISSIONS * int(requests.admitted.sum())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_enough = scored(float(np.exp(middle))).admitted_wrong <= allowed
        low, high = (low, middle) if is_enough else (middle, high)
    scored(float(np.exp(high)))
    for _ in range(3):
        place = min(range(len(grid)), key=lambda at: scored(float(grid[at])).wrong)
        grid = np.linspace(grid[max(place - 1, 0)], grid[min(place + 1, len(grid) - 1)], 9)
    least = min(score.wrong for score in scores.values())
    if least > most_wrong:
        return None
    good = sorted(amount for amount, score in scores.items() if score.wrong <= least + 1e-9)
    low, high = good[0], good[-1]
    amount = (low + high) / 2
    if scored(amount).wrong > least:
        amount = min(good, key=lambda one: abs(one - amount))
    if wait_error(amount) is not None:  # what refusals say is sharper
        for width in (0.02, 0.001):
            close = np.linspace(amount * (1 - width), amount * (1 + width), 41).tolist()
            near = [one for one in close if scored(one).wrong <= least + _NEAR]
            amount = min([amount, *near], key=lambda one: wait_error(one) or np.inf)
    round_number = float(f"{amount:.1e}")
    if abs(round_number / amount - 1) < 0.005 or low <= round_number <= high:
        amount = round_number
    score = scored(amount)
    refused = int(requests.refused.sum())
    fit = RateFit(
        kind, amount, burst, refused - score.refused_wrong, refused,
        score.admitted_wrong, wait_error(amount),
    )  # fmt: skip
    return fit, score


_Fill = Callable[[_Requests, float, float], Floats]


def _fill_of(kind: RateKind) -> _Fill:
    return _filled_counting_refusals if kind == "rejected_count" else _filled


def _score(requests: _Requests, kind: RateKind, amount: float, burst: float, fill: _Fill) -> _Score:
    """Return how a bucket contradicts the requests.

    An admission just above the limit, and a refusal just below it, count less: clocks differ.
    """
    rate, capacity = amount / 60, float(max(1, round(amount * burst / 60)))
    level = fill(requests, rate, capacity)
    need, refused = requests.need, requests.refused
    slack = _LATE * rate + 1e-6 * capacity
    is_full = (level >= capacity) & (need <= capacity)
    refused_wrong = refused & ((level - slack >= need) | is_full)
    against = int(np.count_nonzero(requests.admitted & (level + slack < need)))
    below = int(np.count_nonzero(refused_wrong))
    wrong = (below + against) / max(int(np.count_nonzero(refused)), 1)
    return _Score(wrong, below, against, level, refused & (requests.said > 0) & ~refused_wrong)


def _filled(requests: _Requests, rate: float, capacity: float) -> Floats:
    """Return what is in the bucket when each request comes; refused ones take nothing."""
    # What is missing is a queue: it grows by what is taken, shrinks with time, never below 0.
    walk = np.cumsum(requests.taken_before - requests.elapsed * rate)
    level = np.empty(len(walk))
    for begin, end in pairwise([*requests.begins, len(walk)]):
        part = walk[begin:end] - walk[begin]  # each trial begins with a full bucket
        # Before a request, the missing amount was 0 at the earliest when the walk was lowest.
        level[begin:end] = capacity - (part - np.minimum.accumulate(part))
    return level


def _filled_counting_refusals(requests: _Requests, rate: float, capacity: float) -> Floats:
    """Return the same where a refused request takes up to one, too."""
    level, before, trial = capacity, 0.0, -1
    levels: list[float] = []
    append = levels.append
    for its_trial, at in zip(requests.trial.tolist(), requests.at.tolist(), strict=True):
        # This loop is most of the time of a fit, so it calls nothing but `append`.
        if its_trial != trial:
            level, trial = capacity, its_trial
        else:
            level += (at - before) * rate
            if level > capacity:
                level = capacity
        before = at
        append(level)
        if level >= 1:
            level -= 1
        elif level > 0:
            level = 0.0
    return np.array(levels)
