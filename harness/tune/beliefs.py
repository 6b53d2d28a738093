"""What is known of each setting: the forecast of a twin, corrected by what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.analysis.decision import Contender
from harness.tune.forecasts import Forecast

_PRIOR_WORKFLOWS = (2.0, 40.0)
"""As how many workflows the forecast of a success rate counts, at least and at most."""
_FREE_OF_FAILURES = 20.0
"""As how many workflows it counts where the twin never loses one: it knows only the failures that
the run has met."""
_UNKNOWN_VARIANCE = 0.04
"""The variance of the logarithm of a single measured value without a forecast: 20 %."""


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
    chance = max(forecast.trial_variance, 1e-8) / len(common)
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
