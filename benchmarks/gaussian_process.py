"""A Gaussian process over cells: a rival of tunes in `benchmarks.tuning_rivals`.

The logarithm of the objective and the logit of the success rate have a process each. Its covariance
is Matern 5/2 over the logarithm of the permits, times a correlation between different policies. The
trials of one block share a part, as their draws are the same. The mean is constant and unknown; the
other parameters maximise the marginal likelihood. The next trial is that of the cell with the
highest expected improvement, times the probability that it meets the SLO.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize, special

from benchmarks.tuning_runs import ASKED

Values = NDArray[np.float64]

_BOUNDS = {
    "amplitude": (0.03, 4.0), "length": (0.3, 10.0), "apart": (0.01, 0.9), "block": (0.001, 0.5),
    "noise": (0.003, 0.5),
}  # fmt: skip
"""Of the standard deviations, of the length in doublings of the permits, and of how far the
correlation between policies is below 1."""
_NO_GAIN = 0.001
"""An expected improvement that is worth no trial: a twentieth of the margin."""
_SURE = 0.975
_STARTS = (
    {"amplitude": 0.5, "length": 2.0, "apart": 0.1, "block": 0.02, "noise": 0.02},
    {"amplitude": 0.3, "length": 0.8, "apart": 0.4, "block": 0.05, "noise": 0.05},
)


class Measured(NamedTuple):
    """A trial: the number of its cell, its block, its values, its requests and failed requests."""

    cell: int
    repeat: int
    makespan: float
    good: float
    tried: float
    requests: float
    failed: float


class Observations(NamedTuple):
    """Observations `values` at the points `where`; `known`: the variances of their errors."""

    where: Values
    repeats: Values
    values: Values
    known: Values


class _Solved(NamedTuple):
    factor: Values
    ones: Values
    rest: Values
    mean: float
    loss: float


class _Expected(NamedTuple):
    """What is expected of all cells.

    `mean` and `covariance`: of the logarithms of the objective. `chance`: that a cell meets the
    SLO. `guess`: the best measured cell of those that likely do, else the one that likeliest does.
    """

    mean: Values
    covariance: Values
    chance: Values
    guess: int


def next_trial(where: Values, seen: Sequence[Measured]) -> int:
    """Return the cell with the highest constrained expected improvement over the best guess.

    `where`: shape cells, 2: the logarithm of the permits to base 2, and the number of the policy.
    It is the best guess itself, if nothing else is expected to improve on it, until it is sure to
    meet the SLO. While no measured cell is likely to meet it, it is the cell that likeliest does. A
    cell without a failure stands for those with other policies and the same permits.
    """
    mean, covariance, chance, guess = _expected(where, seen)
    same = copies(where, seen)
    if chance[guess] < 0.5:
        return int(np.argmax(np.where(same, 0.0, chance)))
    each = np.diag(covariance)
    spread = np.sqrt(np.maximum(each + each[guess] - 2 * covariance[guess], 1e-12))
    gain = mean[guess] - mean
    at = gain / spread
    density = np.exp(-at * at / 2) / math.sqrt(2 * math.pi)
    improvement = chance * (gain * special.ndtr(at) + spread * density)
    improvement[guess] = _NO_GAIN if chance[guess] < _SURE else 0.0
    improvement[same] = 0.0
    return int(np.argmax(improvement))


def copies(where: Values, seen: Sequence[Measured]) -> NDArray[np.bool_]:
    """Return which cells another one stands for: the first measured one with these permits."""
    troubled = {one.cell for one in seen if one.failed}
    same = np.zeros(len(where), bool)
    for cell in dict.fromkeys(one.cell for one in seen):
        if cell not in troubled and not same[cell]:
            same |= where[:, 0] == where[cell, 0]
            same[cell] = False
    return same


def best_guess(where: Values, seen: Sequence[Measured]) -> int:
    """Return the measured cell with the best expected objective of those that likely are able."""
    return _expected(where, seen).guess


def _expected(where: Values, seen: Sequence[Measured]) -> _Expected:
    points = where[[one.cell for one in seen]]
    repeats = np.array([one.repeat for one in seen], float)
    logs = np.log([max(one.makespan, 1e-9) for one in seen])
    trials = Observations(points, repeats, logs, np.zeros(len(seen)))
    mean, covariance = posterior(trials, where)
    share, error = posterior(_successes(where, seen), where, own_noise=False)
    chance = special.ndtr((share - special.logit(ASKED)) / np.sqrt(np.diag(error)))
    measured = sorted({one.cell for one in seen})
    able = [at for at in measured if chance[at] >= 0.5]
    guess = min(able, key=lambda at: float(mean[at])) if able else None
    if guess is None:
        guess = max(measured, key=lambda at: float(chance[at]))
    return _Expected(mean, covariance, chance, guess)


def _successes(where: Values, seen: Sequence[Measured]) -> Observations:
    """Return the logit of each cell's success rate, from all of its trials together.

    Logits of single trials would be biased: those with more failures have the smaller variance.
    """
    good, lost = (dict.fromkeys([one.cell for one in seen], 0.5) for _ in range(2))
    for one in seen:
        good[one.cell] += one.good
        lost[one.cell] += one.tried - one.good
    successes, losses = np.array(list(good.values())), np.array(list(lost.values()))
    cells = np.arange(len(good), dtype=float)  # none shares a block with another one
    variances = 1 / successes + 1 / losses
    return Observations(where[list(good)], cells, np.log(successes / losses), variances)


def posterior(
    data: Observations, where: Values, *, own_noise: bool = True
) -> tuple[Values, Values]:
    """Return the mean and the covariance of the process at some points.

    `own_noise`: whether the errors of the observations have more than their known variances.
    """
    limits = _BOUNDS if own_noise else _BOUNDS | dict.fromkeys(("block", "noise"), (1e-3, 1e-3))
    bounds = [(math.log(low), math.log(high)) for low, high in limits.values()]
    found = [
        optimize.minimize(
            loss_and_slopes,
            np.log([start[name] for name in _BOUNDS]),
            args=(data,),
            jac=True,
            method="TNC",  # its solver starts no threads, which cost more than such small problems
            bounds=bounds,
            options={"maxfun": 100},
        )
        for start in _STARTS
    ]
    best = np.exp(min(found, key=lambda one: float(one.fun)).x)
    solved = _solved(best, data)
    across = _covariance(best, where, data.where)
    inverse = linalg.cho_solve((solved.factor, True), across.T)
    mean = solved.mean + across @ solved.rest
    unknown = 1 - across @ solved.ones
    covariance = _covariance(best, where, where) - across @ inverse
    return mean, covariance + np.outer(unknown, unknown) / solved.ones.sum()


def _covariance(point: Values, one: Values, other: Values) -> Values:
    amplitude, length, apart = point[:3]
    far = _far(length, one, other)
    alike = np.where(_same_policy(one, other), 1.0, 1 - apart)
    found: Values = amplitude**2 * (1 + far + far * far / 3) * np.exp(-far) * alike
    return found


def _far(length: float, one: Values, other: Values) -> Values:
    found: Values = math.sqrt(5) * np.abs(one[:, None, 0] - other[None, :, 0]) / length
    return found


def _same_policy(one: Values, other: Values) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = one[:, None, 1] == other[None, :, 1]
    return found


def _solved(point: Values, data: Observations) -> _Solved:
    """Return the process given its parameters; `loss`: minus the log marginal likelihood."""
    block, noise = point[3:]
    total = _covariance(point, data.where, data.where)
    total += block**2 * _same_block(data)
    total[np.diag_indices(len(total))] += noise**2 + data.known + 1e-9
    factor = linalg.cholesky(total, lower=True, check_finite=False)
    ones = linalg.cho_solve((factor, True), np.ones(len(total)), check_finite=False)
    mean = float(ones @ data.values / ones.sum())
    rest = linalg.cho_solve((factor, True), data.values - mean, check_finite=False)
    loss = float((data.values - mean) @ rest) / 2 + float(np.log(np.diag(factor)).sum())
    return _Solved(factor, ones, rest, mean, loss)


def _same_block(data: Observations) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = data.repeats[:, None] == data.repeats[None, :]
    return found


def loss_and_slopes(logs: Values, data: Observations) -> tuple[float, Values]:
    """Return the loss and its slopes over the logarithms of the parameters."""
    point = np.exp(logs)
    amplitude, length, apart, block, noise = point
    solved, where = _solved(point, data), data.where
    far, count = _far(length, where, where), len(where)
    smooth, decay = _covariance(point, where, where), amplitude**2 * np.exp(-far)
    differ = ~_same_policy(where, where)
    changes = (
        2 * smooth,
        decay * far * far * (1 + far) / 3 * np.where(differ, 1 - apart, 1.0),
        -apart * decay * (1 + far + far * far / 3) * differ,
        2 * block**2 * _same_block(data),
        2 * noise**2 * np.eye(count),
    )
    inverse = linalg.cho_solve((solved.factor, True), np.eye(count), check_finite=False)
    weights = (inverse - np.outer(solved.rest, solved.rest)) / 2
    return solved.loss, np.array([float((weights * each).sum()) for each in changes])
