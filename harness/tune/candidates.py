"""The scenario of a tune: its settings are all that can be chosen."""

from __future__ import annotations

from harness.bench.scenario import Scenario
from harness.bench.scenario_file import validated


def tune_scenario(scenario: Scenario, where: str) -> Scenario:
    """Return the scenario whose `[sweep]` has the values of `[tune]`, with looks after blocks.

    `where`: its name in errors. Raises InputError, one line.
    """
    values = scenario.model_dump(mode="json")
    sweep = {**values["sweep"], **scenario.tune.axes}
    sweep |= {"repeats": "auto", "max_repeats": scenario.tune.max_blocks}
    return validated({**values, "sweep": sweep}, where, ())
