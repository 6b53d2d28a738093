"""How two settings are compared, from what a twin expects and what was measured."""

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.analysis.decision import Contender
from harness.tune.beliefs import Knowledge, belief_difference
from harness.tune.expected import (
    Forecast,
    forecast_difference,
    model_error,
    trial_difference_variance,
)
from harness.twin.bootstrap_fits import Shift
from harness.twin.prediction import LeftOutSetting

EXACT = (0.0, 4.0)


def forecast(cell: str, plays: list[float], shifts: list[float], **changes: object) -> Forecast:
    """Return a forecast from logarithms; two kinds of work take turns."""
    one = Forecast(
        cell=cell, mean=float(np.mean(plays)), variance=0.01, freedom=7.0,
        work={0: 0.0, 1: 0.0, 2: 0.0}, trial_variance=float(np.var(plays)), success=1.0,
        success_variance=0.0, plays=dict(enumerate(plays)), kinds=2,
        shifts={at: Shift(by, {0: by, 1: by}) for at, by in enumerate(shifts)},
        model=EXACT, excess=0.0, shares_draws=True,
    )  # fmt: skip
    return replace(one, **changes)  # type: ignore[arg-type]


def contender(name: str, values: dict[int, float]) -> Contender:
    """Return a measured setting without failures."""
    every = dict.fromkeys(values, 20)
    return Contender(
        name=name, objective=values, good=every, tried=every,
        attempts=dict.fromkeys(values, 1.0), refusals=dict.fromkeys(values, 0.0), failures=0,
        policy="none", setting=name, permits=8, safety=(), simplicity=(),
    )  # fmt: skip


FAST = forecast("fast", [4.0, 4.2, 4.1, 4.3], [0.1, -0.1, 0.05, -0.05])
SLOW = forecast("slow", [4.1, 4.3, 4.2, 4.4], [0.1, -0.1, 0.05, -0.05])
"""The same draws and the same errors of the fit: always a tenth apart."""


def test_errors_that_two_settings_share_are_not_in_their_difference() -> None:
    apart = forecast_difference(SLOW, FAST)
    assert apart.mean == pytest.approx(0.1)
    assert apart.variance == pytest.approx(0.0, abs=1e-12)
    own = replace(SLOW, shifts={at: Shift(-one.mean, {}) for at, one in SLOW.shifts.items()})
    assert forecast_difference(own, FAST).variance > 0.01
    assert forecast_difference(replace(SLOW, model=(0.04, 4.0)), FAST).variance == pytest.approx(
        0.04
    )


def test_settings_that_were_not_both_refitted_are_independent() -> None:
    apart = forecast_difference(replace(SLOW, shifts={}), FAST)
    assert apart.variance == pytest.approx(0.02)
    assert apart.freedom == 7


def test_trials_with_the_same_draws_differ_less() -> None:
    assert trial_difference_variance(SLOW, FAST) == pytest.approx(0.0, abs=1e-12)
    alone = replace(SLOW, shares_draws=False)
    assert trial_difference_variance(alone, FAST) == SLOW.trial_variance + FAST.trial_variance
    moody = replace(SLOW, excess=0.01)
    assert trial_difference_variance(moody, FAST) == pytest.approx(0.01)


def test_measured_pairs_correct_the_forecast_of_a_difference() -> None:
    wrong = replace(SLOW, model=(0.01, 4.0))
    values = {0: 60.0, 1: 70.0, 2: 65.0}
    pairs = {
        "slow": contender("slow", {at: value * 1.02 for at, value in values.items()}),
        "fast": contender("fast", values),
    }
    before = Knowledge({"slow": wrong, "fast": FAST}, {})
    after = Knowledge({"slow": wrong, "fast": FAST}, pairs)
    known = before.beliefs(), after.beliefs()
    first = before.difference(known[0]["slow"], known[0]["fast"])
    second = after.difference(known[1]["slow"], known[1]["fast"])
    assert first.mean == pytest.approx(0.1)
    assert second.mean == pytest.approx(math.log(1.02), abs=0.002)
    assert second.variance < first.variance / 20
    apart = belief_difference(known[1]["slow"], known[1]["fast"])
    assert second.variance < apart.variance


def test_pairs_that_vary_more_than_at_the_twin_count_less() -> None:
    wrong = replace(SLOW, model=(0.01, 4.0))
    values = {0: 60.0, 1: 70.0, 2: 65.0}

    def variance(factors: tuple[float, float, float]) -> float:
        slow = {at: value * factors[at] for at, value in values.items()}
        pairs = {"slow": contender("slow", slow), "fast": contender("fast", values)}
        knowledge = Knowledge({"slow": wrong, "fast": FAST}, pairs)
        known = knowledge.beliefs()
        return knowledge.difference(known["slow"], known["fast"]).variance

    assert variance((1.02, 1.02, 1.02)) < variance((0.92, 1.12, 1.02)) / 10


def left_out(error: float, noise: float) -> LeftOutSetting:
    return LeftOutSetting("8", error, noise, True, math.log(1.25))


def test_an_error_that_can_be_chance_says_little_about_the_model() -> None:
    near = math.log(1.25)
    usual, freedom = model_error([], near, is_beyond=False)
    assert math.sqrt(usual) == pytest.approx(0.01)
    assert freedom == 4
    noisy, _ = model_error([left_out(0.12, 0.007)], near, is_beyond=False)
    assert math.sqrt(noisy) < 0.012
    clear, freedom = model_error([left_out(0.12, 1e-6)], near, is_beyond=False)
    assert math.sqrt(clear) == pytest.approx(0.054, abs=0.002)
    assert freedom == pytest.approx(5, abs=0.1)
    exact, _ = model_error([left_out(0.0, 1e-6)] * 8, near, is_beyond=False)
    assert math.sqrt(exact) < 0.007
