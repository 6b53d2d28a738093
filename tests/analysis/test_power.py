"""The power that `power` computes is how often simulated changes are found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.power import detectable, power_of, repeats_needed
from harness.analysis.significance import (
    Difference,
    ShareTest,
    Successes,
    TTest,
    WelchTest,
    by_repeats,
    is_called,
    of_shares,
)

PAIRS = 600
ERROR = 3 * 0.5 / PAIRS**0.5
"""Three standard errors of a share of that many pairs, at most."""


def found(compare: Callable[[np.random.Generator], Difference | None], level: float) -> float:
    """Return the share of simulated comparisons that are called at this level."""
    random = np.random.default_rng(1)
    called = 0
    for _ in range(PAIRS):
        seen = compare(random)
        assert seen is not None
        called += is_called(seen.p and seen.p * 0.05 / level, seen.ranks)
    return called / PAIRS


def spread(values: np.ndarray) -> dict[int, float]:
    return dict(enumerate(values.tolist()))


@pytest.mark.parametrize("level", [0.05, 0.05 / 30])
@pytest.mark.parametrize("repeats", [3, 5, 20])
def test_pairs_are_found_as_often_as_the_noncentral_t_says(repeats: int, level: float) -> None:
    test = TTest(0.04 / repeats**0.5, repeats - 1, of_logs=True)
    change = detectable(test, 1, level)
    assert change is not None
    critical = stats.t.isf(level / 2, repeats - 1)
    distance = np.log1p(change) / test.error
    assert stats.nct.sf(critical, repeats - 1, distance) == pytest.approx(0.8, abs=1e-3)

    def pair(random: np.random.Generator) -> Difference | None:
        base = random.lognormal(3, 0.5, repeats)
        new = base * (1 + change) * random.lognormal(0, 0.04, repeats)
        return by_repeats(spread(base), spread(new), paired=True)

    assert found(pair, level) == pytest.approx(0.8, abs=ERROR)


@pytest.mark.parametrize("level", [0.05, 0.05 / 30])
@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 4), (5, 5), (5, 8), (20, 20)])
def test_runs_that_are_not_paired_are_found_as_often_with_and_without_ranks(
    n: int, m: int, level: float
) -> None:
    deviation = 0.05
    test = WelchTest((deviation, deviation), (n, m), of_logs=True)
    change = detectable(test, -1, level)
    assert change is not None
    assert change < 0

    def pair(random: np.random.Generator) -> Difference | None:
        base = random.lognormal(3, deviation, n)
        new = (1 + change) * random.lognormal(3, deviation, m)
        return by_repeats(spread(base), spread(new), paired=False)

    assert found(pair, level) == pytest.approx(0.8, abs=ERROR)


@pytest.mark.parametrize("level", [0.05, 0.05 / 12])
@pytest.mark.parametrize(("base", "tried"), [(1.0, 20), (1.0, 100), (0.9, 100), (0.6, 60)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_shares_of_one_repeat_are_found_as_often_as_fishers_test_finds_them(
    base: float, tried: int, sign: int, level: float
) -> None:
    test = ShareTest(base, (tried, tried), 0.0, 0)
    change = detectable(test, sign, level)
    if sign > 0 and base + 0.05 > 1:
        assert change is None
        return
    if change is None:
        assert sign > 0
        return

    def pair(random: np.random.Generator) -> Difference | None:
        good = random.binomial(tried, base), random.binomial(tried, base + change)
        return of_shares(Successes([good[0]], [tried]), Successes([good[1]], [tried]))

    assert found(pair, level) == pytest.approx(power_of(test, change, level), abs=ERROR)
    assert power_of(test, change, level) == pytest.approx(0.8, abs=0.01)


def test_shares_that_vary_by_repeat_are_found_less_often() -> None:
    repeats, tried, level = 5, 40, 0.05

    def pair(random: np.random.Generator, change: float) -> Difference | None:
        sides = [
            Successes(
                random.binomial(tried, random.beta(12 * share, 12 * (1 - share), repeats)).tolist(),
                [tried] * repeats,
            )
            for share in (0.8, 0.8 + change)
        ]
        return of_shares(*sides)

    dispersion = 1 + (tried - 1) / 13  # of the beta-binomial distribution
    test = ShareTest(0.8, (200, 200), dispersion, 2 * repeats - 2)
    change = detectable(test, -1, level)
    assert change is not None
    assert change < 1.5 * (detectable(test._replace(dispersion=1.0), -1, level) or 0)
    assert found(lambda random: pair(random, change), level) == pytest.approx(0.8, abs=0.12)


@settings(max_examples=30)
@given(
    st.floats(1e-3, 1), st.integers(1, 30), st.booleans(), st.sampled_from([-1, 1]),
    st.floats(0.05 / 500, 0.05),
)  # fmt: skip
def test_a_detectable_change_has_the_power_that_was_asked_for(
    error: float, freedom: int, of_logs: bool, sign: int, level: float
) -> None:
    test = TTest(error, freedom, of_logs)
    change = detectable(test, sign, level)
    if change is None:
        assert power_of(test, -0.99 if sign < 0 else 20, level) < 0.8
    else:
        assert change * sign > 0
        assert power_of(test, change, level) == pytest.approx(0.8, abs=1e-3)
        assert power_of(test, change / 2, level) < 0.8


def test_what_does_not_vary_is_always_found() -> None:
    test = TTest(0.0, 4, of_logs=True)
    assert power_of(test, 0.001, 0.05) == 1
    assert detectable(test, 1, 0.05) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("test_of", "change"),
    [
        (lambda n: TTest(0.2 / n**0.5, n - 1, of_logs=True), 0.1),
        (lambda n: WelchTest((0.1, 0.2), (n, n), of_logs=True), -0.15),
        (lambda n: ShareTest(0.9, (20 * n, 20 * n), 1.0, 2 * n - 2), -0.1),
        (lambda n: ShareTest(0.9, (20 * n, 20 * n), 2.5, 2 * n - 2), -0.1),
    ],
    ids=["pairs", "welch", "shares", "bursts"],
)
@pytest.mark.parametrize("level", [0.05, 0.005])
def test_the_repeats_that_are_needed_have_the_power_and_fewer_do_not(
    test_of: Callable[[int], TTest | WelchTest | ShareTest], change: float, level: float
) -> None:
    needed = repeats_needed(test_of(4), change, level, (4, 4))
    assert needed is not None
    assert power_of(test_of(needed), change, level) == pytest.approx(0.8, abs=0.05)
    assert power_of(test_of(needed + 2), change, level) >= 0.79
    assert power_of(test_of(max(2, needed * 3 // 4)), change, level) < 0.8


def test_no_number_of_repeats_is_proposed_beyond_the_most() -> None:
    assert repeats_needed(TTest(0.5, 3, of_logs=True), 0.001, 0.05, (4, 4)) is None
