"""Runs that a twin is fitted to, at that twin."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.selection import Dataset
from harness.bench.scenario import Scenario
from harness.records.schema import Run
from harness.simulator.profiles import Profile
from harness.store.run_directory import Records
from harness.twin.fit import ProviderFit
from harness.twin.fitted_parts import fitted_parts
from harness.twin.observations import observe
from harness.twin.predicted_metrics import Values, values_of
from harness.twin.profile_text import TwinHead, twin_text
from harness.twin.recorded_lengths import RecordedLengths, recorded_lengths
from harness.twin.twin_trials import (
    TwinScenario,
    at_twin,
    played_as,
    twin_scenario,
)

_WHERE = "run.json"


@dataclass(frozen=True)
class FittedRun:
    """A run that the twin is fitted to: at the twin, with its lengths and its values.

    `repeats`: the number of its repeats. `trials`: those of each setting that was measured; `twin`
    has no other settings.
    """

    records: Records
    twin: TwinScenario
    lengths: RecordedLengths
    measured: Values
    repeats: int
    trials: Mapping[str, Sequence[int]]


def profile_of(fit: ProviderFit) -> dict[str, Any]:
    """Return the profile that a fit gives, as plain values."""
    text = twin_text(fitted_parts(fit), TwinHead("twin", "fitted", "records", "2000-01-01"))
    return Profile.model_validate(tomllib.loads(text)).as_dict()


def fitted_run(records: Records, profile: Mapping[str, Any], most_calls: int) -> FittedRun:
    """Return a run at the twin. `most_calls`: of more, only the first repeats are taken."""
    dataset = Dataset.of(records)
    scenario = scenario_at_twin(records.run, ())
    twin = twin_scenario(scenario, profile, records.run)
    repeats = repeats_in(records)
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
    trials = _trials_at_twin(dataset, twin, repeats)
    twin = twin.with_cells([cell for cell in twin.cells if cell.id in trials])
    return FittedRun(dataset, twin, recorded_lengths(seen), measured, repeats, trials)


def _trials_at_twin(
    records: Records, twin: TwinScenario, repeats: int
) -> Mapping[str, Sequence[int]]:
    """Return the repeats that each setting was measured in, by its id at the twin."""
    found: dict[str, set[int]] = {}
    played = {played_as(cell): cell.id for cell in twin.cells}
    cells = {cell.id: played.get(played_as(cell)) for cell in records.run.cells}
    for trial in records.trials:
        cell = cells[trial.cell]
        if cell is not None and trial.repeat < repeats:
            found.setdefault(cell, set()).add(trial.repeat)
    return {cell: sorted(mine) for cell, mine in found.items()}


def scenario_at_twin(run: Run, changes: Sequence[str]) -> Scenario:
    """Return the changed scenario of a run, at a twin. Raises InputError."""
    return at_twin(run.scenario, changes, _WHERE, run.price)


def repeats_in(records: Records) -> int:
    """Return the number of repeats that have a trial."""
    return max((trial.repeat for trial in records.trials), default=0) + 1


def calls_of_trial(source: FittedRun) -> float:
    """Return the mean number of calls of a trial, at least 1."""
    return max(1.0, len(source.records.calls) / max(len(source.records.trials), 1))


def calls_of_repeat(source: FittedRun) -> float:
    """Return the calls of one repeat of all settings that virtual time has."""
    return calls_of_trial(source) * len(source.twin.cells)


def shares_draws(source: FittedRun) -> bool:
    """Return whether all settings met the same draws, as at a simulated provider."""
    return source.records.run.simulated


def run_label(run: Run) -> str:
    """Return the name of a run with the first digits of its id."""
    return f"{run.name} ({run.run_id[:8]})"
