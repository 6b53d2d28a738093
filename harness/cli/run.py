"""`harness run`: from a scenario file to records, spans, a summary, plots and a table."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.bench import preflight
from harness.bench.cells import expand, scenarios_by_cell
from harness.bench.resume import changes, progress_of, require_profiles, with_budget
from harness.bench.scenario import Scenario, cell_scenario, load_scenario, swept_options
from harness.bench.virtual import processes
from harness.cli.execute import execute
from harness.cli.plan import confirm, estimate_run, show_plan
from harness.cli.views import warn
from harness.config import shipped_scenarios
from harness.config.dotenv import with_file
from harness.records.errors import InputError
from harness.simulator.profiles import Profile, load_profile
from harness.store.run_directory import RUN_FILE, require_run
from harness.store.run_lock import locked
from harness.telemetry.jaeger import require_address
from harness.telemetry.otlp_target import open_target
from harness.telemetry.resource import RESOURCE_VARIABLE, parse_pairs


def run_scenario(options: argparse.Namespace) -> int:
    """Run the scenario that the options name, or resume a run, and show the results."""
    if options.resume:
        return _resume(options)
    if options.scenario is None:
        raise InputError("run: no scenario; give one, or resume a run with --resume RUN")
    scenario = load_scenario(shipped_scenarios.find(options.scenario), options.set)
    profiles = _profiles(scenario, options.scenario)
    expected = estimate_run(scenario, profiles)
    if options.dry_run:
        if not options.quiet:
            show_plan(scenario, expected, options.json)
        return 0
    keys = _preflight(scenario, options)
    confirm(scenario, expected, options.yes, options.quiet)
    directory = preflight.run_directory(scenario.name, options.out)
    with locked(directory):
        return execute(scenario, _plain(profiles), keys, directory, options, None)


def _resume(options: argparse.Namespace) -> int:
    for name in ("scenario", "out", "dry_run"):
        if getattr(options, name):
            raise InputError(
                f"--resume {options.resume}: {name} cannot be given with it; the run has its own"
            )
    directory = require_run(options.resume, "--resume ")
    with locked(directory):
        progress = with_budget(progress_of(directory), options.set)
        scenario = progress.scenario
        profiles = _profiles(scenario, str(directory / RUN_FILE))
        require_profiles(progress.run, _plain(profiles))
        for line in changes(progress.run):
            warn(line)
        keys = _preflight(scenario, options)
        confirm(scenario, estimate_run(scenario, profiles), options.yes, options.quiet)
        return execute(scenario, _plain(profiles), keys, directory, options, progress)


def _preflight(scenario: Scenario, options: argparse.Namespace) -> dict[str, str]:
    """Check that the run can begin, and return the API keys of its endpoints by cell id."""
    processes(scenario, options.jobs)
    open_target(options.otlp, os.environ)
    require_address(os.environ)
    parse_pairs(RESOURCE_VARIABLE, os.environ.get(RESOURCE_VARIABLE, ""))
    own = scenarios_by_cell(scenario)
    keys = {}
    for cell, mine in own.items():
        variable = mine.endpoint.facts.key_variable
        environment = with_file(os.environ, Path(".env"), variable) if variable else os.environ
        keys[cell] = preflight.api_key(mine, environment)
    if not scenario.is_virtual:
        preflight.open_files(scenario)
    if not options.no_preflight:
        endpoints = {mine.endpoint.model_dump_json(): mine.endpoint for mine in own.values()}
        for endpoint in endpoints.values():
            endpoint.check()
    return keys


def _profiles(scenario: Scenario, where: str) -> dict[str, Profile]:
    """Return the profile of the simulated provider by cell id; `where`: the file, for errors."""
    profiles = {}
    for cell in expand(scenario):
        simulation = cell_scenario(scenario, cell).endpoint.facts.simulation
        if simulation is None:
            continue
        try:
            profiles[cell.id] = load_profile(
                simulation.profile, simulation.overrides, "endpoint.override."
            )
        except InputError as error:
            options = " and ".join(swept_options(scenario, cell, "endpoint"))
            raise InputError(f"{where}: {f'with {options}: ' * bool(options)}{error}") from None
    return profiles


def _plain(profiles: Mapping[str, Profile]) -> dict[str, dict[str, Any]]:
    return {cell: profile.as_dict() for cell, profile in profiles.items()}
