"""The error of the model: each setting of the runs, predicted by a fit to the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.cells import ByRepeat
from harness.records.errors import InputError
from harness.records.schema import CellInfo
from harness.twin.fit import fit_observations
from harness.twin.fitted_runs import (
    FittedRun,
    profile_of,
)
from harness.twin.observations import Floats, Observations
from harness.twin.predicted_metrics import PREDICTED, PredictedMetric, values_of
from harness.twin.prediction import LeftOutSetting
from harness.twin.prediction_error import (
    distance,
    excess_variance,
    has_ratio,
    mean_on_error_scale,
    trial_variance,
)
from harness.twin.twin_trials import OnStep, ignore_step, play_at_twin

MOST_LEFT_OUT = 12
_LEAVE_OUT_ATTEMPTS = 50_000


@dataclass(frozen=True)
class _Compared:
    """What a twin predicts of a setting: `mine` by repeat; and what was measured, `real`."""

    cell: str
    mine: Mapping[int, float]
    real: Mapping[int, float]
    whole: int
    is_inside: bool
    distance: float


def leave_out_each(
    sources: Sequence[FittedRun],
    seen: Observations,
    whole: Mapping[str, Any],
    repeats: int,
    seed: int,
    on_step: OnStep = ignore_step,
    most: int = MOST_LEFT_OUT,
) -> tuple[dict[str, list[LeftOutSetting]], dict[str, float]]:
    """Return the errors of the settings of the runs, each predicted by a fit to the others.

    Then by how much the trials of a setting vary more than at the twin of the `whole` fit, whose
    profile is given: one that lacks a limit would not vary as they do. Both by metric. `most`:
    settings that are left out.
    """
    left_out: dict[str, list[_Compared]] = {metric.name: [] for metric in PREDICTED}
    fitted: dict[str, list[_Compared]] = {metric.name: [] for metric in PREDICTED}
    kept = _first_trials(seen)
    every = [
        (source, info)
        for source in sources
        for info in source.records.run.cells
        if info.id in kept.cells and info.id in {one.id for one in source.twin.cells}
    ]
    chosen = every[:: math.ceil(max(len(every), 1) / most)]
    for number, (source, info) in enumerate(chosen, 1):
        on_step(f"errors: measured setting {number} of {len(chosen)}")
        others = [one.permits for _, one in every if one is not info]
        _compare(source, info, others or [info.permits], whole, repeats, seed, fitted)
        rows = kept.cell != kept.cells.index(info.id)
        if not others or not rows.any():
            continue
        try:
            profile = profile_of(fit_observations(kept.take(rows)))
            _compare(source, info, others, profile, repeats, seed, left_out)
        except InputError:
            continue  # the others have too little
    errors: dict[str, list[LeftOutSetting]] = {}
    excess: dict[str, float] = {}
    for metric in PREDICTED:
        excess[metric.name] = more = excess_variance([
            (_differences(metric, one), trial_variance(metric, one.mine, one.whole))
            for one in fitted[metric.name]
        ])  # fmt: skip
        errors[metric.name] = [_left_out(metric, one, more) for one in left_out[metric.name]]
    return errors, excess


def _compare(
    source: FittedRun, info: CellInfo, others: Sequence[int], profile: Mapping[str, Any],
    repeats: int, seed: int, found: Mapping[str, list[_Compared]],
) -> None:  # fmt: skip
    """Play a setting at the twin with a profile, and add what it predicts to `found`, by metric.

    `others`: the permits of the other settings.
    """
    twin, lengths = source.twin.with_profile(profile), source.lengths.of_trial
    measured = {at for metric in PREDICTED for at in source.measured[metric.name].get(info.id, {})}
    played = [at for at in range(repeats) if at % source.repeats in measured]
    values = values_of(play_at_twin(twin, {info.id: played}, seed, lengths, [info.id]))
    inside, far = not beyond_measured(info, others), distance(info.permits, others)
    for metric in PREDICTED:
        real = source.measured[metric.name].get(info.id, {})
        mine = of_same_work(values[metric.name].get(info.id, {}), real, source.repeats)
        if mine and all(has_ratio(metric, each.values()) for each in (mine, real)):
            one = _Compared(info.id, mine, real, source.repeats, inside, far)
            found[metric.name].append(one)


def _differences(metric: PredictedMetric, one: _Compared) -> Floats:
    """Return predicted minus measured in each repeat, which has its own lengths."""
    return np.array([
        mean_on_error_scale(
            metric, {at: mine for at, mine in one.mine.items() if at % one.whole == repeat}
        )
        - mean_on_error_scale(metric, {repeat: real})
        for repeat, real in one.real.items()
        if any(at % one.whole == repeat for at in one.mine)
    ])  # fmt: skip


def _left_out(metric: PredictedMetric, one: _Compared, excess: float) -> LeftOutSetting:
    variance = trial_variance(metric, one.mine, one.whole)
    noise = (variance + excess) / len(one.real) + variance / len(one.mine)
    error = mean_on_error_scale(metric, one.mine) - mean_on_error_scale(metric, one.real)
    return LeftOutSetting(one.cell, error, noise, one.is_inside, one.distance)


def _first_trials(seen: Observations) -> Observations:
    """Return the attempts of the first trials of a long run, so that fits to them are fast."""
    if len(seen) <= _LEAVE_OUT_ATTEMPTS:
        return seen
    repeats = np.bincount(seen.repeat)
    enough = int(np.searchsorted(np.cumsum(repeats), _LEAVE_OUT_ATTEMPTS)) + 1
    return seen.take(seen.repeat < enough)


def beyond_measured(info: CellInfo, measured: Sequence[int]) -> str:
    """Return why a setting is beyond the permits that were measured; empty if it is not."""
    low, high = min(measured), max(measured)
    if info.permits > high:
        return f"{info.permits} permits are more than the {high} that were measured"
    if info.permits < low:
        return f"{info.permits} permits are fewer than the {low} that were measured"
    return ""


def of_same_work(values: ByRepeat, measured: Mapping[int, float], whole: int) -> ByRepeat:
    """Return the values of those repeats whose work has a measured value.

    A run that was stopped has more repeats of some settings than of others.
    """
    return {repeat: value for repeat, value in values.items() if repeat % whole in measured}
