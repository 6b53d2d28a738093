"""A tune that starts from a twin: what a fitted profile expects of the settings."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.bench.scenario import Scenario
from harness.config.validation_messages import one_line
from harness.records.errors import InputError
from harness.records.schema import Run
from harness.simulator.profiles import Profile, load_profile
from harness.tune.choice import Candidate, Standing
from harness.tune.expected import Forecast, Forecasts
from harness.tune.twin_plays import TwinPlays, play_groups, predicted_of, twin_settings
from harness.twin.fitted_runs import scenario_at_twin
from harness.twin.prediction_error import mean_on_error_scale
from harness.twin.twin_trials import at_twin, twin_scenario

_ERROR = 0.1
"""The standard error of the logarithm of the objective of each setting: 10 %.

A profile does not say how near its predictions come, and it may be of another day. A twin of one
run of a real server was off by 5 to 8 % at another load, and twins of providers with other tenants
by 16 to 29 % (docs/twin.md). The error is taken to be independent for each setting: what all of
them share, such as a slower day, does not change which is the best. So the twin chooses what is
tried first, and rules nothing out.
"""
_REPEATS = 2
_FIRST = 3
"""The settings of the first block: a twin of the run has to be fitted to several."""


def given_profile(file: str, scenario: Scenario) -> dict[str, Any]:
    """Return the profile of a twin, as plain values. `scenario`: of the tune.

    Raises InputError if it is no profile, or if it cannot play the scenario.
    """
    try:
        profile = load_profile(file)
    except InputError as error:
        raise InputError(f"--twin: {error}") from None
    varied = [key for key in scenario.sweep.settings if key.startswith("endpoint.")]
    if varied:
        raise InputError(
            one_line(
                f"--twin {file}: the tune varies {varied[0]}, and a twin is of one provider; leave "
                "out one of the two"
            )
        )
    try:
        at_twin(scenario.as_dict(), (), file)
    except InputError as error:
        raise InputError(
            one_line(f"--twin: virtual time does not have this scenario, so leave it out ({error})")
        ) from None
    return profile.as_dict()


def given_forecasts(
    run: Run, groups: Mapping[str, Hashable], metrics: tuple[str, str]
) -> Forecasts:
    """Return what the twin that a run was given expects of each setting.

    The lengths of the answers are drawn, as none are recorded. `groups` and `metrics`: as in
    `forecasts`. Raises InputError if virtual time does not have the scenario.
    """
    assert run.twin is not None, "the caller has looked"
    main, share = predicted_of(metrics)
    every = twin_scenario(scenario_at_twin(run, ()), run.twin, run)
    settings = twin_settings(run.cells, every.cells, groups)
    twin = TwinPlays(every, lambda *_: {}, (main, share), run.seed)
    played, stands_for, requests = play_groups(twin, settings.groups, range(_REPEATS))
    found: dict[str, Forecast] = {}
    for name, cells in stands_for.items():
        values, shares = (played[metric].get(name, {}) for metric in metrics)
        if not values or not shares or not all(value > 0 for value in values.values()):
            continue
        one = Forecast(
            cell=name, mean=mean_on_error_scale(main, values), variance=_ERROR**2, freedom=None,
            work={}, trial_variance=0.0, success=float(np.mean(list(shares.values()))),
            success_variance=1.0, plays={}, kinds=1, shifts={}, model=(_ERROR**2, 1.0),
            excess=0.0, shares_draws=False, requests=requests[name],
        )  # fmt: skip
        for same in cells:
            found |= {each: replace(one, cell=each) for each in settings.alike[same.id]}
    profile = Profile.model_validate(run.twin)
    has_rate = profile.requests_per_minute or profile.tokens_per_minute
    return Forecasts(found, profile.burst if has_rate else 0.0)


def first_block_at_twin(now: Standing, candidates: Mapping[str, Candidate]) -> list[str]:
    """Return the settings of the first block.

    They are the leading one, one with the most permits, as a twin of the run will interpolate
    between permits, and those that may gain most. Each has another number of permits, as far as
    there are so many.
    """
    most = max((candidates[name].permits for name in now.open), default=0)
    order = [now.leading, *sorted(now.open, key=lambda name: -now.gains[name])]
    by_permits: dict[int, str] = {}
    for name in order:
        by_permits.setdefault(candidates[name].permits, name)
    chosen = [now.leading, *([by_permits[most]] if most else []), *by_permits.values(), *order]
    return list(dict.fromkeys(chosen))[:_FIRST]
