"""`harness run`: from a scenario file to records, spans, a summary, plots and a table.

What a step needs is imported before that step, so that a rejected scenario is reported fast.
"""

from __future__ import annotations

import argparse

from harness.bench.scenario import load_scenario
from harness.config import shipped_scenarios
from harness.records.errors import InputError


def run_scenario(options: argparse.Namespace) -> int:
    """Run the scenario that the options name, or resume a run, and show the results."""
    if options.resume:
        from harness.cli.execute import resume_run

        return resume_run(options)
    if options.scenario is None:
        raise InputError("run: no scenario; give one, or resume a run with --resume RUN")
    scenario = load_scenario(shipped_scenarios.find(options.scenario), options.set)

    from harness.cli.plan import estimate_run, profiles_of, show_plan

    profiles = profiles_of(scenario, options.scenario)
    expected = estimate_run(scenario, profiles)
    if options.dry_run:
        if not options.quiet:
            show_plan(scenario, expected, options.json)
        return 0

    from harness.cli.execute import start_run

    return start_run(scenario, profiles, expected, options)
