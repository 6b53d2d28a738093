"""Whether a change is more than chance: exact where it can be checked, right as often as said."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.significance import (
    Successes,
    _Clustered,
    by_repeats,
    by_workflows,
    fisher,
    holm,
    is_called,
    mann_whitney,
    of_shares,
)


def by_repeat(values: Any) -> dict[int, float]:
    return {repeat: float(value) for repeat, value in enumerate(values)}


def clusters(values: Any, size: int = 1) -> dict[int, list[float]]:
    """Clusters of so many values each."""
    return {at: [float(v) for v in values[at : at + size]] for at in range(0, len(values), size)}


def test_workflows_that_repeat_each_other_count_once() -> None:
    random = np.random.default_rng(4)
    alone, other = random.lognormal(size=40), random.lognormal(size=40)
    once = by_workflows(clusters(alone), clusters(other), 0.5, paired=False)
    five = by_workflows(
        clusters(np.repeat(alone, 5), 5), clusters(np.repeat(other, 5), 5), 0.5, paired=False
    )
    assert once is not None
    assert five is not None
    assert five.p == pytest.approx(once.p, abs=0.05)


def test_a_quantile_of_a_resample_is_that_of_the_values_it_holds() -> None:
    clustered = _Clustered.of([[1.0, 5.0], [2.0], [9.0, 3.0, 4.0]])
    drawn = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0]])
    rows = [[1, 2, 3, 4, 5, 9], [1, 1, 3, 4, 5, 5, 9], [2, 2, 2]]
    for p in (0.25, 0.5, 0.95):
        expected = [np.quantile(row, p, method="inverted_cdf") for row in rows]
        assert list(clustered.quantiles(drawn, p)) == expected


def test_paired_repeats_agree_with_scipy() -> None:
    base, new = [10.0, 12.0, 9.0, 11.0], [11.0, 13.5, 9.5, 12.0]
    found = by_repeats(by_repeat(base), by_repeat(new), paired=True)
    assert found is not None
    expected: Any = stats.ttest_rel(np.log(new), np.log(base))
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert found.change.low == pytest.approx(math.exp(interval.low))
    assert found.change.high == pytest.approx(math.exp(interval.high))


def test_unpaired_repeats_agree_with_welch_in_scipy() -> None:
    base, new = [10.0, 12.0, 9.0, 11.0], [12.0, 13.5, 11.5]
    found = by_repeats(by_repeat(base), by_repeat(new), paired=False)
    assert found is not None
    expected: Any = stats.ttest_ind(np.log(new), np.log(base), equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.change.low == pytest.approx(math.exp(expected.confidence_interval(0.95).low))


def test_only_repeats_that_both_have_are_paired() -> None:
    found = by_repeats({0: 1.0, 1: 2.0, 5: 100.0}, {0: 2.0, 1: 4.0, 7: 1.0}, paired=True)
    assert found is not None
    assert found.change.value == pytest.approx(2.0)


def test_one_repeat_gives_a_change_without_bounds() -> None:
    for paired in (True, False):
        found = by_repeats({0: 1.0}, {0: 1.2}, paired=paired)
        assert found is not None
        assert (found.p, found.change.low) == (None, None)
    assert by_repeats({0: 1.0}, {}, paired=False) is None
    assert by_repeats({0: 1.0}, {1: 1.0}, paired=True) is None


@pytest.mark.parametrize("paired", [True, False])
def test_a_rate_that_fell_to_zero_is_a_change_and_one_zero_among_many_may_be_chance(
    paired: bool,
) -> None:
    rates = [4.0, 5.0, 4.5, 4.2]
    gone = by_repeats(by_repeat(rates), by_repeat([0, 0, 0, 0]), paired=paired)
    assert gone is not None
    assert (gone.change.value, gone.change.low, gone.change.high) == (0.0, None, None)
    assert is_called(gone.p, gone.ranks)
    once = by_repeats(by_repeat(rates), by_repeat([4.1, 0, 4.6, 4.3]), paired=paired)
    assert once is not None
    assert once.change.value == pytest.approx(13 / 17.7)
    assert not is_called(once.p, once.ranks)
    assert by_repeats(by_repeat([0, 0]), by_repeat([1, 2]), paired=paired) is None


def test_the_same_values_again_are_no_change_at_all() -> None:
    found = by_repeats(by_repeat([3, 4, 5]), by_repeat([3, 4, 5]), paired=True)
    assert found is not None
    assert (found.p, found.change.value, found.change.low) == (1.0, 1.0, 1.0)


def test_workflows_drawn_again_give_the_same_answer_every_time() -> None:
    random = np.random.default_rng(1)
    base, new = clusters(random.lognormal(size=100)), clusters(random.lognormal(size=100))
    one = by_workflows(base, new, 0.95, paired=False)
    assert one is not None
    assert one == by_workflows(base, new, 0.95, paired=False)
    assert one.p is not None
    assert 0 < one.p <= 1


def test_pairing_the_workflows_sees_a_change_that_their_spread_would_hide() -> None:
    random = np.random.default_rng(2)
    base = random.lognormal(sigma=0.8, size=80)
    new = base * 1.1 * np.exp(0.02 * random.normal(size=80))
    apart, paired = (
        by_workflows(clusters(base), clusters(new), 0.5, paired=paired) for paired in (False, True)
    )
    assert apart is not None
    assert paired is not None
    assert apart.p is not None
    assert paired.p is not None
    assert paired.p < 0.05 < apart.p


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 30), st.integers(1, 30))
def test_fisher_agrees_with_scipy(a: int, n: int, b: int, m: int) -> None:
    a, b = min(a, n), min(b, m)
    expected: Any = stats.fisher_exact(np.array([[a, n - a], [b, m - b]]))
    assert fisher(a, n, b, m) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


def test_a_share_that_fell_is_a_negative_difference_with_bounds() -> None:
    found = of_shares(Successes([8, 8, 8], [8, 8, 8]), Successes([4, 4, 4], [8, 8, 8]))
    assert found is not None
    assert found.change.value == -0.5
    assert found.change.low is not None
    assert found.change.high is not None
    assert -1 < found.change.low < -0.5 < found.change.high < 0
    assert found.p is not None
    assert found.p < 0.001
    assert of_shares(Successes([], []), Successes([1], [1])) is None


@given(
    st.lists(st.integers(0, 20), min_size=31, max_size=40),
    st.lists(st.integers(0, 20), min_size=31, max_size=40),
)
def test_ranks_of_many_agree_with_scipy_ties_included(one: list[int], other: list[int]) -> None:
    expected: Any = stats.mannwhitneyu(one, other, method="asymptotic")
    found = mann_whitney([float(v) for v in one], [float(v) for v in other])
    assert found is not None
    if not math.isnan(expected.pvalue):
        assert found == pytest.approx(expected.pvalue)


@given(st.integers(4, 12), st.integers(4, 12), st.integers(0, 2**32))
def test_ranks_of_a_few_agree_with_the_exact_test_of_scipy(n: int, m: int, seed: int) -> None:
    values = np.random.default_rng(seed).permutation(n + m).astype(float)
    one, other = values[:n].tolist(), values[n:].tolist()
    expected: Any = stats.mannwhitneyu(one, other, method="exact")
    assert mann_whitney(one, other) == pytest.approx(expected.pvalue)


@given(
    st.lists(st.integers(0, 5), min_size=4, max_size=6),
    st.lists(st.integers(0, 5), min_size=4, max_size=6),
)
def test_ranks_with_ties_are_those_of_every_way_to_deal_them(
    one: list[int], other: list[int]
) -> None:
    ranks = stats.rankdata([*one, *other])
    seen = ranks[len(one) :].sum()
    sums = [sum(dealt) for dealt in combinations(ranks, len(other))]
    below, above = (sum(at <= seen for at in sums), sum(at >= seen for at in sums))
    expected = min(1.0, 2 * min(below, above) / len(sums))
    assert mann_whitney([float(v) for v in one], [float(v) for v in other]) == pytest.approx(
        expected
    )


def test_ranks_have_no_say_where_no_order_is_rarer_than_one_in_twenty() -> None:
    assert mann_whitney([1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]) is None
    assert mann_whitney([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]) == pytest.approx(2 / 70)


def test_a_small_p_is_not_called_a_change_when_the_ranks_overlap() -> None:
    base, new = [9.7, 10.7, 9.6, 9.5, 9.2], [10.4, 10.7, 10.6, 11.9, 10.4]
    found = by_repeats(by_repeat(base), by_repeat(new), paired=False)
    assert found is not None
    assert found.p is not None
    assert found.ranks is not None
    assert found.p < 0.05 < found.ranks
    assert is_called(found.p, None)
    assert not is_called(found.p, found.ranks)
    assert not is_called(None, None)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_and_keeps_their_order(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(after >= before for before, after in zip(ps, adjusted, strict=True))
    order = sorted(range(len(ps)), key=lambda at: ps[at])
    ranked = [adjusted[at] for at in order]
    assert ranked == sorted(ranked)


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
