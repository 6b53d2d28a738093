"""Whether the trials of a tune show that the provider changed: pure numbers, and many seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from harness.analysis.model import TuneChange
from harness.analysis.provider_change import TrialValues, change_between

Rng = np.random.Generator
Settings = dict[str, dict[int, TrialValues]]


def trial(
    objective: float | None = 10.0, good: int = 24, refused: int = 0, *, tried: int = 24,
    attempts: int = 150, latency_variance: float = 0.02,
) -> TrialValues:  # fmt: skip
    return TrialValues(objective, latency_variance, good, tried, refused, attempts)


def found(settings: Mapping[str, Mapping[int, TrialValues]]) -> TuneChange:
    change = change_between(settings)
    assert change is not None
    return change


def test_an_objective_that_doubles_is_told_with_its_blocks() -> None:
    times = {1: 10.0, 2: 10.4, 3: 9.7, 5: 20.0, 6: 19.0, 7: 20.8}
    change = found({"six": {at: trial(time) for at, time in times.items()}})
    assert (change.cell, change.quantity, change.alike) == ("six", "objective", ())
    assert (change.before.blocks, change.after.blocks) == ((1, 2, 3), (5, 6, 7))
    assert change.before.value == pytest.approx((10.0 * 10.4 * 9.7) ** (1 / 3))
    assert change.after.value == pytest.approx((20.0 * 19.0 * 20.8) ** (1 / 3))


def test_workflows_that_are_lost_after_a_block_are_told_with_their_number() -> None:
    trials = {0: trial(), 1: trial(), 2: trial(), 3: trial(4.0, good=2, refused=140)}
    change = found({"six": trials})
    assert (change.quantity, change.before.value, change.before.of) == ("success", 1.0, 72)
    assert (round(change.after.value * change.after.of), change.after.of) == (2, 24)


def test_refusals_alone_show_a_change_of_the_cap() -> None:
    trials = {at: trial(10 if at < 2 else 11.5, refused=0 if at < 2 else 90) for at in range(4)}
    change = found({"six": trials})
    assert (change.quantity, change.after.value, change.after.of) == ("refusals", 0.6, 300)


def test_settings_that_change_alike_show_it_where_each_one_does_not() -> None:
    alone = {name: {at: trial(10.0), at + 4: trial(17.0)} for at, name in enumerate("abcd")}
    assert all(change_between({name: trials}) is None for name, trials in alone.items())
    change = found(alone)
    assert (change.quantity, len(change.alike)) == ("objective", 3)
    apart = {
        name: {at: trial(10.0), at + 4: trial(17.0 if name in "ab" else 6.0)}
        for at, name in enumerate("abcd")
    }
    assert change_between(apart) is None


def test_a_clear_difference_that_does_not_matter_is_none() -> None:
    trials = {at: trial(10.0 if at < 12 else 11.0) for at in range(24)}
    assert change_between({"six": trials}) is None


def test_few_workflows_of_different_lengths_are_no_change() -> None:
    trials = {0: 10.0, 1: 32.0, 2: 12.0, 3: 31.0}
    small = {at: trial(time, good=4, tried=4, latency_variance=1.0) for at, time in trials.items()}
    split = {0: trial(10.0), 1: trial(32.0)}
    assert change_between({"six": small}) is None
    assert change_between({"six": {0: small[0], 1: small[1]}}) is None
    assert found({"six": {**{at: trial(10.0) for at in range(5, 9)}, 9: split[1]}})


def test_an_objective_of_less_work_is_not_compared() -> None:
    trials = {at: trial(10.0, good=11) for at in range(3)} | {3: trial(2.0, good=10)}
    assert change_between({"six": trials}) is None


def _tune(rng: Rng, values: Callable[[Rng, float], TrialValues], block_noise: float) -> Settings:
    """Return a tune of an unchanged provider: a leading setting, and others now and then."""
    settings: Settings = {}
    for block in range(int(rng.integers(4, 25))):
        others = rng.choice(6, int(rng.integers(0, 4)), replace=False).tolist()
        shared = float(rng.normal(0, block_noise))
        for name in dict.fromkeys([0, *others]):
            settings.setdefault(str(name), {})[block] = values(rng, shared)
    return settings


def quiet(rng: Rng, shared: float) -> TrialValues:
    return trial(float(np.exp(3 + shared + rng.normal(0, 0.03))))


def noisy(rng: Rng, shared: float) -> TrialValues:
    return trial(float(np.exp(3 + shared + rng.normal(0, 0.1))), good=int(rng.binomial(24, 0.9)))


def refusing(rng: Rng, shared: float) -> TrialValues:
    """Return a trial at a limit a minute: shares vary by far more than chance makes of them."""
    share, lost = rng.beta(4, 4), rng.beta(12, 4)
    good = int(rng.binomial(20, lost))
    return trial(
        float(np.exp(3 + shared + rng.normal(0, 0.2))), good, int(rng.binomial(300, share)),
        tried=20, attempts=300,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "block_noise"), [(quiet, 0.02), (quiet, 0.15), (noisy, 0.1), (refusing, 0.1)]
)
def test_an_unchanged_provider_is_hardly_ever_said_to_have_changed(
    values: Callable[[Rng, float], TrialValues], block_noise: float
) -> None:
    tunes = 300
    rng = np.random.default_rng(11)
    told = sum(change_between(_tune(rng, values, block_noise)) is not None for _ in range(tunes))
    assert told <= 0.01 * tunes


def test_a_cap_that_is_halved_is_nearly_always_found() -> None:
    rng = np.random.default_rng(12)
    missed = 0
    for _ in range(100):
        settings = _tune(rng, noisy, 0.05)
        change = int(rng.integers(3, 6))
        after = {
            block: one._replace(objective=1.9 * (one.objective or 0.0))
            for block, one in settings["0"].items()
            if block >= change
        }
        enough = len(after) > 2
        settings["0"] |= after
        missed += enough and change_between(settings) is None
    assert missed <= 5
