"""The error of a fit: fits to runs that the twin plays again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.records.errors import InputError
from harness.store.run_directory import Records
from harness.twin.fault_fit import FaultFit
from harness.twin.fit import ProviderFit, fit_observations
from harness.twin.fitted_runs import FittedRun, profile_of, repeats_in, shares_draws
from harness.twin.observations import observe
from harness.twin.predicted_metrics import PREDICTED, values_of
from harness.twin.prediction_error import (
    FitError,
    differences_by_repeat,
    fit_error,
    mean_on_error_scale,
)
from harness.twin.twin_trials import (
    LengthsOf,
    OnStep,
    TwinScenario,
    ignore_step,
    play_at_twin,
)

_SOURCE_ATTEMPTS = 1_500
"""Attempts of a run that a bootstrap plays again; of more, the first repeats."""


@dataclass(frozen=True)
class Shift:
    """How far a refitted twin moved a prediction, on the scale on which errors are compared.

    `mean`: of the mean of all repeats. `each`: by repeat.
    """

    mean: float
    each: Mapping[int, float]

    def less(self, other: Shift) -> Shift:
        """Return how far it moved one prediction more than another."""
        common = {at: value - other.each[at] for at, value in self.each.items() if at in other.each}
        return Shift(self.mean - other.mean, common)


Shifts = Mapping[int, Shift]
"""How far each refitted twin moved a prediction, by the number of the twin."""


def bootstrap_errors(
    sources: Sequence[FittedRun], twin: TwinScenario, lengths: LengthsOf, fit: ProviderFit,
    repeats: int, seed: int, bootstraps: int, on_step: OnStep = ignore_step,
) -> Mapping[tuple[str, str], FitError]:  # fmt: skip
    """Return the errors of the predictions of refitted twins, by metric and cell."""
    found = bootstrap_shifts(sources, twin, lengths, fit, repeats, seed, bootstraps, on_step)
    return {key: error_of_shifts(shifts.values()) for key, shifts in found.items()}


def error_of_shifts(shifts: Iterable[Shift]) -> FitError:
    """Return the error of a prediction from the shifts of refitted twins.

    All of them play the same draws. Even so, a trial in which refusals decide can end differently
    after any change, however small. That chance is subtracted: it is not an error of the fit.
    """
    known = list(shifts)
    chances = [
        float(np.var(list(one.each.values()), ddof=1)) / len(one.each) if len(one.each) > 1 else 0.0
        for one in known
    ]
    return fit_error(np.array([one.mean for one in known]), np.array(chances))


def bootstrap_shifts(
    sources: Sequence[FittedRun], twin: TwinScenario, lengths: LengthsOf, fit: ProviderFit,
    repeats: int, seed: int, bootstraps: int, on_step: OnStep = ignore_step,
) -> Mapping[tuple[str, str], Shifts]:  # fmt: skip
    """Return how far refitted twins move the predictions, by metric and cell."""
    origin = profile_of(_cautious(fit, sources))
    base = values_of(play_at_twin(twin.with_profile(origin), repeats, seed, lengths))
    shifts: dict[tuple[str, str], dict[int, Shift]] = {}
    for number in range(bootstraps):
        on_step(f"intervals: fit {number + 1} of {bootstraps}")
        try:
            again, scale = _played_again(sources, origin, seed + 1000 + number)
            profile = profile_of(fit_observations(observe(again)))
            played = play_at_twin(twin.with_profile(profile), repeats, seed, lengths)
        except InputError:
            continue  # too few attempts succeeded
        values = values_of(played)
        for metric in PREDICTED:
            for cell in base[metric.name]:
                new, old = values[metric.name].get(cell, {}), base[metric.name][cell]
                moved = mean_on_error_scale(metric, new) - mean_on_error_scale(metric, old)
                if not math.isfinite(moved):
                    continue
                each = {
                    at: by * scale for at, by in differences_by_repeat(metric, new, old).items()
                }
                shifts.setdefault((metric.name, cell), {})[number] = Shift(moved * scale, each)
    return shifts


def _cautious(fit: ProviderFit, sources: Sequence[FittedRun]) -> ProviderFit:
    """Return the fit with the shares of its faults moved towards a half, by two failures of four.

    From a share that is small by chance, a bootstrap would tell too small an error (A. Agresti and
    B. A. Coull, Approximate is better than "exact" for interval estimation of binomial proportions,
    American Statistician 52, 1998). At a simulated provider, the settings of a run have the same
    draws, so that its attempts are fewer independent ones.
    """
    same = max(len(source.twin.cells) if shares_draws(source) else 1 for source in sources)

    def moved(fault: FaultFit) -> FaultFit:
        if not fault.has_share or fault.burst is not None:
            return fault
        tried = fault.of / same
        return replace(fault, share=(fault.share * tried + 2) / (tried + 4))

    faults = replace(fit.faults, faults=tuple(map(moved, fit.faults.faults)))
    return replace(fit, faults=faults)


def _played_again(
    sources: Sequence[FittedRun], profile: Mapping[str, Any], seed: int
) -> tuple[list[Records], float]:
    """Return the runs as a twin plays them, and the factor that their errors have.

    Of a long run, only the first repeats are played: the errors of a fit to the whole are smaller
    by the root of the share.
    """
    attempts = sum(len(source.records.attempts) for source in sources)
    share = min(1.0, _SOURCE_ATTEMPTS / max(attempts, 1))
    again: list[Records] = []
    for source in sources:
        trials = _first_repeats(source, share)
        again.append(
            play_at_twin(
                source.twin.with_profile(profile), trials, seed, source.lengths.of_trial,
                shares_draws=shares_draws(source),
            )
        )  # fmt: skip
    played = sum(len(one.attempts) for one in again)
    return again, min(1.0, math.sqrt(played / max(attempts, 1)))


def _first_repeats(source: FittedRun, share: float) -> Mapping[str, Sequence[int]]:
    """Return the first trials of each setting: this share of the repeats, at least one."""
    repeats = max(1, round(repeats_in(source.records) * share))
    return {
        cell: [at for at in mine if at < repeats] or mine[:1]
        for cell, mine in source.trials.items()
    }
