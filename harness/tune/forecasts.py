"""What a twin of the provider expects of each setting that a tune can choose."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis.selection import Dataset
from harness.records.schema import CellInfo
from harness.tune.expected import Forecast, Forecasts, model_error
from harness.tune.twin_plays import TwinPlays, play_groups, predicted_of, twin_settings
from harness.twin.bootstrap_fits import Shifts, bootstrap_shifts, error_of_shifts
from harness.twin.fit import fit_observations
from harness.twin.fitted_runs import (
    FittedRun,
    fitted_run,
    profile_of,
    scenario_at_twin,
    shares_draws,
)
from harness.twin.left_out_settings import beyond_measured, leave_out_each
from harness.twin.observations import observe
from harness.twin.predict import lengths_of_work, relevant_errors
from harness.twin.predicted_metrics import PredictedMetric, Values
from harness.twin.prediction import LeftOutSetting
from harness.twin.prediction_error import (
    distance,
    freedom_of,
    mean_on_error_scale,
    to_error_scale,
    trial_variance,
)
from harness.twin.twin_trials import twin_scenario

_BOOTSTRAPS = 8
_BOOTSTRAP_PLAYS = 2
_SOURCE_CALLS = 40_000
_KINDS = 2
"""In how many repeats of the run, with their work, all settings are played: the first ones, so that
what is expected of a setting does not move with the work of the latest block."""
_NEAR = math.log(1.25)
_MOST_NEAR = 8
_NEAR_SUCCESS = 0.1
_NEAR_PLAYS = 3
"""How often those near the best are played in each of these repeats besides."""
_FAR_ERROR = 0.06
"""The least standard error of the settings that are not near: they are played in no bootstrap."""
_MOST_LEFT_OUT = 5
_LEFT_OUT_PLAYS = 3
"""How often a twin plays each trial of a setting that is left out: from the spread it is known how
much of the error is chance."""
_FOR_WORK = 2
"""Settings with which the work of all repeats is compared."""


def forecasts(
    records: Dataset, candidates: Sequence[CellInfo], groups: Mapping[str, Hashable],
    metrics: tuple[str, str], seed: int,
) -> Forecasts:  # fmt: skip
    """Return what is expected of each candidate.

    `records`: of the run so far. `groups`: by candidate, what it shares with those that are the
    same where nothing fails. `metrics`: the objective, and the share of good workflows. A
    candidate without a value, as if no workflow ended, is absent. Raises InputError if the records
    have too little for a fit, or if virtual time does not have the scenario.
    """
    seen = observe([records])
    fit = fit_observations(seen)
    profile = profile_of(fit)
    source = fitted_run(records, profile, _SOURCE_CALLS)
    every = twin_scenario(scenario_at_twin(records.run, ()), profile, records.run)
    settings = twin_settings(candidates, every.cells, groups)
    every = every.with_cells([cell for cell in every.cells if cell.id in settings.alike])
    main, share = predicted_of(metrics)
    lengths = lengths_of_work(source, every.cells)
    twin = TwinPlays(every, lengths, (main, share), seed)
    kinds = range(min(_KINDS, source.repeats))
    played, stands_for, requests = play_groups(twin, settings.groups, kinds)
    near = _nearest([cell for cell in every.cells if cell.id in stands_for], played, main, share)
    again = [kind + source.repeats * turn for turn in range(1, 1 + _NEAR_PLAYS) for kind in kinds]
    played = _joined(played, twin.play(near, again))
    shifts = bootstrap_shifts(
        [source], every.with_cells(near), lengths, fit, _BOOTSTRAP_PLAYS, seed, _BOOTSTRAPS
    )
    errors, excess = leave_out_each(
        [source], seen, profile, _LEFT_OUT_PLAYS * source.repeats, seed, most=_MOST_LEFT_OUT
    )
    spread = _Spread(
        played, shifts, errors, excess, [cell.permits for cell in records.run.cells],
        [cell.id for cell in near], source, max(len(records.trials), 1),
    )  # fmt: skip
    work = _work(twin, near[:_FOR_WORK], kinds, source.repeats)
    found: dict[str, Forecast] = {}
    for info in every.cells:
        if info.id in stands_for:
            one = _forecast(info, (main, share), spread, work)
            if one is not None:
                one = replace(one, requests=requests[info.id])
                for same in stands_for[info.id]:
                    found |= {name: replace(one, cell=name) for name in settings.alike[same.id]}
    rate = fit.limits.rate
    return Forecasts(found, 0.0 if rate is None else rate.burst)


@dataclass(frozen=True)
class _Spread:
    """What says how far the predictions can be from the truth."""

    played: Values
    shifts: Mapping[tuple[str, str], Shifts]
    errors: Mapping[str, Sequence[LeftOutSetting]]
    excess: Mapping[str, float]
    permits: Sequence[int]
    near: Sequence[str]
    source: FittedRun
    trials: int

    def model(self, metric: PredictedMetric, info: CellInfo) -> tuple[float, float]:
        """Return the variance of the error of the model, and its degrees of freedom."""
        beyond = beyond_measured(info, self.permits)
        relevant = relevant_errors(self.errors[metric.name], beyond)
        return model_error(relevant, distance(info.permits, self.permits), is_beyond=bool(beyond))

    def fit(self, metric: PredictedMetric, info: CellInfo) -> tuple[float, float]:
        """Return the bias of a prediction, and the variance of the error of the fit."""
        own = self.shifts.get((metric.name, info.id))
        if own is not None:
            error = error_of_shifts(own.values())
            return error.bias, error.variance
        known = (self.shifts.get((metric.name, one)) for one in self.near)
        others = [error_of_shifts(each.values()).variance for each in known if each is not None]
        return 0.0, max([_FAR_ERROR**2, *others])

    def whole(self, metric: PredictedMetric, info: CellInfo) -> tuple[float, float, float | None]:
        """Return bias, variance and degrees of freedom of the prediction of a setting."""
        bias, fit = self.fit(metric, info)
        estimated = ((fit, _BOOTSTRAPS - 1.0), self.model(metric, info))
        values = self.played[metric.name][info.id]
        chance = trial_variance(metric, values, self.source.repeats) / len(values)
        total = chance + self.excess[metric.name] / self.trials + sum(one for one, _ in estimated)
        return bias, total, freedom_of(total, estimated)


def _forecast(
    info: CellInfo, metrics: tuple[PredictedMetric, PredictedMetric], spread: _Spread,
    work: Mapping[int, float],
) -> Forecast | None:  # fmt: skip
    """Return what is expected of a setting; None without a value."""
    main, share = metrics
    mine, shares = (spread.played[one.name].get(info.id, {}) for one in metrics)
    if not mine or not shares or not all(value > 0 for value in mine.values()):
        return None
    bias, total, freedom = spread.whole(main, info)
    trial = trial_variance(main, mine, spread.source.repeats)
    return Forecast(
        cell=info.id, mean=mean_on_error_scale(main, mine) - bias, variance=total,
        freedom=freedom, work=work, trial_variance=trial + spread.excess[main.name],
        success=float(np.mean(list(shares.values()))),
        success_variance=spread.whole(share, info)[1],
        plays=dict(zip(mine, to_error_scale(main, list(mine.values())).tolist(), strict=True)),
        kinds=spread.source.repeats, shifts=spread.shifts.get((main.name, info.id), {}),
        model=spread.model(main, info), excess=spread.excess[main.name],
        shares_draws=shares_draws(spread.source),
    )  # fmt: skip


def _nearest(
    cells: Sequence[CellInfo], played: Values, main: PredictedMetric, share: PredictedMetric
) -> list[CellInfo]:
    """Return the settings near the best of those that succeed most, the best first."""
    means = {cell: mean_on_error_scale(main, each) for cell, each in played[main.name].items()}
    means = {cell: mean for cell, mean in means.items() if math.isfinite(mean)}
    shares = {cell: float(np.mean(list(played[share.name][cell].values()))) for cell in means}
    most = max(shares.values(), default=0.0)
    good = {cell: mean for cell, mean in means.items() if shares[cell] >= most - _NEAR_SUCCESS}
    best = min(good.values(), default=0.0)
    near = [cell for cell in cells if good.get(cell.id, math.inf) <= best + _NEAR]
    return sorted(near, key=lambda cell: means[cell.id])[:_MOST_NEAR]


def _work(
    twin: TwinPlays, cells: Sequence[CellInfo], kinds: Sequence[int], repeats: int
) -> dict[int, float]:
    """Return the work of each repeat of the run, compared with that of some."""
    main = twin.metrics[0]
    values = twin.play(cells, range(repeats))[main.name]
    logs = [
        {at: float(to_error_scale(main, [value])[0]) for at, value in each.items()}
        for each in values.values()
    ]
    found = {}
    for repeat in range(repeats):
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
