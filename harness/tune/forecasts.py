"""What a twin of the provider expects of each setting that a tune can choose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis.selection import Dataset
from harness.records.schema import CellInfo
from harness.twin.bootstrap_fits import bootstrap_errors
from harness.twin.fit import fit_observations
from harness.twin.fitted_runs import FittedRun, fitted_run, profile_of, scenario_at_twin
from harness.twin.left_out_settings import beyond_measured, leave_out_each
from harness.twin.observations import observe
from harness.twin.predict import lengths_of_work, relevant_errors
from harness.twin.predicted_metrics import PREDICTED, PredictedMetric, Values, values_of
from harness.twin.prediction_error import (
    FitError,
    distance,
    freedom_of,
    mean_on_error_scale,
    model_variance,
    to_error_scale,
    trial_variance,
)
from harness.twin.twin_trials import (
    LengthsOf,
    TwinScenario,
    play_at_twin,
    played_as,
    twin_scenario,
)

_BOOTSTRAPS = 10
_SOURCE_CALLS = 40_000
_KINDS = 2
"""In how many repeats of the run, with their work, all settings are played."""
_NEAR = math.log(1.3)
_MOST_NEAR = 10
_NEAR_PLAYS = 4
"""How often those near the best are played in each of these repeats."""
_FAR_ERROR = 0.1
"""The least standard error of the settings that are not near: they are played in no bootstrap."""
_MOST_LEFT_OUT = 5
_FOR_WORK = 2
"""Settings with which the work of all repeats is compared."""


@dataclass(frozen=True)
class Forecast:
    """What is expected of a setting.

    `mean`: the logarithm of the objective, with its `variance`, for the work of some repeats.
    `freedom`: the degrees of freedom of the variance (None: many). `work`: by repeat of the run,
    the logarithm of the ratio of its work to theirs. `trial_variance`: of one trial.
    `success`: the expected success rate, and `success_variance`.
    """

    cell: str
    mean: float
    variance: float
    freedom: float | None
    work: Mapping[int, float]
    trial_variance: float
    success: float
    success_variance: float


@dataclass(frozen=True)
class _Twin:
    """The settings at a fitted twin, and what is predicted of them."""

    source: FittedRun
    settings: TwinScenario
    lengths: LengthsOf
    metrics: tuple[PredictedMetric, PredictedMetric]
    seed: int

    def play(self, cells: Sequence[CellInfo], repeats: Sequence[int]) -> Values:
        """Return the values of some settings in some repeats."""
        chosen = dict.fromkeys([cell.id for cell in cells], repeats)
        twin = self.settings.with_cells(cells)
        return values_of(play_at_twin(twin, chosen, self.seed, self.lengths), self.metrics)


def forecasts(
    records: Dataset, candidates: Sequence[CellInfo], metrics: tuple[str, str], seed: int
) -> dict[str, Forecast]:
    """Return what is expected of each candidate, by its id.

    `records`: of the run so far. `metrics`: the objective, and the share of good workflows. A
    candidate without a value, as if no workflow ended, is absent. Raises InputError if the records
    have too little for a fit, or if virtual time does not have the scenario.
    """
    seen = observe([records])
    fit = fit_observations(seen)
    profile = profile_of(fit)
    source = fitted_run(records, profile, _SOURCE_CALLS)
    alike: dict[str, list[str]] = {}
    for cell in candidates:
        alike.setdefault(played_as(cell), []).append(cell.id)
    every = twin_scenario(scenario_at_twin(records.run, ()), profile, records.run)
    every = every.with_cells([cell for cell in every.cells if played_as(cell) in alike])
    lengths = lengths_of_work(source, every.cells)
    main, share = (next(one for one in PREDICTED if one.name == name) for name in metrics)
    twin = _Twin(source, every, lengths, (main, share), seed)
    whole = source.repeats
    kinds = range(max(0, whole - _KINDS), whole)
    played = twin.play(every.cells, kinds)
    near = _nearest(every.cells, played, main, share)
    again = [kind + whole * turn for turn in range(1, 1 + _NEAR_PLAYS) for kind in kinds]
    played = _joined(played, twin.play(near, again))
    work = _work(twin, near[:_FOR_WORK], kinds)
    close = every.with_cells(near)
    refitted = bootstrap_errors([source], close, lengths, fit, 1, seed, _BOOTSTRAPS)
    errors, excess = leave_out_each([source], seen, profile, whole, seed, most=_MOST_LEFT_OUT)
    permits = [cell.permits for cell in records.run.cells]
    trials = max(len(records.trials), 1)

    def variance(metric: PredictedMetric, info: CellInfo) -> tuple[float, float | None]:
        values = played[metric.name][info.id]
        beyond, far = beyond_measured(info, permits), distance(info.permits, permits)
        own = refitted.get((metric.name, info.id))
        known = _FAR_ERROR**2 if own is None else own.variance
        if own is None:
            others = (refitted.get((metric.name, one.id)) for one in near)
            known = max([known, *(other.variance for other in others if other is not None)])
        estimated = (
            (known, _BOOTSTRAPS - 1.0),
            model_variance(relevant_errors(errors[metric.name], beyond), far, bool(beyond)),
        )
        chance = trial_variance(metric, values, whole) / len(values)
        total = chance + excess[metric.name] / trials + sum(each for each, _ in estimated)
        return total, freedom_of(total, estimated)

    found: dict[str, Forecast] = {}
    for info in every.cells:
        mine, shares = (played[name].get(info.id, {}) for name in metrics)
        if not mine or not shares or not all(value > 0 for value in mine.values()):
            continue
        total, freedom = variance(main, info)
        bias = refitted.get((main.name, info.id), FitError()).bias
        one = Forecast(
            info.id, mean_on_error_scale(main, mine) - bias, total, freedom, work,
            trial_variance(main, mine, whole) + excess[main.name],
            float(np.mean(list(shares.values()))), variance(share, info)[0],
        )  # fmt: skip
        found |= {name: replace(one, cell=name) for name in alike[played_as(info)]}
    return found


def _nearest(
    cells: Sequence[CellInfo], played: Values, main: PredictedMetric, share: PredictedMetric
) -> list[CellInfo]:
    """Return the settings near the best of those that succeed most, the best first."""
    means = {cell: mean_on_error_scale(main, each) for cell, each in played[main.name].items()}
    means = {cell: mean for cell, mean in means.items() if math.isfinite(mean)}
    shares = {cell: float(np.mean(list(played[share.name][cell].values()))) for cell in means}
    most = max(shares.values(), default=0.0)
    good = {cell: mean for cell, mean in means.items() if shares[cell] >= most - _FAR_ERROR}
    best = min(good.values(), default=0.0)
    near = [cell for cell in cells if good.get(cell.id, math.inf) <= best + _NEAR]
    return sorted(near, key=lambda cell: means[cell.id])[:_MOST_NEAR]


def _work(twin: _Twin, cells: Sequence[CellInfo], kinds: Sequence[int]) -> dict[int, float]:
    """Return the work of each repeat of the run, compared with that of some."""
    main = twin.metrics[0]
    values = twin.play(cells, range(twin.source.repeats))[main.name]
    logs = [
        {at: float(to_error_scale(main, [value])[0]) for at, value in each.items()}
        for each in values.values()
    ]
    found = {}
    for repeat in range(twin.source.repeats):
        apart = [
            each[repeat] - float(np.mean([each[kind] for kind in kinds]))
            for each in logs
            if repeat in each and all(kind in each for kind in kinds)
        ]
        found[repeat] = float(np.mean(apart)) if apart else 0.0
    return found


def _joined(one: Values, other: Values) -> Values:
    return {
        metric: {cell: {**each, **other[metric].get(cell, {})} for cell, each in cells.items()}
        for metric, cells in one.items()
    }
