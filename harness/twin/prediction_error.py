"""The errors of predictions: from the fit, by a bootstrap, and from the model, by leaving out.

Errors of a metric are differences of its logarithms, or of the values themselves for a share.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.twin.observations import Floats
from harness.twin.predicted_metrics import PredictedMetric
from harness.twin.prediction import LeftOutSetting

_LEAST = 1e-12
_LEAST_DISTANCE = math.log(1.25)
_EXCESS_BY_CHANCE = 0.05
"""The largest probability of an excess by chance with which it counts."""
_WITHOUT_ERROR = 2.0
"""As how many settings without an error of the model a twin counts before any is left out."""
CONFIDENCE = 0.95


def to_error_scale(metric: PredictedMetric, values: Sequence[float] | Floats) -> Floats:
    """Return the values on the scale on which errors are compared."""
    plain = np.asarray(values, np.float64)
    return plain if metric.is_share else np.log(np.maximum(plain, _LEAST))


def from_error_scale(metric: PredictedMetric, value: float) -> float:
    """Return a value from the scale on which errors are compared."""
    if metric.is_share:
        return min(max(value, 0.0), 1.0)
    return max(math.exp(value), metric.least)


def distance(permits: int, measured: Collection[int]) -> float:
    """Return the logarithm of the ratio of permits to the nearest of those that were measured.

    At least that of a quarter more: also where the same number was measured, a policy or another
    key can differ.
    """
    nearest = min(abs(math.log(permits / other)) for other in measured)
    return max(nearest, _LEAST_DISTANCE)


def model_variance(
    errors: Sequence[LeftOutSetting], far: float, is_beyond: bool
) -> tuple[float, float]:
    """Return the variance of the model's error, and its degrees of freedom.

    The error is taken to be proportional to the distance; `far`: that of the predicted setting. It
    is what the errors have beyond chance; all of them for an extrapolation, whose errors can grow
    faster. Some settings without an error are counted besides: of a single setting that was left
    out, chance alone would make an interval thirteen standard errors long.
    """
    if not errors:
        return 0.0, 0.0
    excess = sum(one.error**2 - (0.0 if is_beyond else one.noise) for one in errors)
    slope = max(0.0, excess) / sum(one.distance**2 for one in errors)
    freedom = len(errors) + _WITHOUT_ERROR
    return slope * far**2 * len(errors) / freedom, freedom


def excess_variance(pairs: Sequence[tuple[Floats, float]]) -> float:
    """Return how much more the trials of a setting vary than the twin says, if chance cannot be it.

    `pairs`: for each setting, predicted minus measured in each repeat, and the variance of one
    trial at the twin. A provider is not equally fast in every trial. A chi-squared test compares
    the two: few trials differ from their variance by chance, and an excess that is taken from such
    a difference makes intervals several times too wide.
    """
    freedom = sum(len(differences) - 1 for differences, _ in pairs)
    if freedom <= 0:
        return 0.0
    from scipy.special import chdtrc  # slow import

    squares = [float(((each - each.mean()) ** 2).sum()) for each, _ in pairs]
    ratios = sum(
        square / max(variance, _LEAST)
        for square, (_, variance) in zip(squares, pairs, strict=True)
        if square > 0
    )
    if float(chdtrc(freedom, ratios)) > _EXCESS_BY_CHANCE:
        return 0.0
    expected = sum((len(each) - 1) * variance for each, variance in pairs)
    return max(0.0, (sum(squares) - expected) / freedom)


def freedom_of(total: float, estimates: Sequence[tuple[float, float]]) -> float | None:
    """Return the degrees of freedom of a sum of variances, None for many.

    `estimates`: those parts of the sum that are estimates, each with its degrees of freedom
    (Satterthwaite). The variance of the model's error comes from few settings.
    """
    uncertain = sum(part**2 / freedom for part, freedom in estimates if part > 0 and freedom > 0)
    return max(total**2 / uncertain, 1.0) if uncertain > 0 else None


def half_width(variance: float, freedom: float | None) -> float:
    """Return the half of the interval around a value with this variance."""
    if variance <= 0:
        return 0.0
    from scipy.special import stdtrit  # slow import

    factor = 1.959964 if freedom is None else float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
    return factor * math.sqrt(variance)


def mean_on_error_scale(metric: PredictedMetric, values: Mapping[int, float]) -> float:
    """Return the mean of a metric over repeats, on the scale of errors; nan for no value."""
    kept = list(values.values())
    return float(to_error_scale(metric, [float(np.mean(kept))])[0]) if kept else math.nan


def has_ratio(metric: PredictedMetric, values: Collection[float]) -> bool:
    """Return whether values have errors: a time or cost of 0 has no ratio to others."""
    return metric.is_share or sum(values) > 0


def trial_variance(metric: PredictedMetric, values: Mapping[int, float], whole: int) -> float:
    """Return the variance of one trial around the mean of trials with the same lengths.

    Repeats have the same lengths if their numbers differ by a multiple of `whole`.
    """
    kinds = [
        to_error_scale(
            metric, [value for repeat, value in values.items() if repeat % whole == kind]
        )
        for kind in range(whole)
    ]
    variances = [float(np.var(kind, ddof=1)) for kind in kinds if len(kind) > 1]
    return float(np.mean(variances)) if variances else 0.0


def differences_by_repeat(
    metric: PredictedMetric, mine: Mapping[int, float], other: Mapping[int, float]
) -> dict[int, float]:
    """Return the differences of two predictions of the same repeats, on the scale of errors."""
    common = [repeat for repeat in mine if repeat in other]
    apart = to_error_scale(metric, [mine[at] for at in common]) - to_error_scale(
        metric, [other[at] for at in common]
    )
    return dict(zip(common, apart.tolist(), strict=True))


@dataclass(frozen=True)
class FitError:
    """The error of a fit: its mean, `bias`, and its `variance` around that."""

    bias: float = 0.0
    variance: float = 0.0


def fit_error(shifts: Floats, noise: Floats) -> FitError:
    """Return the error of a fit from the shifts of refitted twins, without chance of their trials.

    `noise`: the variance of each shift by chance. All shifts are differences from the same
    prediction, which contributes a half of it: that half moves all of them together, and the other
    half each by itself. The bias is the mean shift, less the more of it can be chance. That of the
    provider's own fit is not quite the same, so half of it counts as an error.
    """
    if not len(shifts):
        return FitError()
    half = float(np.mean(noise)) / 2
    apart = max(0.0, float(np.var(shifts)) - half)
    mean, chance = float(np.mean(shifts)), half + float(np.var(shifts)) / len(shifts)
    told = max(0.0, 1 - chance / mean**2) if mean else 0.0
    bias = mean * told
    return FitError(bias, apart + chance * told + (bias / 2) ** 2)
