"""Intervals: exact where they can be checked by hand, absent where they cannot be had."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.model import Figure
from harness.analysis.statistics import (
    Percentiles,
    cluster_mean,
    describe,
    order_ranks,
    over_repeats,
    percentile_by_repeat,
    sample,
    share,
    stretched,
)
from tests.analysis.builders import known

seconds = st.floats(min_value=0.001, max_value=1000)


@pytest.mark.parametrize(("p", "first"), [(0.5, 6), (0.95, 72), (0.99, 368), (0.999, 3688)])
def test_a_percentile_has_two_sides_from_the_known_number_of_observations(
    p: float, first: int
) -> None:
    assert order_ranks(first - 1, p) is None
    assert order_ranks(first, p) is not None


@given(n=st.integers(6, 500), p=st.sampled_from([0.25, 0.5, 0.9, 0.95, 0.99]))
def test_order_statistics_agree_with_scipy(n: int, p: float) -> None:
    test: Any = stats.quantile_test(np.arange(1.0, n + 1), q=0, p=p)
    low, high = test.confidence_interval(0.95)
    assert order_ranks(n, p) == (None if np.isnan([low, high]).any() else (low, high))


def test_with_one_value_a_workflow_the_interval_is_the_exact_one() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert known(Percentiles(sample(values, range(100))).figure(0.5)) == (40.0, 50.5, 61.0)


def test_counts_stand_for_repeated_values() -> None:
    spelled_out = sample([1.0, 1.0, 1.0, 2.0, 2.0, 5.0] * 4, [0, 1, 2, 3, 4, 5] * 4)
    counted = sample([5.0, 1.0, 1.0, 1.0, 2.0, 2.0], [5, 0, 1, 2, 3, 4], counts=[4, 4, 4, 4, 4, 4])
    assert describe({0: spelled_out}) == describe({0: counted})


def test_calls_that_resemble_their_workflow_widen_the_interval() -> None:
    random = np.random.default_rng(1)
    clusters = np.repeat(np.arange(30), 20)
    alike = np.exp(np.repeat(random.normal(size=30), 20) + 0.1 * random.normal(size=600))
    apart = random.permutation(alike)
    wide, narrow = (
        known(Percentiles(sample(values, clusters)).figure(0.5)) for values in (alike, apart)
    )
    assert wide[1] == narrow[1]
    assert wide[2] - wide[0] > 2 * (narrow[2] - narrow[0])


def test_many_calls_of_one_workflow_give_a_percentile_without_bounds() -> None:
    described = describe({0: sample(np.arange(1.0, 101.0), np.zeros(100))})
    assert described.p50 is not None
    assert (described.p50.value, described.p50.low, described.p50.high) == (50.5, None, None)
    assert described.p99 is None
    assert described.mean is not None
    assert (described.mean.value, described.mean.low) == (50.5, None)


def test_nothing_observed_is_described_as_nothing() -> None:
    described = describe({})
    assert (described.n, described.mean, described.p50) == (0, None, None)


@given(values=st.lists(st.integers(1, 10**6), min_size=1, max_size=60), data=st.data())
def test_a_description_encloses_its_own_values(values: list[int], data: st.DataObject) -> None:
    clusters = [data.draw(st.integers(0, 5)) for _ in values]
    described = describe({0: sample(values, clusters)})
    assert described.n == len(values)
    for figure in (described.mean, described.p50, described.p95, described.p99):
        if figure is not None:
            assert min(values) - 1e-6 <= figure.value <= max(values) + 1e-6
            if figure.low is not None and figure.high is not None:
                assert figure.low <= figure.value <= figure.high


def test_figures_of_several_repeats_come_from_one_value_of_each() -> None:
    repeats = {at: sample(factor * np.arange(1.0, 101.0), range(100)) for at, factor in
               enumerate([1.0, 2.0, 4.0])}  # fmt: skip
    described = describe(repeats)
    assert described.n == 300
    assert described.p50 == over_repeats([50.5, 101.0, 202.0])
    assert described.mean is not None
    typical = known(over_repeats([50.5, 101.0, 202.0]))
    assert described.mean.value == pytest.approx((50.5 + 101.0 + 202.0) / 3)
    assert known(described.mean)[2] / described.mean.value == pytest.approx(typical[2] / typical[1])
    assert described.p99 is None, "300 values are too few"


def test_a_repeat_with_too_few_values_for_a_percentile_is_left_out() -> None:
    repeats = {0: sample(range(1, 101), range(100)), 1: sample(range(1, 13), range(12))}
    assert percentile_by_repeat(repeats, 0.95) == {0: pytest.approx(95.65)}
    assert [*percentile_by_repeat(repeats, 0.5)] == [0, 1]


def test_values_that_wait_for_each_other_have_no_bounds_in_one_repeat_and_longer_arms() -> None:
    one = sample(range(1, 101), range(100))
    alone = describe({0: one}, skewed=True)
    assert alone.p50 == Figure(value=50.5)
    assert alone.mean == Figure(value=50.5)
    plain, skewed = (known(over_repeats([1.0, 2.0, 4.0], skewed=it)) for it in (False, True))
    assert skewed[:2] == plain[:2]
    assert math.log(skewed[2] / 2) == pytest.approx(1.75 * math.log(plain[2] / 2))


@pytest.mark.parametrize(
    ("skewed", "waited", "bounded"),
    [(True, 4, []), (True, 14, []), (True, 16, ["p99"]), (True, 22, ["p95", "p99"]),
     (True, 90, ["p50", "p95", "p99"]), (False, 3, ["p99"]), (False, 10, ["p95", "p99"]),
     (False, 60, ["p95", "p99"]), (False, 70, ["p50", "p95", "p99"])],
)  # fmt: skip
def test_a_percentile_near_the_share_of_zeros_has_no_bounds(
    skewed: bool, waited: int, bounded: list[str]
) -> None:
    """In every repeat `waited` of 100 values are above zero, so no percentile is zero by chance."""
    repeats = {
        repeat: sample([0.0] * (100 - waited) + [1.0 + repeat] * waited, np.arange(100))
        for repeat in range(5)
    }
    found = describe(repeats, skewed=skewed)
    percentiles = {"p50": found.p50, "p95": found.p95, "p99": found.p99}
    assert [name for name, one in percentiles.items() if one and one.low is not None] == bounded


def test_a_stretched_interval_stays_below_the_largest_value() -> None:
    assert known(stretched(Figure(value=1.0, low=0.5, high=2.0))) == pytest.approx(
        (0.5**1.75, 1.0, 2**1.75)
    )
    assert known(stretched(Figure(value=0.0, low=0.0, high=0.1))) == pytest.approx((0, 0, 0.175))
    assert known(stretched(Figure(value=0.9, low=0.8, high=0.99), 1.0))[2] == 1.0
    assert stretched(Figure(value=1.0)) == Figure(value=1.0)


def test_a_mean_weighs_every_observation_alike_and_not_every_workflow() -> None:
    figure = cluster_mean(sample([1.0, 1.0, 1.0, 9.0], [0, 0, 0, 1]))
    assert figure is not None
    assert figure.value == 3.0


def test_a_mean_of_zeros_has_no_bounds() -> None:
    figure = cluster_mean(sample(np.zeros(50), range(50)))
    assert figure is not None
    assert (figure.value, figure.low, figure.high) == (0.0, None, None)


def test_one_repeat_gives_a_value_without_bounds() -> None:
    figure = over_repeats([3.0])
    assert figure is not None
    assert (figure.value, figure.low, figure.high) == (3.0, None, None)
    assert over_repeats([]) is None


def test_repeats_give_the_geometric_mean_with_t_on_the_logs() -> None:
    reach = math.exp(4.302652729696142 * math.log(2) / math.sqrt(3))  # t(0.975, 2) from a table
    assert known(over_repeats([1.0, 2.0, 4.0])) == pytest.approx((2 / reach, 2.0, 2 * reach))


def test_a_repeat_of_zero_gives_the_plain_mean_without_bounds() -> None:
    figure = over_repeats([0.0, 1.0, 5.0])
    assert figure is not None
    assert (figure.value, figure.low, figure.high) == (2.0, None, None)


@given(values=st.lists(seconds, min_size=2, max_size=8), factor=st.floats(0.01, 100))
def test_a_change_of_unit_changes_a_figure_by_nothing_else(
    values: list[float], factor: float
) -> None:
    one = known(over_repeats(values))
    other = known(over_repeats([factor * value for value in values]))
    assert other == pytest.approx(tuple(factor * part for part in one))


def test_a_share_has_the_exact_binomial_interval() -> None:
    assert known(share([8, 8, 8], [8, 8, 8])) == pytest.approx((0.025 ** (1 / 24), 1.0, 1.0))
    expected = stats.binomtest(5, 20).proportion_ci(0.95, method="exact")
    assert known(share([5], [20])) == pytest.approx((expected.low, 0.25, expected.high))
    assert share([], []) is None


def test_repeats_that_differ_widen_a_share() -> None:
    even, uneven = known(share([4, 4, 4, 4], [8] * 4)), known(share([8, 8, 0, 0], [8] * 4))
    assert even[1] == uneven[1]
    assert uneven[0] < even[0]
