"""Predicts settings of a run that were not measured, with intervals.

The twin is fitted to the run, and plays the predicted settings in virtual time, with the lengths of
the responses that the run recorded. A prediction is the mean over many runs of the same work. Its
interval has two parts. The error of the fit comes from a bootstrap: the twin plays the run's own
settings again, the fit is repeated on these records, and the new twin predicts. The error of the
model comes from the run: each setting is left out of the fit once and predicted by the rest.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.selection import Dataset
from harness.bench.scenario import Scenario
from harness.records.errors import InputError
from harness.records.schema import CellInfo, Run
from harness.simulator.profiles import Profile
from harness.store.run_directory import Records
from harness.twin.fit import ProviderFit, fit_observations
from harness.twin.fitted_parts import fitted_parts
from harness.twin.observations import Floats, Observations, observe
from harness.twin.predicted_metrics import PREDICTED, PredictedMetric, Values, values_of
from harness.twin.prediction_error import (
    SettingError,
    half_width,
    model_variance,
    plain,
    scaled,
)
from harness.twin.profile_text import TwinHead, twin_text
from harness.twin.recorded_lengths import RecordedLengths, recorded_lengths
from harness.twin.twin_trials import (
    LengthsOf,
    TwinScenario,
    at_twin,
    play_at_twin,
    twin_scenario,
)

BOOTSTRAPS = 30
_POINT_CALLS = 8_000
_REPLICATE_CALLS = 800
_MOST_REPEATS = 60
_SOURCE_ATTEMPTS = 3_000
"""Attempts of a run that a bootstrap plays again; of more, the first repeats."""


@dataclass(frozen=True)
class PredictedValue:
    """A metric of a setting: the mean over many runs, with its interval of 95 %.

    `trial_variance`: of one trial around that mean, on the scale of errors. `measured`: the mean in
    the run, None if the setting was not in it.
    """

    value: float
    low: float
    high: float
    trial_variance: float
    measured: float | None


@dataclass(frozen=True)
class PredictedCell:
    """A predicted setting. `values`: by metric; one that no trial has is absent.

    `beyond`: why the prediction is an extrapolation, empty if it is none.
    """

    info: CellInfo
    values: Mapping[str, PredictedValue]
    beyond: str


@dataclass(frozen=True)
class Prediction:
    """All predicted settings of one scenario.

    `errors`: by metric, of the settings that were left out of the fit once. `repeats`: the trials
    of each setting that were played. `bootstraps`: how many fits the intervals come from.
    `given`: whether all lengths were recorded.
    """

    scenario: Scenario
    run: Run
    fit: ProviderFit
    cells: tuple[PredictedCell, ...]
    errors: Mapping[str, Sequence[SettingError]]
    repeats: int
    bootstraps: int


@dataclass(frozen=True)
class _Source:
    """A run that the twin is fitted to: at the twin, with its lengths and its values."""

    records: Records
    twin: TwinScenario
    lengths: RecordedLengths
    measured: Values
    repeats: int


def profile_of(fit: ProviderFit) -> dict[str, Any]:
    """Return the profile that a fit gives, as plain values."""
    text = twin_text(fitted_parts(fit), TwinHead("twin", "fitted", "records", "2000-01-01"))
    return Profile.model_validate(tomllib.loads(text)).as_dict()


def predict(
    runs: Sequence[Records], changes: Sequence[str] = (), *, seed: int = 1,
    bootstraps: int = BOOTSTRAPS,
) -> Prediction:  # fmt: skip
    """Return what a twin of some runs predicts of the first run's scenario with some changes.

    `changes`: `dotted.key=value`. Raises InputError if the records have too little, or if virtual
    time does not have the scenario.
    """
    seen = observe(runs)
    fit = fit_observations(seen)
    profile = profile_of(fit)
    sources = [_source(records, profile) for records in runs]
    scenario = at_twin(runs[0].run.scenario, changes, "run.json")
    twin = twin_scenario(scenario, profile)
    lengths = sources[0].lengths
    work = _calls_of_trial(sources[0]) * len(twin.cells)
    whole = sources[0].repeats
    repeats = _rounded(_POINT_CALLS / work, whole, _MOST_REPEATS)
    point = values_of(play_at_twin(twin, repeats, seed, lengths.of_trial))
    few = min(repeats, _rounded(_REPLICATE_CALLS / work, whole, _MOST_REPEATS))
    shifts = _bootstrap(sources, twin, lengths.of_trial, point, few, seed, bootstraps)
    errors = _leave_out(sources[0], seen, repeats, seed)
    infos = {cell.id: cell for cell in twin.cells}
    measured = sources[0].measured
    inside = _permits_of(runs)
    cells = []
    for name, info in infos.items():
        beyond = _beyond(info, inside)
        values = {}
        for metric in PREDICTED:
            found = _value(
                metric, name, point, shifts, errors[metric.name], repeats, whole, measured, beyond
            )
            if found is not None:
                values[metric.name] = found
        cells.append(PredictedCell(info, values, beyond))
    return Prediction(
        scenario, runs[0].run, fit, tuple(cells), errors, repeats, bootstraps
    )


def _source(records: Records, profile: Mapping[str, Any]) -> _Source:
    dataset = Dataset.of(records)
    scenario = at_twin(records.run.scenario, (), "run.json")
    repeats = max((trial.repeat for trial in records.trials), default=0) + 1
    return _Source(
        dataset, twin_scenario(scenario, profile), recorded_lengths(observe([records])),
        values_of(dataset), repeats,
    )  # fmt: skip


def _calls_of_trial(source: _Source) -> float:
    return max(1.0, len(source.records.calls) / max(len(source.records.trials), 1))


def _rounded(repeats: float, whole: int, most: int) -> int:
    """Return a multiple of the run's repeats, so that each counts equally often."""
    return whole * max(1, min(math.ceil(repeats / whole), math.ceil(most / whole)))


def _permits_of(runs: Sequence[Records]) -> tuple[int, int]:
    permits = [cell.permits for records in runs for cell in records.run.cells]
    return min(permits), max(permits)


def _beyond(info: CellInfo, measured: tuple[int, int]) -> str:
    low, high = measured
    if info.permits > high:
        return f"{info.permits} permits are more than the {high} that were measured"
    if info.permits < low:
        return f"{info.permits} permits are fewer than the {low} that were measured"
    return ""


def _mean(metric: PredictedMetric, values: Mapping[int, float], first: int | None = None) -> float:
    """Return the mean of a metric over repeats, on the scale of errors; nan for no value."""
    kept = [value for repeat, value in values.items() if first is None or repeat < first]
    return float(scaled(metric, [float(np.mean(kept))])[0]) if kept else math.nan


def _bootstrap(
    sources: Sequence[_Source], twin: TwinScenario, lengths: LengthsOf, point: Values, repeats: int,
    seed: int, bootstraps: int,
) -> Mapping[tuple[str, str], Floats]:  # fmt: skip
    """Return by how much the predictions of refitted twins differ, by metric and cell.

    All of them play the same draws, so that the differences come from the fits.
    """
    shifts: dict[tuple[str, str], list[float]] = {}
    for number in range(bootstraps):
        try:
            again, scale = _played_again(sources, seed + 1000 + number)
            profile = profile_of(fit_observations(observe(again)))
            played = play_at_twin(twin.with_profile(profile), repeats, seed, lengths)
        except InputError:
            continue  # too few attempts succeeded
        values = values_of(played)
        for metric in PREDICTED:
            for cell in point[metric.name]:
                mine = _mean(metric, values[metric.name].get(cell, {}), repeats)
                base = _mean(metric, point[metric.name][cell], repeats)
                shifts.setdefault((metric.name, cell), []).append((mine - base) * scale)
    return {key: np.array(each) for key, each in shifts.items()}


def _played_again(sources: Sequence[_Source], seed: int) -> tuple[list[Records], float]:
    """Return the runs as the twin plays them, and the factor that their errors have.

    Of a long run, only the first repeats are played: the errors of a fit to the whole are smaller
    by the root of the share.
    """
    attempts = sum(len(source.records.attempts) for source in sources)
    share = min(1.0, _SOURCE_ATTEMPTS / max(attempts, 1))
    again: list[Records] = []
    for source in sources:
        repeats = max(1, round(source.repeats * share))
        again.append(play_at_twin(source.twin, repeats, seed, source.lengths.of_trial))
    played = sum(len(one.attempts) for one in again)
    return again, min(1.0, math.sqrt(played / max(attempts, 1)))


def _leave_out(
    source: _Source, seen: Observations, repeats: int, seed: int
) -> dict[str, list[SettingError]]:
    """Return the errors of the settings of a run, each predicted by a fit to the others."""
    errors: dict[str, list[SettingError]] = {metric.name: [] for metric in PREDICTED}
    infos = {info.id: info for info in source.records.run.cells}
    played = {info.id for info in source.twin.cells}
    for name, info in infos.items():
        others = [one for one in infos.values() if one.id != name]
        if name not in played or name not in seen.cells or not others:
            continue
        rows = seen.cell != seen.cells.index(name)
        try:
            profile = profile_of(fit_observations(seen.take(rows)))
            twin = source.twin.with_profile(profile)
            values = values_of(play_at_twin(twin, repeats, seed, source.lengths.of_trial, [name]))
        except InputError:
            continue
        is_inside = not _beyond(
            info, (min(one.permits for one in others), max(one.permits for one in others))
        )
        for metric in PREDICTED:
            error = _error(metric, values, source.measured, name, source.repeats, is_inside)
            if error is not None:
                errors[metric.name].append(error)
    return errors


def _error(
    metric: PredictedMetric, predicted: Values, measured: Values, cell: str, whole: int,
    is_inside: bool,
) -> SettingError | None:  # fmt: skip
    mine, real = predicted[metric.name].get(cell, {}), measured[metric.name].get(cell, {})
    if not mine or not real:
        return None
    variance = trial_variance(metric, mine, whole)
    noise = variance / len(real) + variance / len(mine)
    return SettingError(cell, _mean(metric, mine) - _mean(metric, real), noise, is_inside)


def trial_variance(metric: PredictedMetric, values: Mapping[int, float], whole: int) -> float:
    """Return the variance of one trial around the mean of trials with the same lengths.

    Repeats have the same lengths if their numbers differ by a multiple of `whole`.
    """
    kinds = [
        scaled(metric, [value for repeat, value in values.items() if repeat % whole == kind])
        for kind in range(whole)
    ]
    variances = [float(np.var(kind, ddof=1)) for kind in kinds if len(kind) > 1]
    return float(np.mean(variances)) if variances else 0.0


def _value(
    metric: PredictedMetric, cell: str, point: Values, shifts: Mapping[tuple[str, str], Floats],
    errors: Sequence[SettingError], repeats: int, whole: int, measured: Values, beyond: str,
) -> PredictedValue | None:  # fmt: skip
    values = point[metric.name].get(cell, {})
    if not values:
        return None
    middle = _mean(metric, values)
    spread = trial_variance(metric, values, whole)
    moved = shifts.get((metric.name, cell), np.zeros(0))
    moved = moved[np.isfinite(moved)]
    fit = float(np.mean(moved**2)) if len(moved) else 0.0
    fit += spread / len(values)
    inside = [one for one in errors if one.is_inside]
    model, freedom = model_variance(inside if inside and not beyond else errors)
    half = half_width(fit, model, freedom)
    real = measured[metric.name].get(cell)
    return PredictedValue(
        plain(metric, middle), plain(metric, middle - half), plain(metric, middle + half), spread,
        float(np.mean(list(real.values()))) if real else None,
    )  # fmt: skip
