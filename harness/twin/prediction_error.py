"""The errors of predictions: from the fit, by a bootstrap, and from the model, by leaving out.

Errors of a metric are differences of its logarithms, or of the values themselves for a share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.twin.observations import Floats
from harness.twin.predicted_metrics import PredictedMetric
from harness.twin.prediction import LeftOutSetting

_LEAST = 1e-12
CONFIDENCE = 0.95


def to_error_scale(metric: PredictedMetric, values: Sequence[float] | Floats) -> Floats:
    """Return the values on the scale on which errors are compared."""
    plain = np.asarray(values, np.float64)
    return plain if metric.is_share else np.log(np.maximum(plain, _LEAST))


def from_error_scale(metric: PredictedMetric, value: float) -> float:
    """Return a value from the scale on which errors are compared."""
    return min(max(value, 0.0), 1.0) if metric.is_share else math.exp(value)


def model_variance(errors: Sequence[LeftOutSetting]) -> tuple[float, float]:
    """Return the variance of the model's error beyond chance, and its degrees of freedom."""
    if not errors:
        return 0.0, 0.0
    squares = [one.error**2 - one.noise for one in errors]
    return max(0.0, float(np.mean(squares))), float(len(errors))


def freedom_of(fit: float, model: float, freedom: float) -> float:
    """Return the degrees of freedom of the sum of two variances; `freedom`: of the model's.

    Satterthwaite: that of the fit is known well, that of the model comes from few settings.
    """
    if model <= 0 or freedom <= 0:
        return math.inf
    return max((fit + model) ** 2 / (model**2 / freedom), 1.0)


def half_width(variance: float, freedom: float) -> float:
    """Return the half of the interval around a value with this variance."""
    if variance <= 0:
        return 0.0
    from scipy.special import stdtrit  # slow import

    factor = 1.959964 if math.isinf(freedom) else float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
    return factor * math.sqrt(variance)
