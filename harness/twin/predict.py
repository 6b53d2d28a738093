"""Predicts settings of a run that were not measured, with intervals.

The twin is fitted to the run, and plays the predicted settings in virtual time, with the lengths of
the responses that the run recorded. A prediction is the mean over many runs of the same work. Its
interval has three parts. The error of the fit comes from a bootstrap: the twin plays the run's own
settings again, the fit is repeated on these records, and the new twin predicts. The error of the
model comes from the run: each setting is left out of the fit once and predicted by the rest. And
the trials of a run can vary more than at the twin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.analysis.cells import ByRepeat
from harness.records.schema import CellInfo
from harness.records.settings import split_key
from harness.store.run_directory import Records
from harness.twin.bootstrap_fits import bootstrap_errors
from harness.twin.fit import fit_observations
from harness.twin.fitted_parts import count_of, fitted_parts
from harness.twin.fitted_runs import (
    FittedRun,
    calls_of_repeat,
    calls_of_trial,
    fitted_run,
    profile_of,
    run_label,
    scenario_at_twin,
)
from harness.twin.left_out_settings import beyond_measured, leave_out_each, of_same_work
from harness.twin.observations import observe
from harness.twin.predicted_metrics import PREDICTED, PredictedMetric, values_of
from harness.twin.prediction import LeftOutSetting, PredictedCell, PredictedValue, Prediction
from harness.twin.prediction_error import (
    FitError,
    distance,
    freedom_of,
    from_error_scale,
    half_width,
    has_ratio,
    mean_on_error_scale,
    model_variance,
    to_error_scale,
    trial_variance,
)
from harness.twin.prediction_notes import (
    notes_of_check,
    notes_of_prediction,
    require_lengths,
)
from harness.twin.profile_text import UNFITTED
from harness.twin.twin_trials import (
    LengthsOf,
    OnStep,
    ignore_step,
    play_at_twin,
    twin_scenario,
)
from harness.twin.useful_permits import notes_of_permits, useful_permits

BOOTSTRAPS = 30
_POINT_CALLS = 8_000
_REPLICATE_CALLS = 1_600
_MOST_REPEATS = 60
_SOURCE_CALLS = 40_000
"""Calls of a run that a prediction plays with their lengths; of more, those of the first repeats.
That a prediction is of the same repeats as what was measured matters more than how many they are.
"""
_BOOTSTRAP_CALLS = 300_000
_FEWEST_BOOTSTRAPS = 10
"""Bootstraps whose trials are long are fewer, as each plays one trial of each setting at least."""


def predict(
    runs: Sequence[Records], changes: Sequence[str] = (), *, of: Records | None = None,
    seed: int = 1, bootstraps: int = BOOTSTRAPS, on_step: OnStep = ignore_step,
) -> Prediction:  # fmt: skip
    """Return what a twin of some runs predicts of the first run's scenario with some changes.

    `changes`: `dotted.key=value`. `of`: predict the settings and the work of this run instead.
    `on_step`: is called with what is done next, in words.
    Raises InputError if the records have too little, or if virtual time does not have the scenario.
    """
    seen = observe(runs)
    on_step(f"fitting {count_of(len(seen), 'attempt')}")
    fit = fit_observations(seen)
    profile = profile_of(fit)
    sources = [fitted_run(records, profile, _SOURCE_CALLS) for records in runs]
    asked = sources[0] if of is None else fitted_run(of, profile, len(of.calls))
    scenario = scenario_at_twin(asked.records.run, changes)
    twin = twin_scenario(scenario, profile, asked.records.run)
    useful = useful_permits(scenario, twin.cells)
    if of is None:
        twin = twin.with_cells(useful.kept)
    lengths = asked.lengths.of_trial if of is not None else lengths_of_work(asked, twin.cells)
    work, whole = calls_of_trial(asked) * len(twin.cells), asked.repeats
    repeats = _rounded(_POINT_CALLS / work, whole)
    on_step(f"predicting {count_of(len(twin.cells), 'setting')}")
    played = play_at_twin(twin, repeats, seed, lengths)
    require_lengths(scenario, fit, played)
    point = values_of(played)
    notes = [
        *(notes_of_permits(useful) if of is None else ()),
        *notes_of_prediction(runs, scenario, changes, played, lengths),
        *notes_of_check(runs, of),
    ]
    few = min(repeats, math.ceil(_REPLICATE_CALLS / work))
    bootstraps = _affordable(bootstraps, few * work + sum(map(calls_of_repeat, sources)))
    refitted = bootstrap_errors(sources, twin, lengths, fit, few, seed, bootstraps, on_step)
    errors, excess = leave_out_each(sources, seen, profile, repeats, seed, on_step)
    permits = [cell.permits for records in runs for cell in records.run.cells]
    trials_fitted = sum(len(records.trials) for records in runs)
    known = metrics_of(sources)
    cells = []
    for info in twin.cells:
        used = useful.used(info)
        others = permits if used == info.permits else [min(each, used) for each in permits]
        is_known = used < info.permits and used in others
        beyond, far = "" if is_known else beyond_measured(info, permits), distance(used, others)
        values = {}
        for metric in known:
            trials: ByRepeat = point[metric.name].get(info.id, {})
            real = asked.measured[metric.name].get(info.id, {})
            if of is not None:
                trials = of_same_work(trials, real, whole)
            if trials:
                left_out = relevant_errors(errors[metric.name], beyond)
                of_fit = refitted.get((metric.name, info.id), FitError())
                estimated = (
                    (of_fit.variance, bootstraps - 1.0),
                    model_variance(left_out, far, bool(beyond)),
                )
                more = excess[metric.name]
                values[metric.name] = predicted_value(
                    metric,
                    trials,
                    of_fit.bias,
                    estimated,
                    more / max(trials_fitted, 1),
                    more,
                    whole,
                    real,
                )
        cells.append(PredictedCell(info, values, beyond))
    unknown = [text for part in fitted_parts(fit) for text in part.unknown]
    return Prediction(
        twin.scenario.name, runs[0].run.simulated, len(seen), tuple(cells), errors, repeats,
        bootstraps, (*unknown, UNFITTED), tuple(notes),
        scenario.slo.success_rate, scenario.objective.success_margin, scenario.objective.minimise,
        tuple({cell.id: cell for each in runs for cell in each.run.cells}.values()),
        tuple(run_label(each.run) for each in runs),
    )  # fmt: skip


def metrics_of(sources: Sequence[FittedRun]) -> list[PredictedMetric]:
    """Return the metrics to predict: what no measured setting has, has no model error either."""
    return [
        metric
        for metric in PREDICTED
        if not metric.of_many
        or any(any(source.measured[metric.name].values()) for source in sources)
    ]


def _affordable(bootstraps: int, calls: float) -> int:
    """Return how many bootstraps there are if each plays so many calls."""
    return min(bootstraps, max(_FEWEST_BOOTSTRAPS, int(_BOOTSTRAP_CALLS / calls)))


def _rounded(repeats: float, whole: int) -> int:
    """Return a multiple of the run's repeats, so that each counts equally often.

    Each is played twice at least, as the chance of a trial is what differs between those.
    """
    return whole * max(2, min(math.ceil(repeats / whole), math.ceil(_MOST_REPEATS / whole)))


def lengths_of_work(source: FittedRun, cells: Sequence[CellInfo]) -> LengthsOf:
    """Return the lengths of predicted cells: those of measured ones with the same swept keys."""
    measured = source.records.run.cells
    like = {
        cell.id: [one.id for one in measured if _work_of(one) == _work_of(cell)] for cell in cells
    }
    return lambda cell, repeat, topics: source.lengths.of_work(like[cell], repeat, topics)


def _work_of(cell: CellInfo) -> dict[str, Any]:
    """Return the settings that can change what is asked."""
    return {key: value for key, value in cell.settings.items() if split_key(key)[0] != "retry"}


def relevant_errors(errors: Sequence[LeftOutSetting], beyond: str) -> Sequence[LeftOutSetting]:
    """Return the errors that say how near a prediction is: those like it, if there are any."""
    inside = [one for one in errors if one.is_inside]
    return inside if inside and not beyond else errors


def predicted_value(
    metric: PredictedMetric, trials: Mapping[int, float], bias: float,
    estimated: Sequence[tuple[float, float]], common: float, excess: float, whole: int,
    measured: Mapping[int, float],
) -> PredictedValue:  # fmt: skip
    """Return the mean of trials with its interval.

    `bias`: of the fit, which is subtracted. `estimated`: the variances of the errors of the fit and
    of the model, each with its degrees of freedom. `common`: the variance that the speed of the
    provider in the fitted trials adds. `excess`: by which a trial varies more than at the twin.
    """
    mean = float(np.mean(list(measured.values()))) if measured else None
    if not has_ratio(metric, trials.values()):
        return PredictedValue(0.0, 0.0, 0.0, None, 0.0, None, 0.0, mean)
    middle = mean_on_error_scale(metric, trials) - bias
    spread = trial_variance(metric, trials, whole)
    variance = spread / len(trials) + common + sum(error for error, _ in estimated)
    known = freedom_of(variance, estimated)
    half = half_width(variance, known)
    value, low, high = (
        from_error_scale(metric, at) for at in (middle, middle - half, middle + half)
    )
    every = to_error_scale(metric, list(trials.values()))
    single = half_width(float(np.var(every)) + excess + variance, known)
    one_run = single if metric.is_share else math.expm1(single)
    return PredictedValue(
        value, low, high, one_run if whole > 1 else None, variance, known, spread + excess, mean
    )
