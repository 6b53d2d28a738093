"""`harness check`: checks scenario files without running them, for editors, hooks and CI."""

from __future__ import annotations

import argparse
import sys

from harness.bench.scenario_file import load_scenario
from harness.cli.plan import estimate_run, profiles_of
from harness.config import shipped_scenarios
from harness.records.errors import InputError
from harness.report.wording import counted


def check_scenarios(options: argparse.Namespace) -> int:
    """Check every file, print one line for each, and return 2 if one of them is invalid."""
    invalid = False
    for name in dict.fromkeys(options.scenarios):
        try:
            print(f"{name}: {_checked(name)}", flush=True)
        except InputError as error:
            invalid = True
            print(f"harness: {error}", file=sys.stderr, flush=True)
    return InputError.exit_code if invalid else 0


def _checked(name: str) -> str:
    """Return what a scenario has. Raises InputError."""
    scenario = load_scenario(shipped_scenarios.find(name))
    expected = estimate_run(scenario, profiles_of(scenario, name))
    return f"valid, {counted(expected.cells, 'setting')}"
