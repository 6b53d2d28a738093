"""How often the intervals hold the truth, over many samples whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from harness.analysis.model import Figure
from harness.analysis.significance import Successes, by_repeats, by_workflows, is_called, of_shares
from harness.analysis.statistics import Percentiles, cluster_mean, over_repeats, sample

SIGMA = 0.8
TRIES = 400


def clustered(workflows: int, calls: int, alike: float, seed: int) -> NDArray[np.float64]:
    """Log-normal values, TRIES times; `alike`: how much of their variance a workflow shares."""
    random = np.random.default_rng(seed)
    shared = random.normal(size=(TRIES, workflows, 1)) * math.sqrt(alike)
    own = random.normal(size=(TRIES, workflows, calls)) * math.sqrt(1 - alike)
    return np.exp(SIGMA * (shared + own)).reshape(TRIES, workflows * calls)


def holds(figure: Figure | None, truth: float) -> bool | None:
    """None where there is no interval."""
    if figure is None or figure.low is None or figure.high is None:
        return None
    return figure.low <= truth <= figure.high


@pytest.mark.parametrize("p", [0.5, 0.95, 0.99])
@pytest.mark.parametrize(
    ("workflows", "calls", "alike"),
    [
        (5, 20, 0.3),
        (8, 6, 0.0),
        (8, 6, 0.7),
        (24, 20, 0.3),
        (24, 20, 0.7),
        (60, 20, 0.1),
        (200, 6, 0.3),
    ],
)
def test_a_percentile_of_dependent_calls_is_wrong_in_one_case_of_twenty_at_most(
    workflows: int, calls: int, alike: float, p: float
) -> None:
    truth = math.exp(SIGMA * stats.norm.ppf(p))
    clusters = np.repeat(np.arange(workflows), calls)
    told = [
        holds(Percentiles(sample(values, clusters)).figure(p), truth)
        for values in clustered(workflows, calls, alike, seed=workflows)
    ]
    assert told.count(False) / TRIES <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / TRIES)


def test_intervals_that_ignore_the_workflows_would_be_wrong_far_more_often() -> None:
    values = clustered(24, 20, alike=0.7, seed=24)
    told = [holds(Percentiles(sample(row, range(len(row)))).figure(0.5), 1.0) for row in values]
    assert told.count(False) / TRIES > 0.3


@pytest.mark.parametrize(("n", "least", "most"), [(8, 0.97, 1.0), (24, 0.95, 0.995)])
def test_a_median_of_independent_values_is_covered_as_often_as_order_statistics_promise(
    n: int, least: float, most: float
) -> None:
    told = [
        holds(Percentiles(sample(row, range(n))).figure(0.5), 1.0)
        for row in clustered(n, 1, 0.0, seed=n)
    ]
    assert None not in told
    assert least <= told.count(True) / TRIES <= most


@pytest.mark.parametrize(
    ("workflows", "calls", "alike"), [(8, 1, 0.0), (8, 6, 0.5), (24, 6, 0.5), (60, 6, 0.5)]
)
def test_a_mean_of_skewed_values_is_covered_in_nine_cases_of_ten_or_more(
    workflows: int, calls: int, alike: float
) -> None:
    truth = math.exp(SIGMA**2 / 2)
    clusters = np.repeat(np.arange(workflows), calls)
    told = [
        holds(cluster_mean(sample(values, clusters)), truth)
        for values in clustered(workflows, calls, alike, seed=workflows)
    ]
    assert 0.9 - 2 * math.sqrt(0.9 * 0.1 / TRIES) <= told.count(True) / TRIES <= 0.98


def test_a_ratio_over_three_repeats_is_covered_nineteen_times_of_twenty() -> None:
    random = np.random.default_rng(5)
    ratios = 1.3 * np.exp(0.2 * random.normal(size=(2000, 3)))
    told = [holds(over_repeats(row), 1.3) for row in ratios]
    assert told.count(True) / len(told) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("repeats", "share"), [(3, 0.94), (5, 0.95), (10, 0.97)])
def test_a_long_arm_makes_up_for_an_exponential_tail(repeats: int, share: float) -> None:
    random = np.random.default_rng(8)
    rows = np.exp(random.exponential(0.3, size=(4000, repeats)))
    told = [holds(over_repeats(row, skewed=True), math.exp(0.3)) for row in rows]
    assert told.count(True) / len(told) == pytest.approx(share, abs=0.012)
    plain = [holds(over_repeats(row), math.exp(0.3)) for row in rows]
    assert plain.count(True) / len(plain) < 0.92


# Comparisons: nothing is called where nothing changed, and what changed is found.

Pairs = list[tuple[dict[int, float], dict[int, float]]]


def pairs(change: float, repeats: int, spread: float, seed: int, tries: int = 1000) -> Pairs:
    """Makespans of two runs, one a repeat; the second's are `change` times as long."""
    random = np.random.default_rng(seed)
    logs = spread * random.normal(size=(tries, 2, repeats))
    rows = np.exp(logs) * np.array([1.0, change])[:, None]
    return [(dict(enumerate(one.tolist())), dict(enumerate(other.tolist()))) for one, other in rows]


def called(found: Pairs, *, paired: bool) -> float:
    told = [by_repeats(one, other, paired=paired) for one, other in found]
    return sum(is_called(one.p, one.ranks) for one in told if one is not None) / len(found)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("repeats", [3, 5, 10])
def test_between_equal_runs_a_difference_is_called_once_in_twenty_at_most(
    repeats: int, paired: bool
) -> None:
    share = called(pairs(1.0, repeats, 0.1, seed=repeats), paired=paired)
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize("repeats", [3, 4, 5, 6])
def test_t_and_ranks_together_call_fewer_than_a_test_at_five_percent(
    repeats: int,
) -> None:
    found = pairs(1.0, repeats, 0.1, seed=repeats, tries=4000)
    assert called(found, paired=False) <= 0.045


@pytest.mark.parametrize(("repeats", "least"), [(3, 0.5), (5, 0.85), (10, 0.99)])
def test_a_change_of_twenty_percent_is_found_as_often_as_the_docs_say(
    repeats: int, least: float
) -> None:
    assert called(pairs(1.2, repeats, 0.07, seed=repeats), paired=False) >= least


def test_workflows_of_equal_runs_differ_once_in_twenty_at_most() -> None:
    random = np.random.default_rng(11)
    told = []
    for _ in range(120):
        one, other = (
            {at: [value] for at, value in enumerate(np.exp(0.5 * random.normal(size=80)).tolist())}
            for _ in range(2)
        )
        told.append([by_workflows(one, other, p, paired=False) for p in (0.5, 0.95)])
    for found in zip(*told, strict=True):
        share = sum(one.p < 0.05 for one in found if one is not None and one.p is not None) / 120
        assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 120)


@pytest.mark.parametrize("repeats", [2, 3, 5])
def test_shares_of_equal_runs_whose_failures_come_in_bursts_differ_no_more_often(
    repeats: int,
) -> None:
    """One workflow in ten fails; in most repeats next to none, in some a third and more."""
    random = np.random.default_rng(17)
    failed = random.binomial(40, random.beta(0.5, 4.5, (2 * TRIES, repeats))).tolist()
    told = [
        of_shares(Successes(one, [40] * repeats), Successes(other, [40] * repeats))
        for one, other in zip(failed[:TRIES], failed[TRIES:], strict=True)
    ]
    called = np.mean([one is not None and is_called(one.p, one.ranks) for one in told])
    assert called <= 0.07, "Fisher's exact test alone calls more than one in three"


def test_shares_of_equal_runs_differ_once_in_twenty_at_most() -> None:
    random = np.random.default_rng(12)
    told = [
        of_shares(Successes([int(a)], [60]), Successes([int(b)], [60]))
        for a, b in random.binomial(60, 0.9, size=(1000, 2))
    ]
    assert sum(one.p < 0.05 for one in told if one is not None and one.p is not None) <= 50


@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.8])
def test_a_mean_over_sixty_workflows_is_covered_in_92_to_98_percent(sigma: float) -> None:
    random = np.random.default_rng(13)
    truth = math.exp(sigma**2 / 2)
    told = [
        holds(cluster_mean(sample(row, range(60))), truth)
        for row in np.exp(sigma * random.normal(size=(1000, 60)))
    ]
    assert 0.92 <= told.count(True) / 1000 <= 0.98


@pytest.mark.parametrize("repeats", [3, 5])
def test_a_ratio_over_a_few_repeats_is_covered_in_92_to_98_percent(repeats: int) -> None:
    random = np.random.default_rng(repeats)
    ratios = 2.0 * np.exp(0.1 * random.normal(size=(1000, repeats)))
    told = [holds(over_repeats(row), 2.0) for row in ratios]
    assert 0.92 <= told.count(True) / 1000 <= 0.98
