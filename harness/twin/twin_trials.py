"""Trials of a scenario at a twin: played in virtual time, and kept in memory."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.analysis.selection import Dataset
from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.runner import describe_run
from harness.bench.scenario import Scenario, cell_scenario
from harness.bench.scenario_file import apply_override, validated
from harness.bench.virtual import Task, opening, play
from harness.config.validation_messages import one_line
from harness.records.errors import InputError
from harness.records.schema import CellInfo, Run, Trial, Workflow
from harness.simulator.profiles import overridden_profile
from harness.simulator.virtual.provider import GivenLengths
from harness.store.column_values import Words
from harness.store.trial_files import StoredTrial, new_tables

_KEPT = ("model", "stream")
"""Keys of `[endpoint]` that a prediction takes from the run."""
_BETWEEN_SEEDS = 1_000_003
_MODE = {"threads": "async"}
"""The mode that stands for a mode that virtual time does not have."""
LengthsOf = Callable[[str, int, Sequence[str]], GivenLengths]
"""The lengths for a trial, by cell, repeat and the topics of its workflows."""


@dataclass(frozen=True)
class TwinScenario:
    """A scenario at a twin; `run`: the record of a run of it, with the profile of each cell."""

    scenario: Scenario
    run: Run

    @property
    def cells(self) -> tuple[CellInfo, ...]:
        """The settings that are predicted."""
        return self.run.cells

    def with_profile(self, profile: Mapping[str, Any]) -> TwinScenario:
        """Return the same scenario at another twin. `profile`: as in `twin_scenario`."""
        profiles = {}
        for cell in self.cells:
            simulation = cell_scenario(self.scenario, cell).endpoint.facts.simulation
            overrides = simulation.overrides if simulation is not None else {}
            values = copy.deepcopy(dict(profile))
            changed = overridden_profile(values, overrides, "the twin", "endpoint.override.")
            profiles[cell.id] = changed.as_dict()
        run = msgspec.structs.replace(self.run, profile=dict(profile), profiles=profiles)
        return TwinScenario(self.scenario, run)


def at_twin(values: Mapping[str, Any], changes: Sequence[str], where: str) -> Scenario:
    """Return the scenario of a run, changed, at a simulated provider in virtual time.

    `changes`: `dotted.key=value`. Raises InputError for a scenario that virtual time does not have.
    """
    endpoint = {key: values["endpoint"][key] for key in _KEPT if values["endpoint"].get(key)}
    endpoint["stream"] = values["endpoint"].get("stream", True)
    endpoint |= {"kind": "simulated", "time": "virtual"}
    moved = {**values, "endpoint": endpoint, "budget": {}, "records": "summary"}
    moved["transcripts"] = False
    sweep = dict(values["sweep"])
    sweep["mode"] = list(dict.fromkeys(_MODE.get(mode, mode) for mode in sweep["mode"]))
    moved["sweep"] = sweep
    for change in changes:
        apply_override(moved, change)
    return validated(moved, where, changes)


def twin_scenario(scenario: Scenario, profile: Mapping[str, Any], of: Run) -> TwinScenario:
    """Return a scenario at a twin, whose tokens cost what they cost in a run.

    `profile`: as plain values. Keys of `endpoint.override` and `endpoint.faults` replace its own.
    Raises InputError if they are invalid.
    """
    swept = cells.expand(scenario)
    run = describe_run(scenario, {}, swept, cells.order(swept, 1, scenario.seed))
    run = msgspec.structs.replace(run, simulated=True, price=of.price, prices={})
    return TwinScenario(scenario, run).with_profile(profile)


def play_at_twin(
    twin: TwinScenario, repeats: int, seed: int, lengths: LengthsOf, chosen: Sequence[str] = (),
    *, shares_draws: bool = True,
) -> Dataset:  # fmt: skip
    """Return the records of trials. `seed`: of all that is drawn.

    `chosen`: the ids of the cells to play, all if empty. `shares_draws`: whether all cells have the
    same draws, as at a simulated provider.
    """
    swept = [cell for cell in twin.cells if not chosen or cell.id in chosen]
    order = (tuple(cell.id for cell in swept),) * repeats
    run = msgspec.structs.replace(
        twin.run, cells=tuple(swept), repeats=repeats, seed=seed, order=order
    )
    attempts, calls = new_tables(Words())
    workflows: list[Workflow] = []
    trials: list[Trial] = []
    number = 0
    for place, cell in enumerate(swept):
        own_seed = seed if shares_draws else seed + _BETWEEN_SEEDS * place
        scenario = twin.scenario.model_copy(update={"seed": own_seed})
        begun = RunProgress(scenario, run, output=Path(os.devnull))
        account = opening(begun)
        mine = cell_scenario(scenario, cell)
        every = mine.workflow.topics
        topics = [every[at % len(every)] for at in range(mine.load.workflows)]
        for repeat in range(repeats):
            given = lengths(cell.id, repeat, topics)
            played = play(begun, Task(number, cell, repeat), account, _ignore, lengths=given)
            number += 1
            if played.stopped is not None:
                raise InputError(one_line(f"{cell.id}: {played.stopped.because}"))
            assert played.file is not None, "the scenario keeps what statistics need"
            stored = StoredTrial(played.file)
            stored.add_to(attempts, calls)
            workflows += stored.workflows()
            trials.append(played.trial)
    return Dataset(run, attempts.table(), calls.table(), workflows, trials, None)


def _ignore(_: object) -> None:
    """Show no progress within a trial."""
