"""What is known of each setting: the forecast of a twin, corrected by what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.decision import Contender
from harness.tune.expected import (
    Forecast,
    SettingDifference,
    forecast_difference,
    independent,
    trial_difference_variance,
)
from harness.twin.prediction_error import freedom_of, half_width

_PRIOR_WORKFLOWS = (2.0, 40.0)
"""As how many workflows the forecast of a success rate counts, at least and at most."""
_FREE_OF_FAILURES = 20.0
"""As how many workflows it counts where the twin never loses one: it knows only the failures that
the run has met."""
_UNKNOWN_VARIANCE = 0.04
"""The variance of the logarithm of a single measured value without a forecast: 20 %."""
_LEAST_VARIANCE = 1e-8
_TWIN_FREEDOM = 4.0
"""The degrees of freedom of the variance of a trial at a twin, which few trials there show."""


@dataclass(frozen=True)
class Belief:
    """The logarithm of the objective of a setting and its success rate.

    `mean` and `variance`: of the logarithm, with its degrees of `freedom` (None: many). `good` and
    `lost`: the parameters of a beta distribution of the success rate. `trials`: in which it was
    measured.
    """

    cell: str
    mean: float
    variance: float
    freedom: float | None
    good: float
    lost: float
    trials: int

    @property
    def success(self) -> float:
        """The expected success rate."""
        return self.good / (self.good + self.lost)

    def success_at(self, share: float) -> float:
        """Return the success rate that the true one is below with this probability."""
        from scipy.special import betaincinv  # slow import

        return float(betaincinv(self.good, self.lost, share))

    def chance_of(self, asked: float) -> float:
        """Return the probability that the success rate is at least `asked`."""
        from scipy.special import betainc  # slow import

        return 1.0 - float(betainc(self.good, self.lost, asked))


@dataclass(frozen=True)
class Knowledge:
    """All that a tune knows: the forecasts of a twin, and the measured values, by setting."""

    forecasts: Mapping[str, Forecast]
    measured: Mapping[str, Contender]

    def beliefs(self) -> dict[str, Belief]:
        """Return what is known of each setting."""
        return beliefs(self.forecasts, self.measured)

    def difference(self, one: Belief, other: Belief) -> SettingDifference:
        """Return by how much the objective of one setting is above that of another.

        Of the two ways to know it, the one with the smaller error counts: the two values, or the
        forecast of the difference, corrected by the blocks in which both were measured.
        """
        apart = belief_difference(one, other)
        known = self.forecasts.get(one.cell), self.forecasts.get(other.cell)
        if known[0] is None or known[1] is None:
            return apart
        values = [self._values(each.cell) for each in (one, other)]
        common = [values[0][at] - values[1][at] for at in values[0] if at in values[1]]
        prior = forecast_difference(known[0], known[1])
        paired = _corrected(prior, trial_difference_variance(known[0], known[1]), common)
        return min(apart, paired, key=lambda each: half_width(each.variance, each.freedom))

    def _values(self, cell: str) -> dict[int, float]:
        contender = self.measured.get(cell)
        values = contender.objective if contender is not None else {}
        return {at: math.log(value) for at, value in values.items()}


def belief_difference(one: Belief, other: Belief) -> SettingDifference:
    """Return the difference of two settings whose errors are independent."""
    return independent(
        SettingDifference(one.mean, one.variance, one.freedom),
        SettingDifference(other.mean, other.variance, other.freedom),
    )


def _corrected(
    prior: SettingDifference, chance: float, measured: Sequence[float]
) -> SettingDifference:
    """Return a forecast of a difference, corrected by its values in some blocks.

    `chance`: the variance of one such value at the twin. The provider may vary more.
    """
    if not measured:
        return prior
    count, mean = len(measured), float(np.mean(measured))
    freedom = _TWIN_FREEDOM + count - 1
    squares = float(((np.array(measured) - mean) ** 2).sum())
    error = max((_TWIN_FREEDOM * chance + squares) / freedom, _LEAST_VARIANCE) / count
    weight = prior.variance / (prior.variance + error)
    variance = weight * error
    parts = [(weight * variance, freedom)]
    if prior.freedom is not None:
        parts.append(((1 - weight) * variance, prior.freedom))
    return SettingDifference(
        prior.mean + weight * (mean - prior.mean), variance, freedom_of(variance, parts)
    )


def beliefs(
    forecasts: Mapping[str, Forecast], measured: Mapping[str, Contender]
) -> dict[str, Belief]:
    """Return what is known of each setting that has a forecast or was measured."""
    found = {}
    for name in dict.fromkeys([*forecasts, *measured]):
        forecast, contender = forecasts.get(name), measured.get(name)
        value = _value(forecast, contender)
        if value is None:
            continue
        mean, variance, freedom = value
        good, lost = _success(forecast, contender)
        trials = len(contender.tried) if contender is not None else 0
        found[name] = Belief(name, mean, variance, freedom, good, lost, trials)
    return found


def _value(
    forecast: Forecast | None, contender: Contender | None
) -> tuple[float, float, float | None] | None:
    """Return mean, variance and degrees of freedom of the logarithm of the objective.

    What was measured is compared with the forecast of the same repeats, as their work differs.
    """
    values = contender.objective if contender is not None else {}
    if forecast is None:
        if not values:
            return None
        logs = np.log(list(values.values()))
        return float(logs.mean()), _UNKNOWN_VARIANCE / len(logs), None
    common = [repeat for repeat in values if repeat in forecast.work]
    if not common:
        return forecast.mean, forecast.variance, forecast.freedom
    measured = float(np.mean([math.log(values[at]) - forecast.work[at] for at in common]))
    chance = max(forecast.trial_variance, _LEAST_VARIANCE) / len(common)
    weight = forecast.variance / (forecast.variance + chance)
    return forecast.mean + weight * (measured - forecast.mean), weight * chance, forecast.freedom


def _success(forecast: Forecast | None, contender: Contender | None) -> tuple[float, float]:
    """Return the parameters of the beta distribution of the success rate."""
    good, tried = 0, 0
    if contender is not None:
        good, tried = sum(contender.good.values()), sum(contender.tried.values())
    if forecast is None:
        return 0.5 + good, 0.5 + tried - good
    share = min(max(forecast.success, 0.0), 1.0)
    spread = share * (1 - share)
    low, high = _PRIOR_WORKFLOWS
    if spread <= 0:
        count = _FREE_OF_FAILURES
    elif forecast.success_variance <= 0:
        count = high
    else:
        count = min(max(spread / forecast.success_variance - 1, low), high)
    return share * count + 0.1 + good, (1 - share) * count + 0.1 + tried - good
