"""What has to be known of a prediction beside its values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.analysis.selection import Dataset
from harness.bench.scenario import Scenario, cell_scenario
from harness.config.validation_messages import one_line
from harness.records.errors import InputError
from harness.records.keys import WARM_UP
from harness.records.schema import CellInfo
from harness.simulator.virtual.provider import GivenLengths
from harness.store.columns import CallTable
from harness.store.run_directory import Records
from harness.twin.fit import ProviderFit
from harness.twin.twin_trials import (
    LengthsOf,
)


def require_lengths(scenario: Scenario, fit: ProviderFit, played: Dataset) -> None:
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


def notes_of_prediction(
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


def notes_of_check(runs: Sequence[Records], of: Records | None) -> Iterator[str]:
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
    return [every[at % len(every)] for at in range(mine.load.planned)]
