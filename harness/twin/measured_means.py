"""What a run measured of the metrics that a twin predicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analysis.selection import Dataset
from harness.store.run_directory import Records
from harness.twin.predicted_metrics import PREDICTED, PredictedMetric, values_of
from harness.twin.prediction import MeasuredMean, MeasuredMeans
from harness.twin.prediction_error import from_error_scale, half_width, to_error_scale


def measured_means(records: Records) -> MeasuredMeans:
    """Return the mean of each metric in each setting of a run, with its interval."""
    values = values_of(Dataset.of(records))
    return {
        metric.name: {
            cell: _mean(metric, list(repeats.values()))
            for cell, repeats in values[metric.name].items()
            if repeats
        }
        for metric in PREDICTED
    }


def _mean(metric: PredictedMetric, values: Sequence[float]) -> MeasuredMean:
    middle, count = float(np.mean(values)), len(values)
    if count < 2:
        return MeasuredMean(middle, None, None)
    at = float(to_error_scale(metric, [middle])[0])
    variance = float(np.var(to_error_scale(metric, values), ddof=1)) / count
    half = half_width(variance, count - 1)
    low, high = (from_error_scale(metric, end) for end in (at - half, at + half))
    return MeasuredMean(middle, low, high)
