"""The errors of predictions: from the fit, by a bootstrap, and from the model, by leaving out.

Errors of a metric are differences of its logarithms, or of the values themselves for a share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.twin.observations import Floats
from harness.twin.predicted_metrics import PredictedMetric

_LEAST = 1e-12
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SettingError:
    """How far the prediction of a setting is from what was measured there.

    The setting was left out of the fit, unless `in_sample`. `error`: predicted minus measured.
    `noise`: the variance that chance gives this, from the repeats of both. `is_inside`: the permits
    are between those of the other settings.
    """

    cell: str
    error: float
    noise: float
    is_inside: bool
    in_sample: bool = False


def scaled(metric: PredictedMetric, values: Sequence[float] | Floats) -> Floats:
    """Return the values on the scale on which errors are compared."""
    plain = np.asarray(values, np.float64)
    return plain if metric.is_share else np.log(np.maximum(plain, _LEAST))


def plain(metric: PredictedMetric, value: float) -> float:
    """Return a value from the scale on which errors are compared."""
    return min(max(value, 0.0), 1.0) if metric.is_share else math.exp(value)


def model_variance(errors: Sequence[SettingError]) -> tuple[float, float]:
    """Return the variance of the model's error beyond chance, and its degrees of freedom."""
    if not errors:
        return 0.0, 0.0
    squares = [one.error**2 - one.noise for one in errors]
    return max(0.0, float(np.mean(squares))), float(len(errors))


def half_width(fit: float, model: float, freedom: float) -> float:
    """Return the half of an interval with these variances; `freedom`: of the model's."""
    from scipy.stats import t  # slow import

    whole = fit + model
    if whole <= 0:
        return 0.0
    # Satterthwaite: the variance of the fit is known well, that of the model from few settings.
    known = math.inf if model <= 0 or freedom <= 0 else whole**2 / (model**2 / freedom)
    factor = 1.96 if math.isinf(known) else float(t.ppf((1 + CONFIDENCE) / 2, max(known, 1.0)))
    return factor * math.sqrt(whole)
