"""`harness tune`: finds the best setting of a scenario with few requests."""

from __future__ import annotations

import argparse

from harness.records.errors import InputError


def tune(options: argparse.Namespace) -> int:
    """Tune the scenario that the options name, or continue a tune, and show the results."""
    if options.resume:
        from harness.cli.execute import resume_run

        return resume_run(options)
    if options.scenario is None:
        raise InputError("tune: no scenario; give one, or continue a tune with --resume RUN")
    from harness.bench.estimate import of_chosen_trials
    from harness.cli.execute import start_run
    from harness.cli.plan import estimate_run, profiles_of, show_plan
    from harness.cli.run import announce, loaded
    from harness.records.tune_blocks import TRIALS_A_BLOCK
    from harness.tune.candidates import tune_scenario

    scenario, own, dropped = loaded(options)
    scenario = tune_scenario(scenario, options.scenario)
    profiles = profiles_of(scenario, options.scenario)
    expected = of_chosen_trials(estimate_run(scenario, profiles), TRIALS_A_BLOCK)
    announce(scenario, expected, own, dropped, quiet=options.quiet)
    if options.dry_run:
        if not options.quiet:
            show_plan(scenario, expected, options.json)
        return 0
    return start_run(scenario, profiles, expected, options, is_tune=True)
