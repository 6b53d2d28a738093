"""`harness run`: from a scenario file to records, spans, a summary, plots and a table.

What a step needs is imported before that step, so that a rejected scenario is reported fast.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from harness.bench.own_endpoint import OwnEndpoint, drop_former_endpoint
from harness.bench.scenario_file import load_scenario
from harness.config import shipped_scenarios
from harness.records.errors import InputError

if TYPE_CHECKING:
    from harness.bench.estimate import Estimate
    from harness.bench.scenario import Scenario


def own_endpoint(options: argparse.Namespace) -> OwnEndpoint | None:
    """Return the endpoint that the options name; None without one."""
    if options.endpoint is not None and options.model is not None:
        return OwnEndpoint(options.endpoint, options.model, options.api_key_env)
    if options.endpoint is not None:
        raise InputError(
            f"--endpoint {options.endpoint}: add --model with the server's name of the model, as "
            "GET URL/models lists it"
        )
    for option, value in (("--model", options.model), ("--api-key-env", options.api_key_env)):
        if value is not None:
            raise InputError(f"{option} {value}: add --endpoint with the base URL of the API")
    return None


def run_scenario(options: argparse.Namespace) -> int:
    """Run the scenario that the options name, or resume a run, and show the results."""
    return begin_or_resume(options, is_tune=False)


def begin_or_resume(options: argparse.Namespace, *, is_tune: bool) -> int:
    """Run the scenario that the options name, or resume a run, and return the exit code.

    `is_tune`: choose the trials while the run goes on.
    """
    if options.resume:
        from harness.cli.execute import resume_run

        return resume_run(options)
    if options.scenario is None:
        command = "tune" if is_tune else "run"
        raise InputError(f"{command}: no scenario; give one, or continue a run with --resume RUN")
    from harness.cli.plan import estimate_run, profiles_of, show_plan

    scenario, own, dropped = loaded(options)
    twin = None
    if is_tune:
        from harness.tune.candidates import tune_scenario

        scenario = tune_scenario(scenario, options.scenario, options.set)
        if options.twin is not None:
            from harness.tune.given_twin import given_profile

            twin = given_profile(options.twin, scenario)
    profiles = profiles_of(scenario, options.scenario)
    expected = estimate_run(scenario, profiles)
    if is_tune:
        from harness.bench.estimate import of_chosen_trials
        from harness.records.tune_blocks import TRIALS_A_BLOCK

        expected = of_chosen_trials(expected, TRIALS_A_BLOCK)
    announce(scenario, expected, own, dropped, quiet=options.quiet)
    if options.dry_run:
        if not options.quiet:
            show_plan(scenario, expected, options.json)
        return 0

    from harness.cli.execute import start_run

    return start_run(scenario, profiles, expected, options, is_tune=is_tune, twin=twin)


def loaded(options: argparse.Namespace) -> tuple[Scenario, OwnEndpoint | None, list[str]]:
    """Return the scenario that the options name, the endpoint that they name, and the keys of the
    scenario that this endpoint replaces. Raises InputError.
    """
    file = shipped_scenarios.find(options.scenario)
    own = own_endpoint(options)
    dropped: list[str] = []

    def change(values: dict[str, Any]) -> None:
        if own is not None:
            dropped.extend(drop_former_endpoint(values, own, options.set))

    settings = own.settings() if own is not None else []
    scenario = load_scenario(file, [*settings, *options.set], change)
    if scenario.workflow.is_gateway:
        raise InputError(
            f"{options.scenario}: workflow.kind = 'gateway' serves the requests of other programs; "
            f"start it with `harness gateway {options.scenario}`"
        )
    return scenario, own, dropped


def announce(
    scenario: Scenario, expected: Estimate, own: OwnEndpoint | None, dropped: list[str], *,
    quiet: bool,
) -> None:  # fmt: skip
    """Say what will be sent to the endpoint that the options name."""
    if own is None or quiet:
        return
    key = f"with the key in {own.key_variable}" if own.key_variable else "without an API key"
    gone = f"; without {', '.join(dropped)} of the scenario" if dropped else ""
    # If the calls are not known, one call of each workflow is counted.
    what = "calls" if scenario.workflow.knows_calls else "workflows"
    most = "at most " if expected.a_block is not None else ""
    said = f"{most}{expected.calls:,} {what} in real time to {own.base_url}, {key}{gone}"
    print(textwrap.fill(said, 80, break_on_hyphens=False), file=sys.stderr)
