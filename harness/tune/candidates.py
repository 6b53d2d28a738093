"""The scenario of a tune: its settings are all that can be chosen."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from harness.bench.scenario import Scenario
from harness.bench.scenario_file import validated
from harness.records.errors import InputError

MOST_SETTINGS = 1000
"""The most settings that a tune chooses from."""


def tune_scenario(scenario: Scenario, where: str, overrides: Sequence[str] = ()) -> Scenario:
    """Return the scenario whose `[sweep]` has the values of `[tune]`, with looks after blocks.

    `where`: its name in errors. `overrides`: that were applied to it. Raises InputError, one line:
    it names the keys of `[tune]`.
    """
    values, own = scenario.model_dump(mode="json"), scenario.tune.axes
    sweep = {**values["sweep"], **own}
    settings = math.prod(len(one) for one in sweep.values() if isinstance(one, list))
    if settings > MOST_SETTINGS:
        raise InputError(
            f"{where}: tune: {settings:,} settings can be chosen, more than {MOST_SETTINGS:,}, and "
            "every forecast plays each of them; name fewer values"
        )
    sweep |= {"repeats": "auto", "max_repeats": scenario.tune.max_blocks}
    moved = [re.sub(r"^\s*tune\.", "sweep.", override) for override in overrides]
    try:
        return validated({**values, "sweep": sweep}, where, moved)
    except InputError as error:
        names = "|".join(re.escape(json.dumps(key) if "." in key else key) for key in own)
        said = (
            re.sub(rf"\bsweep\.(?=(?:{names})(?![\w-]))", "tune.", str(error))
            if own
            else str(error)
        )
        raise InputError(said) from None
