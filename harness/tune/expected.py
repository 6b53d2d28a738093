"""What a twin expects of one setting, and of the difference of two. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.twin.bootstrap_fits import Shifts, error_of_shifts
from harness.twin.prediction import LeftOutSetting
from harness.twin.prediction_error import freedom_of

_USUAL_ERROR = 1e-4
"""The variance of the error of a twin at a quarter more permits: 1 % (docs/twin.md)."""
_USUAL_DISTANCE = math.log(1.25)
_USUAL_SETTINGS = 4.0
_FIT_FREEDOM = 5.0
"""The degrees of freedom of the error of a fit, which is known from few refitted twins."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is expected of a setting.

    `mean`: the logarithm of the objective, with its `variance`, for the work of some repeats.
    `freedom`: the degrees of freedom of the variance (None: many). `work`: by repeat of the run,
    the logarithm of the ratio of its work to theirs. `trial_variance`: of one trial. `success`: the
    expected success rate, and `success_variance`.

    `plays`: by trial at the twin, the logarithm of the objective; trials whose numbers differ by a
    multiple of `kinds` have the same work. `shifts`: how far refitted twins move it. `model`: the
    variance of the error of the model, and its degrees of freedom. `excess`: by which a trial
    varies more than at the twin. `shares_draws`: whether the trials of a block have the same draws.
    `requests`: of one trial.
    """

    cell: str
    mean: float
    variance: float
    freedom: float | None
    work: Mapping[int, float]
    trial_variance: float
    success: float
    success_variance: float
    plays: Mapping[int, float]
    kinds: int
    shifts: Shifts
    model: tuple[float, float]
    excess: float
    shares_draws: bool
    requests: float = 1.0


@dataclass(frozen=True)
class Forecasts:
    """What a twin expects of each setting, by its id.

    `recovery_s`: simulated seconds in which the provider's limit a minute recovers; 0 without one.
    """

    of: Mapping[str, Forecast] = field(default_factory=dict)
    recovery_s: float = 0.0


@dataclass(frozen=True)
class SettingDifference:
    """By how much the logarithm of the objective of one setting is above that of another.

    `mean`, its `variance` and degrees of `freedom` (None: many).
    """

    mean: float
    variance: float
    freedom: float | None


def model_error(
    errors: Sequence[LeftOutSetting], far: float, *, is_beyond: bool
) -> tuple[float, float]:
    """Return the variance of the error of the model, and its degrees of freedom.

    As `harness.twin.prediction_error.model_variance`, but the settings of a tune have few trials.
    So a setting whose error can be chance counts less, and what twins of simulated providers err by
    counts as four settings.
    """
    usual = [_USUAL_ERROR * (one.distance / _USUAL_DISTANCE) ** 2 for one in errors]
    weights = [(each / (each + one.noise)) ** 2 for each, one in zip(usual, errors, strict=True)]
    slopes = sum(
        weight * (one.error**2 - (0.0 if is_beyond else one.noise))
        / one.distance**2
        for weight, one in zip(weights, errors, strict=True)
    )  # fmt: skip
    known = sum(weights)
    slope = (max(0.0, slopes) + _USUAL_SETTINGS * _USUAL_ERROR / _USUAL_DISTANCE**2) / (
        known + _USUAL_SETTINGS
    )
    return slope * far**2, known + _USUAL_SETTINGS


def forecast_difference(one: Forecast, other: Forecast) -> SettingDifference:
    """Return what is expected of the difference of two settings.

    They are played with the same draws, and refitted twins move both, so most of the errors that
    they share are not in it.
    """
    common = [at for at in one.plays if at in other.plays]
    if not common or not one.shifts or not other.shifts:
        return independent(
            SettingDifference(one.mean, one.variance, one.freedom),
            SettingDifference(other.mean, other.variance, other.freedom),
        )
    apart = {at: one.plays[at] - other.plays[at] for at in common}
    shifts = [
        shift.less(other.shifts[number])
        for number, shift in one.shifts.items()
        if number in other.shifts
    ]
    fit = error_of_shifts(shifts)
    estimated = ((fit.variance, _FIT_FREEDOM), one.model, other.model)
    chance = _variance_of_trial(apart, one.kinds) / len(apart)
    total = chance + sum(part for part, _ in estimated)
    mean = float(np.mean(list(apart.values()))) - fit.bias
    return SettingDifference(mean, total, freedom_of(total, estimated))


def trial_difference_variance(one: Forecast, other: Forecast) -> float:
    """Return the variance of the difference of two trials of a block."""
    common = {at: one.plays[at] - other.plays[at] for at in one.plays if at in other.plays}
    if one.shares_draws and len(common) > one.kinds:
        return _variance_of_trial(common, one.kinds) + one.excess + other.excess
    return one.trial_variance + other.trial_variance


def independent(one: SettingDifference, other: SettingDifference) -> SettingDifference:
    """Return the difference of two values whose errors are independent."""
    known = [each.freedom for each in (one, other) if each.freedom is not None]
    return SettingDifference(
        one.mean - other.mean, one.variance + other.variance, min(known, default=None)
    )


def _variance_of_trial(values: Mapping[int, float], kinds: int) -> float:
    """Return the variance of values around the mean of those with the same work."""
    groups: dict[int, list[float]] = {}
    for at, value in values.items():
        groups.setdefault(at % kinds, []).append(value)
    known = [float(np.var(each, ddof=1)) for each in groups.values() if len(each) > 1]
    return float(np.mean(known)) if known else 0.0
