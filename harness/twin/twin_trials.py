"""Trials of a scenario at a twin: played in virtual time, and kept in memory."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from harness.bench.trial import INTERRUPTED
from harness.bench.virtual import Task, opening, play
from harness.config.tables import parse_override
from harness.config.validation_messages import one_line
from harness.records.errors import InputError
from harness.records.schema import CellInfo, Run, Trial, Workflow
from harness.records.settings import join_key, split_key
from harness.simulator.profiles import overridden_profile
from harness.simulator.virtual.provider import GivenLengths
from harness.store.column_values import Words
from harness.store.trial_files import StoredTrial, new_tables

_KEPT = ("model", "stream")
"""Keys of `[endpoint]` that a prediction takes from the run."""
_CHANGED = ("override", "faults", "stream", "price")
"""Keys of `[endpoint]` that a prediction can change. The others name the provider."""
_PRICES = ("input", "cached", "output", "reasoning")
_REFUSED: Mapping[tuple[str, ...], str] = {
    ("budget",): "a prediction sends nothing and has no budget; leave it out",
    ("records",): "a prediction leaves no records; leave it out",
    ("transcripts",): "a prediction leaves no transcripts; leave it out",
    ("seed",): "a prediction draws by --seed; give that",
    ("sweep", "repeats"): "a prediction is a mean over as many repeats as it needs; leave it out",
    ("sweep", "max_repeats"): (
        "a prediction is a mean over as many repeats as it needs; leave it out"
    ),
}
"""Keys that would change nothing in a prediction, and the way out."""
_BETWEEN_SEEDS = 1_000_003
_MODE = {"threads": "async"}
"""The mode that stands for a mode that virtual time does not have."""
LengthsOf = Callable[[str, int, Sequence[str]], GivenLengths]
"""The lengths for a trial, by cell, repeat and the topics of its workflows."""
OnStep = Callable[[str], None]
"""What is told of a long computation: what is done next, in words."""


@dataclass(frozen=True)
class TwinScenario:
    """A scenario at a twin; `run`: the record of a run of it, with the profile of each cell."""

    scenario: Scenario
    run: Run

    @property
    def cells(self) -> tuple[CellInfo, ...]:
        """The settings that are predicted."""
        return self.run.cells

    def with_cells(self, cells: Sequence[CellInfo]) -> TwinScenario:
        """Return the same scenario with some of its settings."""
        return TwinScenario(self.scenario, msgspec.structs.replace(self.run, cells=tuple(cells)))

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


def at_twin(
    values: Mapping[str, Any], changes: Sequence[str], where: str,
    price: Mapping[str, Any] | None = None,
) -> Scenario:  # fmt: skip
    """Return the scenario of a run, changed, at a simulated provider in virtual time.

    `changes`: `dotted.key=value`. `price`: of the run. Raises InputError for a scenario that
    virtual time does not have, and for a change that a prediction cannot have.
    """
    endpoint = {key: values["endpoint"][key] for key in _KEPT if values["endpoint"].get(key)}
    endpoint["stream"] = values["endpoint"].get("stream", True)
    endpoint |= {"kind": "simulated", "time": "virtual"}
    if price is not None:
        endpoint["price"] = {name: price[name] for name in _PRICES if price.get(name) is not None}
    moved = {**values, "endpoint": endpoint, "budget": {}, "records": "summary"}
    moved["transcripts"] = False
    sweep = dict(values["sweep"])
    sweep["mode"] = list(dict.fromkeys(_MODE.get(mode, mode) for mode in sweep["mode"]))
    moved["sweep"] = sweep
    for change in changes:
        _require_effect(change)
        apply_override(moved, change)
    if _kind_of(moved) != _kind_of(values) and moved.get("prompts") == values.get("prompts"):
        moved.pop("prompts", None)  # the texts of another kind, which no change has set
    return validated(moved, where, changes)


def _kind_of(values: Mapping[str, Any]) -> object:
    """Return the kind of workflow of a scenario that may be invalid."""
    workflow = values.get("workflow")
    return workflow.get("kind") if isinstance(workflow, Mapping) else None


def played_as(cell: CellInfo) -> str:
    """Return a text that is equal for settings that are the same one in virtual time."""
    mode = _MODE.get(cell.mode, cell.mode)
    return msgspec.json.encode(
        [mode, cell.permits, cell.limiter, cell.retry, cell.permit_scope, cell.settings],
        order="sorted",
    ).decode()


def _require_effect(change: str) -> None:
    """Raise InputError for a change of what a prediction takes from the twin, or has not."""
    for path in _changed_keys(*parse_override(change)):
        is_fixed = path[0] == "endpoint" and (len(path) < 2 or path[1] not in _CHANGED)
        why = (
            "the twin stands for the provider of the run; a prediction can change "
            f"{', '.join(f'endpoint.{name}' for name in _CHANGED)}"
            if is_fixed
            else next((why for key, why in _REFUSED.items() if path[: len(key)] == key), None)
        )
        if why is not None:
            raise InputError(one_line(f"--set {change}: {why}"))


def _changed_keys(key: str, value: Any) -> Iterator[tuple[str, ...]]:
    """Yield the parts of the keys that a change sets; those of swept keys without `sweep`."""
    try:
        path = split_key(key)
    except ValueError:
        return  # apply_override refuses it
    if path[0] == "sweep" and len(path) == 2 and "." in path[1]:
        yield from _changed_keys(path[1], None)
    elif path[0] == "sweep" and isinstance(value, Mapping):
        for name, each in value.items():
            yield from _changed_keys(join_key([*path, name]), each)
    else:
        yield tuple(path)


def twin_scenario(scenario: Scenario, profile: Mapping[str, Any], of: Run) -> TwinScenario:
    """Return a scenario at a twin, whose tokens cost what they cost in a run, when it began.

    A price that the scenario changed is taken instead.

    `profile`: as plain values. Keys of `endpoint.override` and `endpoint.faults` replace its own.
    Raises InputError if they are invalid.
    """
    swept = cells.expand(scenario)
    run = describe_run(scenario, {}, swept, cells.order(swept, 1, scenario.seed))
    run = msgspec.structs.replace(
        run, simulated=True, anchor=of.anchor, price=_price(run.price, of),
        prices={cell: _price(price, of) for cell, price in run.prices.items()},
    )  # fmt: skip
    return TwinScenario(scenario, run).with_profile(profile)


def _price(price: dict[str, Any] | None, of: Run) -> dict[str, Any] | None:
    """Return the price of a scenario, or that of the run if it is the same: that has its peaks."""
    if price is None or of.price is None:
        return price
    return of.price if all(price.get(name) == of.price.get(name) for name in _PRICES) else price


def play_at_twin(
    twin: TwinScenario, repeats: int | Mapping[str, Sequence[int]], seed: int, lengths: LengthsOf,
    chosen: Sequence[str] = (), *, shares_draws: bool = True,
) -> Dataset:  # fmt: skip
    """Return the records of trials. `seed`: of all that is drawn.

    `repeats`: their number, or the numbers of the repeats by cell. `chosen`: the ids of the cells
    to play, all if empty. `shares_draws`: whether all cells have the same draws, as at a simulated
    provider.
    """
    swept = [cell for cell in twin.cells if not chosen or cell.id in chosen]
    if isinstance(repeats, int):
        repeats = dict.fromkeys([cell.id for cell in swept], range(repeats))
    most = 1 + max((at for cell in swept for at in repeats[cell.id]), default=-1)
    order = tuple(tuple(cell.id for cell in swept if at in repeats[cell.id]) for at in range(most))
    run = msgspec.structs.replace(
        twin.run, cells=tuple(swept), repeats=most, seed=seed, order=order
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
        topics = [every[at % len(every)] for at in range(mine.load.planned)]
        for repeat in repeats[cell.id]:
            given = lengths(cell.id, repeat, topics)
            played = play(begun, Task(number, cell, repeat), account, ignore_step, lengths=given)
            number += 1
            if played.stopped == INTERRUPTED:
                raise KeyboardInterrupt
            if played.stopped is not None:
                raise InputError(one_line(f"{cell.id}: {played.stopped.because}"))
            assert played.file is not None, "the scenario keeps what statistics need"
            stored = StoredTrial(played.file)
            stored.add_to(attempts, calls)
            workflows += stored.workflows()
            trials.append(played.trial)
    return Dataset(run, attempts.table(), calls.table(), workflows, trials, None)


def ignore_step(_: object) -> None:
    """Show no progress."""
