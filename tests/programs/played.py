"""Plays scenarios in virtual time and returns their records."""

from __future__ import annotations

from typing import Any

from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.virtual import Task, opening, play
from harness.records.clock import Anchor
from harness.records.schema import SCHEMA, CellInfo, Run, Stop
from harness.simulator.profiles import load_profile
from harness.store.run_directory import TrialRecords

PROFILE = "deepseek-reasoner"


def scenario(workflow: dict[str, Any], **parts: Any) -> Scenario:
    """Return a scenario in virtual time. `parts`: its other sections, without the endpoint."""
    override = parts.pop("override", {})
    endpoint: dict[str, Any] = {"profile": PROFILE, "time": "virtual", "override": override}
    if "faults" in parts:
        endpoint["faults"] = parts.pop("faults")
    given = {"name": "own", "workflow": {"topics": ["tides", "deltas"], **workflow}}
    return Scenario.model_validate({**given, "endpoint": endpoint, **parts})


def play_all(read: Scenario) -> dict[str, TrialRecords]:
    """Play the first trial of each cell; return its records by the name of the cell."""
    found = {}
    for cell in cells.expand(read):
        records, stopped = play_cell(read, cell)
        assert stopped is None, stopped
        found[cell.id] = records
    return found


def play_cell(read: Scenario, cell: CellInfo) -> tuple[TrialRecords, Stop | None]:
    """Play the first trial of a cell; return its records, and why it ended early."""
    simulation = read.endpoint.facts.simulation
    assert simulation is not None
    profile = load_profile(simulation.profile, simulation.overrides).as_dict()
    run = Run(
        schema=SCHEMA, run_id="0" * 32, name=read.name, status="running",
        anchor=Anchor(unix_ns=0, monotonic_ns=0), seed=0, simulated=True, time_scale=1.0,
        cells=cells.expand(read), repeats=1, order=(), scenario=read.as_dict(), profile=profile,
        versions={}, host={}, virtual=True,
    )  # fmt: skip
    begun = RunProgress(read, run)
    played = play(begun, Task(0, cell, 0), opening(begun), lambda _: None)
    return played.records(), played.stopped
