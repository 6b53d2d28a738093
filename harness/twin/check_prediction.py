"""Compares a prediction with a run of the predicted settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness.analysis.settings import settings_of, varying
from harness.records.schema import CellInfo
from harness.records.settings import value_text
from harness.store.run_directory import Records
from harness.twin.fitted_runs import run_label
from harness.twin.predicted_metrics import PREDICTED, PredictedMetric
from harness.twin.prediction import (
    CheckedMetric,
    CheckedPrediction,
    CheckedValue,
    PredictedValue,
    Prediction,
    Quality,
    WeakPlace,
)
from harness.twin.prediction_error import freedom_of, from_error_scale, half_width, to_error_scale

QUALITY_LIMITS: Mapping[Quality, tuple[float, float]] = {"good": (0.05, 0.10), "fair": (0.10, 0.25)}
"""The largest median and 90th percentile of the errors with which a prediction is called so."""
_ORDER: Sequence[Quality] = ("good", "fair", "poor")
_WEAKER = 1.5
_LEAST_ERROR = 0.03
"""An error below this is no weakness."""


def compare_with(prediction: Prediction, other: Records) -> CheckedPrediction:
    """Return the comparison of a prediction with the run that it predicts."""
    repeats = {cell.info.id: 0 for cell in prediction.cells}
    for trial in other.trials:
        repeats[trial.cell] = repeats.get(trial.cell, 0) + 1
    values = tuple(
        _checked(metric, cell.info.id, value, repeats[cell.info.id], cell.beyond)
        for metric in PREDICTED
        for cell in prediction.cells
        if (value := cell.values.get(metric.name)) is not None and _is_comparable(metric, value)
    )
    known = {info.id for info in prediction.measured}
    new = [one for one in values if one.cell not in known]
    metrics = tuple(
        _of_metric(metric.name, mine)
        for metric in PREDICTED
        if (mine := [one for one in new or values if one.metric == metric.name])
    )
    infos = {cell.info.id: cell.info for cell in prediction.cells}
    decide = [one.quality for one in metrics if one.metric in ("makespan", "success_rate")]
    quality: Quality = max(decide, key=_ORDER.index) if decide else "poor"
    weak = tuple(_weak(values, infos))
    name = run_label(other.run)
    return CheckedPrediction(prediction, values, metrics, weak, quality, name, bool(new))


def _is_comparable(metric: PredictedMetric, value: PredictedValue) -> bool:
    """Return whether a value has an error: there is none relative to 0."""
    return value.measured is not None and (metric.is_share or min(value.measured, value.value) > 0)


def _checked(
    metric: PredictedMetric, cell: str, value: PredictedValue, repeats: int, beyond: str
) -> CheckedValue:
    assert value.measured is not None, "it was measured"
    chance = value.trial_variance / max(repeats, 1)
    variance = value.variance + chance
    freedom = value.freedom
    if freedom is not None:  # the variance of trials is known well
        freedom = freedom_of(variance, [(value.variance, freedom)])
    half = half_width(variance, freedom)
    middle = float(to_error_scale(metric, [value.value])[0])
    error = value.value - value.measured
    if not metric.is_share:
        error /= value.measured
    return CheckedValue(
        cell, metric.name, value.value, value.measured, from_error_scale(metric, middle - half),
        from_error_scale(metric, middle + half), error, beyond,
    )  # fmt: skip


def _of_metric(name: str, values: Sequence[CheckedValue]) -> CheckedMetric:
    errors = np.array([one.error for one in values])
    sizes = np.abs(errors)
    middle, high = (float(at) for at in np.percentile(sizes, [50, 90]))
    quality: Quality = next(
        (word for word, (most, tail) in QUALITY_LIMITS.items() if middle <= most and high <= tail),
        "poor",
    )
    return CheckedMetric(
        name, len(values), float(errors.mean()), middle, high, float(sizes.max()),
        float(np.mean([one.is_covered for one in values])), quality,
    )  # fmt: skip


def _weak(values: Sequence[CheckedValue], infos: Mapping[str, CellInfo]) -> Iterator[WeakPlace]:
    """Yield the groups of settings whose median error is well above that of all, worst first."""
    found = []
    for metric in dict.fromkeys(one.metric for one in values):
        mine = [one for one in values if one.metric == metric]
        of_all = float(np.median([abs(one.error) for one in mine]))
        for where, cells in _groups(infos):
            group = [one for one in mine if one.cell in cells]
            if not group or len(group) == len(mine):
                continue
            middle = float(np.median([abs(one.error) for one in group]))
            if middle >= max(_WEAKER * of_all, _LEAST_ERROR):
                covered = float(np.mean([one.is_covered for one in group]))
                found.append(WeakPlace(where, metric, len(group), middle, of_all, covered))
    yield from sorted(found, key=lambda one: -one.median)


def _groups(infos: Mapping[str, CellInfo]) -> Iterator[tuple[str, set[str]]]:
    """Yield the settings that have a value in common, of each key in which they differ."""
    for key in varying(infos.values()):
        by_value: dict[str, set[str]] = {}
        for name, info in infos.items():
            by_value.setdefault(value_text(settings_of(info).get(key)), set()).add(name)
        for label, cells in by_value.items():
            yield f"{key} {label}", cells
