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
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.analysis.cells import ByRepeat
from harness.analysis.selection import Dataset
from harness.bench.scenario import Scenario, cell_scenario
from harness.config.validation_messages import one_line
from harness.records.errors import InputError
from harness.records.keys import WARM_UP
from harness.records.schema import CellInfo, Run
from harness.records.settings import split_key
from harness.simulator.profiles import Profile
from harness.simulator.virtual.provider import GivenLengths
from harness.store.columns import CallTable
from harness.store.run_directory import Records
from harness.twin.fault_fit import FaultFit
from harness.twin.fit import ProviderFit, fit_observations
from harness.twin.fitted_parts import fitted_parts
from harness.twin.observations import Floats, Observations, observe
from harness.twin.predicted_metrics import PREDICTED, PredictedMetric, Values, values_of
from harness.twin.prediction import LeftOutSetting, PredictedCell, PredictedValue, Prediction
from harness.twin.prediction_error import (
    distance,
    excess_variance,
    freedom_of,
    from_error_scale,
    half_width,
    model_variance,
    to_error_scale,
)
from harness.twin.profile_text import UNFITTED, TwinHead, twin_text
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
_MOST_LEFT_OUT = 12
_LEAVE_OUT_ATTEMPTS = 50_000
_WHERE = "run.json"
_SOURCE_CALLS = 40_000
"""Calls of a run that a prediction plays with their lengths; of more, those of the first repeats.
That a prediction is of the same repeats as what was measured matters more than how many they are.
"""
_BOOTSTRAP_CALLS = 300_000
_FEWEST_BOOTSTRAPS = 10
"""Bootstraps whose trials are long are fewer, as each plays one trial of each setting at least."""
_SOURCE_ATTEMPTS = 1_500
"""Attempts of a run that a bootstrap plays again; of more, the first repeats."""


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
    runs: Sequence[Records], changes: Sequence[str] = (), *, of: Records | None = None,
    seed: int = 1, bootstraps: int = BOOTSTRAPS,
) -> Prediction:  # fmt: skip
    """Return what a twin of some runs predicts of the first run's scenario with some changes.

    `changes`: `dotted.key=value`. `of`: predict the settings and the work of this run instead.
    Raises InputError if the records have too little, or if virtual time does not have the scenario.
    """
    seen = observe(runs)
    fit = fit_observations(seen)
    profile = profile_of(fit)
    sources = [_source(records, profile, _SOURCE_CALLS) for records in runs]
    asked = sources[0] if of is None else _source(of, profile, len(of.calls))
    scenario = _scenario(asked.records.run, changes)
    twin = twin_scenario(scenario, profile, asked.records.run)
    lengths = asked.lengths.of_trial if of is not None else _lengths_of_work(asked, twin.cells)
    work, whole = _calls_of_trial(asked) * len(twin.cells), asked.repeats
    repeats = _rounded(_POINT_CALLS / work, whole)
    played = play_at_twin(twin, repeats, seed, lengths)
    _require_lengths(scenario, fit, played)
    point = values_of(played)
    notes = [*_notes(runs, scenario, changes, played, lengths), *_notes_of_check(runs, of)]
    few = min(repeats, math.ceil(_REPLICATE_CALLS / work))
    bootstraps = _affordable(bootstraps, few * work + sum(map(_calls_of_repeat, sources)))
    shifts = _bootstrap(sources, twin, lengths, fit, few, seed, bootstraps)
    errors, excess = _leave_out(sources, seen, repeats, seed)
    permits = [cell.permits for records in runs for cell in records.run.cells]
    trials_fitted = sum(len(records.trials) for records in runs)
    cells = []
    for info in twin.cells:
        beyond, far = _beyond(info, permits), distance(info.permits, permits)
        values = {}
        for metric in PREDICTED:
            trials: ByRepeat = point[metric.name].get(info.id, {})
            real = asked.measured[metric.name].get(info.id, {})
            if of is not None:
                trials = _of_same_work(trials, real, whole)
            if trials:
                moved = shifts.get((metric.name, info.id), np.zeros(0))
                left_out = _relevant(errors[metric.name], beyond)
                model = model_variance(left_out, far, bool(beyond))
                more = excess[metric.name]
                values[metric.name] = _value(
                    metric, trials, moved, model, more / max(trials_fitted, 1), more, whole, real
                )
        cells.append(PredictedCell(info, values, beyond))
    unknown = [text for part in fitted_parts(fit) for text in part.unknown]
    return Prediction(
        twin.scenario.name, runs[0].run.simulated, len(seen), tuple(cells), errors, repeats,
        bootstraps, (*unknown, UNFITTED), tuple(notes),
        scenario.slo.success_rate, scenario.objective.success_margin, scenario.objective.minimise,
        runs[0].run.cells,
    )  # fmt: skip


def _scenario(run: Run, changes: Sequence[str]) -> Scenario:
    return at_twin(run.scenario, changes, _WHERE, run.price)


def _affordable(bootstraps: int, calls: float) -> int:
    """Return how many bootstraps there are if each plays so many calls."""
    return min(bootstraps, max(_FEWEST_BOOTSTRAPS, int(_BOOTSTRAP_CALLS / calls)))


def _calls_of_repeat(source: _Source) -> float:
    return _calls_of_trial(source) * len(source.twin.cells)


def _source(records: Records, profile: Mapping[str, Any], most_calls: int) -> _Source:
    """Return a run at the twin. `most_calls`: of more, only the first repeats are taken."""
    dataset = Dataset.of(records)
    scenario = _scenario(records.run, ())
    twin = twin_scenario(scenario, profile, records.run)
    repeats = _repeats_of(records)
    kept = max(2, repeats * most_calls // max(len(records.calls), 1))
    seen, measured = observe([records]), values_of(dataset)
    if kept < repeats:
        repeats, seen = kept, seen.take(seen.repeat < kept)
        measured = {
            metric: {
                cell: {at: value for at, value in values.items() if at < kept}
                for cell, values in cells.items()
            }
            for metric, cells in measured.items()
        }
    return _Source(dataset, twin, recorded_lengths(seen), measured, repeats)


def _repeats_of(records: Records) -> int:
    return max((trial.repeat for trial in records.trials), default=0) + 1


def _calls_of_trial(source: _Source) -> float:
    return max(1.0, len(source.records.calls) / max(len(source.records.trials), 1))


def _rounded(repeats: float, whole: int) -> int:
    """Return a multiple of the run's repeats, so that each counts equally often.

    Each is played twice at least, as the chance of a trial is what differs between those.
    """
    return whole * max(2, min(math.ceil(repeats / whole), math.ceil(_MOST_REPEATS / whole)))


def _require_lengths(scenario: Scenario, fit: ProviderFit, played: Dataset) -> None:
    """Raise InputError if the lengths of a phase that has calls would have to be invented."""
    known = {lengths.setting for lengths in fit.lengths}
    calls = played.calls
    assert isinstance(calls, CallTable), "it was made so"
    called = {calls.words.names[number] for number in np.unique(calls.column("phase")).tolist()}
    overridden = scenario.endpoint.model_dump().get("override", {}).get("phases", {})
    for phase in scenario.plan.phases:
        is_known = phase.setting in known or phase.name not in called
        if not is_known and phase.setting not in overridden:
            raise InputError(
                f"no answer of phase {phase.setting} was recorded, so its length would have to be "
                "invented; give a run that has some, or lengths of your own: --set "
                f"'endpoint.override.phases.{phase.setting}="
                "{answer_tokens = {median = 300, sigma = 0.5}}'"
            )


def _lengths_of_work(source: _Source, cells: Sequence[CellInfo]) -> LengthsOf:
    """Return the lengths of predicted cells: those of measured ones with the same swept keys."""
    measured = source.records.run.cells
    like = {
        cell.id: [one.id for one in measured if _work_of(one) == _work_of(cell)] for cell in cells
    }
    return lambda cell, repeat, topics: source.lengths.of_work(like[cell], repeat, topics)


def _work_of(cell: CellInfo) -> dict[str, Any]:
    """Return the settings that can change what is asked."""
    return {key: value for key, value in cell.settings.items() if split_key(key)[0] != "retry"}


def _notes(
    runs: Sequence[Records], scenario: Scenario, changes: Sequence[str], played: Dataset,
    lengths: LengthsOf,
) -> tuple[str, ...]:  # fmt: skip
    """Return what has to be known of a prediction beside its values."""
    notes = []
    calls = played.calls
    assert isinstance(calls, CallTable), "it was made so"
    calls = calls.take(~calls.where("phase", WARM_UP.__eq__))
    drawn, trial = 0, None
    given: GivenLengths = {}
    topics = {cell.id: _topics_of(scenario, cell) for cell in played.run.cells}
    names = calls.words.names
    columns = ("cell", "repeat", "workflow", "phase", "branch", "call")
    for row in zip(*(calls.column(name).tolist() for name in columns), strict=True):
        cell, repeat, workflow, phase, branch, call = row
        if trial != (cell, repeat):
            trial, name = (cell, repeat), names[cell] or ""
            given = lengths(name, repeat, topics[name])
        drawn += (workflow, names[phase], branch if branch >= 0 else None, call) not in given
    if drawn:
        share = max(drawn / len(calls), 0.001)
        notes.append(
            f"{share:.1%} of the calls have no recorded length; theirs are drawn from the fitted "
            "distributions"
        )
    threads = any("threads" in records.run.scenario["sweep"]["mode"] for records in runs)
    if threads and not any(change.startswith("sweep.mode") for change in changes):
        notes.append("threads are predicted as async, because virtual time has no threads")
    failed = [one.error for one in played.workflows if one.error is not None]
    if failed and scenario.workflow.kind == "program":
        share = max(len(failed) / len(played.workflows), 0.001)
        notes.append(one_line(
            f"{share:.1%} of the predicted workflows end with an error of the program, for example "
            f"{failed[0]}"
        ))  # fmt: skip
    return tuple(notes)


def _notes_of_check(runs: Sequence[Records], of: Records | None) -> Iterator[str]:
    """Yield why a check against a run says less than it seems to."""
    if of is None:
        return
    if of.run.run_id in {records.run.run_id for records in runs}:
        yield (
            f"the twin was fitted to run {of.run.name} itself, so this shows how well it fits, and "
            "not how well it predicts"
        )
    elif of.run.simulated and of.run.seed in {records.run.seed for records in runs}:
        yield (
            f"both runs drew with seed {of.run.seed} at a simulated provider, so their calls are "
            "more alike than those of two runs of a real provider; run one with another seed"
        )


def _topics_of(scenario: Scenario, cell: CellInfo) -> list[str]:
    mine = cell_scenario(scenario, cell)
    every = mine.workflow.topics
    return [every[at % len(every)] for at in range(mine.load.workflows)]


def _beyond(info: CellInfo, measured: Sequence[int]) -> str:
    low, high = min(measured), max(measured)
    if info.permits > high:
        return f"{info.permits} permits are more than the {high} that were measured"
    if info.permits < low:
        return f"{info.permits} permits are fewer than the {low} that were measured"
    return ""


def _mean(metric: PredictedMetric, values: Mapping[int, float]) -> float:
    """Return the mean of a metric over repeats, on the scale of errors; nan for no value."""
    kept = list(values.values())
    return float(to_error_scale(metric, [float(np.mean(kept))])[0]) if kept else math.nan


def _bootstrap(
    sources: Sequence[_Source], twin: TwinScenario, lengths: LengthsOf, fit: ProviderFit,
    repeats: int, seed: int, bootstraps: int,
) -> Mapping[tuple[str, str], Floats]:  # fmt: skip
    """Return by how much the predictions of refitted twins differ, by metric and cell.

    All of them play the same draws, so that the differences come from the fits.
    """
    origin = profile_of(_cautious(fit, sources))
    base = values_of(play_at_twin(twin.with_profile(origin), repeats, seed, lengths))
    shifts: dict[tuple[str, str], list[float]] = {}
    for number in range(bootstraps):
        try:
            again, scale = _played_again(sources, origin, seed + 1000 + number)
            profile = profile_of(fit_observations(observe(again)))
            played = play_at_twin(twin.with_profile(profile), repeats, seed, lengths)
        except InputError:
            continue  # too few attempts succeeded
        values = values_of(played)
        for metric in PREDICTED:
            for cell in base[metric.name]:
                mine = _mean(metric, values[metric.name].get(cell, {}))
                other = _mean(metric, base[metric.name][cell])
                shifts.setdefault((metric.name, cell), []).append((mine - other) * scale)
    return {key: np.array(each) for key, each in shifts.items()}


def _cautious(fit: ProviderFit, sources: Sequence[_Source]) -> ProviderFit:
    """Return the fit with the shares of its faults moved towards a half, by two failures of four.

    From a share that is small by chance, a bootstrap would tell too small an error (A. Agresti and
    B. A. Coull, Approximate is better than "exact" for interval estimation of binomial proportions,
    American Statistician 52, 1998). At a simulated provider, the settings of a run have the same
    draws, so that its attempts are fewer independent ones.
    """
    same = max(len(source.twin.cells) if _shares_draws(source) else 1 for source in sources)

    def moved(fault: FaultFit) -> FaultFit:
        if not fault.has_share or fault.burst is not None:
            return fault
        tried = fault.of / same
        return replace(fault, share=(fault.share * tried + 2) / (tried + 4))

    faults = replace(fit.faults, faults=tuple(map(moved, fit.faults.faults)))
    return replace(fit, faults=faults)


def _shares_draws(source: _Source) -> bool:
    return source.records.run.simulated


def _played_again(
    sources: Sequence[_Source], profile: Mapping[str, Any], seed: int
) -> tuple[list[Records], float]:
    """Return the runs as a twin plays them, and the factor that their errors have.

    Of a long run, only the first repeats are played: the errors of a fit to the whole are smaller
    by the root of the share.
    """
    attempts = sum(len(source.records.attempts) for source in sources)
    share = min(1.0, _SOURCE_ATTEMPTS / max(attempts, 1))
    again: list[Records] = []
    for source in sources:
        repeats = max(1, round(_repeats_of(source.records) * share))
        again.append(
            play_at_twin(
                source.twin.with_profile(profile), repeats, seed, source.lengths.of_trial,
                shares_draws=_shares_draws(source),
            )
        )  # fmt: skip
    played = sum(len(one.attempts) for one in again)
    return again, min(1.0, math.sqrt(played / max(attempts, 1)))


@dataclass(frozen=True)
class _LeftOut:
    """What the others predict of a setting: `mine` by repeat; and what was measured, `real`."""

    cell: str
    mine: Mapping[int, float]
    real: Mapping[int, float]
    whole: int
    is_inside: bool
    distance: float


def _leave_out(
    sources: Sequence[_Source], seen: Observations, repeats: int, seed: int
) -> tuple[dict[str, list[LeftOutSetting]], dict[str, float]]:
    """Return the errors of the settings of the runs, each predicted by a fit to the others.

    Then by how much the trials of a setting vary more than at the twin. Both by metric.
    """
    found: dict[str, list[_LeftOut]] = {metric.name: [] for metric in PREDICTED}
    kept = _first_trials(seen)
    every = [
        (source, info)
        for source in sources
        for info in source.records.run.cells
        if info.id in kept.cells and info.id in {one.id for one in source.twin.cells}
    ]
    for source, info in every[:: math.ceil(max(len(every), 1) / _MOST_LEFT_OUT)]:
        others = [one.permits for _, one in every if one is not info]
        rows = kept.cell != kept.cells.index(info.id)
        if not others or not rows.any():
            continue
        try:
            profile = profile_of(fit_observations(kept.take(rows)))
            twin = source.twin.with_profile(profile)
            lengths = source.lengths.of_trial
            values = values_of(play_at_twin(twin, repeats, seed, lengths, [info.id]))
        except InputError:
            continue
        inside, far = not _beyond(info, others), distance(info.permits, others)
        for metric in PREDICTED:
            real = source.measured[metric.name].get(info.id, {})
            mine = _of_same_work(values[metric.name].get(info.id, {}), real, source.repeats)
            if mine and all(_has_ratio(metric, each.values()) for each in (mine, real)):
                left = _LeftOut(info.id, mine, real, source.repeats, inside, far)
                found[metric.name].append(left)
    errors: dict[str, list[LeftOutSetting]] = {}
    excess: dict[str, float] = {}
    for metric in PREDICTED:
        every_left = found[metric.name]
        excess[metric.name] = excess_variance([
            (_differences(metric, one), trial_variance(metric, one.mine, one.whole))
            for one in every_left
        ])  # fmt: skip
        errors[metric.name] = [_left_out(metric, one, excess[metric.name]) for one in every_left]
    return errors, excess


def _differences(metric: PredictedMetric, one: _LeftOut) -> Floats:
    """Return predicted minus measured in each repeat, which has its own lengths."""
    return np.array([
        _mean(metric, {at: mine for at, mine in one.mine.items() if at % one.whole == repeat})
        - _mean(metric, {repeat: real})
        for repeat, real in one.real.items()
        if any(at % one.whole == repeat for at in one.mine)
    ])  # fmt: skip


def _left_out(metric: PredictedMetric, one: _LeftOut, excess: float) -> LeftOutSetting:
    variance = trial_variance(metric, one.mine, one.whole)
    noise = (variance + excess) / len(one.real) + variance / len(one.mine)
    error = _mean(metric, one.mine) - _mean(metric, one.real)
    return LeftOutSetting(one.cell, error, noise, one.is_inside, one.distance)


def _first_trials(seen: Observations) -> Observations:
    """Return the attempts of the first trials of a long run, so that fits to them are fast."""
    if len(seen) <= _LEAVE_OUT_ATTEMPTS:
        return seen
    repeats = np.bincount(seen.repeat)
    enough = int(np.searchsorted(np.cumsum(repeats), _LEAVE_OUT_ATTEMPTS)) + 1
    return seen.take(seen.repeat < enough)


def _of_same_work(values: ByRepeat, measured: Mapping[int, float], whole: int) -> ByRepeat:
    """Return the values of those repeats whose work has a measured value.

    A run that was stopped has more repeats of some settings than of others.
    """
    return {repeat: value for repeat, value in values.items() if repeat % whole in measured}


def _has_ratio(metric: PredictedMetric, values: Collection[float]) -> bool:
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


def _relevant(errors: Sequence[LeftOutSetting], beyond: str) -> Sequence[LeftOutSetting]:
    """Return the errors that say how near a prediction is: those like it, if there are any."""
    inside = [one for one in errors if one.is_inside]
    return inside if inside and not beyond else errors


def _value(
    metric: PredictedMetric, trials: Mapping[int, float], shifts: Floats,
    model: tuple[float, float], common: float, excess: float, whole: int,
    measured: Mapping[int, float],
) -> PredictedValue:  # fmt: skip
    """Return the mean of trials with its interval.

    `shifts`: of the refitted twins. `model`: the variance of its error, and degrees of freedom.
    `common`: the variance that the speed of the provider in the fitted trials adds. `excess`: by
    which a trial varies more than at the twin.
    """
    mean = float(np.mean(list(measured.values()))) if measured else None
    if not _has_ratio(metric, trials.values()):
        return PredictedValue(0.0, 0.0, 0.0, 0.0, math.inf, 0.0, mean)
    middle, spread = _mean(metric, trials), trial_variance(metric, trials, whole)
    shifts = shifts[np.isfinite(shifts)]
    fit = spread / len(trials) + (float(np.mean(shifts**2)) if len(shifts) else 0.0) + common
    error, freedom = model
    known = freedom_of(fit, error, freedom)
    half = half_width(fit + error, known)
    value, low, high = (
        from_error_scale(metric, at) for at in (middle, middle - half, middle + half)
    )
    return PredictedValue(
        value, low, high, fit + error, known, spread + excess, mean,
    )  # fmt: skip
