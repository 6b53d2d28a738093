"""Proofs at looks: how much they need, and how often they are wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from harness.analysis.looks import TAIL, failure_free, growing_looks, one_look, tune_looks
from harness.analysis.proofs import (
    BEHIND,
    EXCLUDED,
    ShareBounds,
    design_effect,
    leads,
    share_bounds,
    share_proof,
    shortfall_proof,
    significant_mean,
    upper_bounds,
)


@pytest.mark.parametrize("tail", [BEHIND, TAIL, 0.002])
def test_the_looks_of_a_run_spend_the_whole_probability_of_error_and_no_more(tail: float) -> None:
    for most in (3, 5, 6, 7, 8, 12, 13, 20, 60, 200):
        looks = growing_looks(most)
        assert looks.repeats[-1] == most
        spent = probability_of_error(looks.repeats, [tail * looks.level(n) for n in looks.repeats])
        assert 0.5 * tail < spent <= tail * (1 + 1e-9)
        more = tune_looks(most)
        assert more.repeats[-1] == most
        spent = probability_of_error(more.repeats, [tail * more.level(n) for n in more.repeats])
        assert 0.3 * tail < spent <= tail * (1 + 1e-9)
    assert one_look(5).level(5) == 1.0
    assert one_look(5).level(2) == 1.0  # an early end has the only look


def probability_of_error(repeats: Sequence[int], tails: Sequence[float]) -> float:
    """Return the probability that a sum of normal repeats is beyond its bound at any look.

    By integration over the standardised sums that have not been beyond a bound before.
    """
    nodes, weights = np.polynomial.legendre.leggauss(60)
    limits: list[float] = (-stats.norm.ppf(np.asarray(tails))).tolist()
    at, mass, spent, before = np.zeros(1), np.ones(1), 0.0, 0
    for count, limit in zip(repeats, limits, strict=True):
        kept = math.sqrt(before / count)
        apart = math.sqrt(1 - kept**2)
        spent += float((mass * stats.norm.sf((limit - kept * at) / apart)).sum())
        here = (limit - 8) / 2 + (limit + 8) / 2 * nodes
        density = stats.norm.pdf((here[:, None] - kept * at) / apart) / apart @ mass
        at, mass, before = here, (limit + 8) / 2 * weights * density, count
    return spent


def test_an_early_end_spends_the_part_of_the_next_planned_look() -> None:
    looks = growing_looks(60)
    later = next(count for count in looks.repeats if count > 20)
    assert looks.level(20) == looks.level(later)


@pytest.mark.parametrize(("asked", "needed"), [(0.9, 36), (0.95, 72), (0.99, 368)])
def test_so_many_workflows_without_a_failure_prove_a_success_rate(
    asked: float, needed: int
) -> None:
    assert failure_free(asked) == needed
    assert share_proof(share_bounds(needed, needed, 1.0, 1.0), asked) == "proven"
    assert share_proof(share_bounds(needed - 1, needed - 1, 1.0, 1.0), asked) == "open"


def test_bounds_of_a_share_are_those_of_clopper_and_pearson() -> None:
    low = stats.binomtest(17, 20).proportion_ci(1 - 2 * TAIL, method="exact").low
    high = stats.binomtest(17, 20).proportion_ci(1 - 2 * BEHIND, method="exact").high
    most = stats.binomtest(17, 20).proportion_ci(1 - 2 * EXCLUDED, method="exact").high
    assert share_bounds(17, 20, 1.0, 1.0) == pytest.approx((low, high, most))
    assert share_bounds(0, 0, 1.0, 1.0) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("share_of_bursts", [0.15, 0.3, 0.6])
@pytest.mark.parametrize(("errors", "most"), [(0, EXCLUDED), (1, 0.02)])
def test_a_rate_that_meets_the_slo_is_seldom_excluded_at_any_look(
    share_of_bursts: float, errors: int, most: float
) -> None:
    random, looks, seeds = np.random.default_rng(6), growing_looks(60), 2000
    loss = 0.1 / share_of_bursts
    spread = math.sqrt(share_of_bursts * (1 - share_of_bursts) * loss**2 / 60)
    hit = random.random((seeds, 60)) < share_of_bursts * (1 - errors * spread / 0.1)
    good = np.where(hit, random.binomial(20, 1 - loss, (seeds, 60)), 20)
    wrong = 0
    for row in good:
        for count in looks.repeats:
            seen = row[:count].tolist()
            effect = design_effect(seen, [20] * count)
            bounds = share_bounds(sum(seen), 20 * count, effect, looks.level(count))
            if share_proof(bounds, 0.9) == "broken":
                wrong += 1
                break
    assert wrong / seeds <= most + 3 * math.sqrt(most / seeds)


def test_a_success_rate_that_only_clusters_show_needs_more_workflows() -> None:
    assert share_proof(share_bounds(392, 400, 1.0, 1.0), 0.95) == "proven"
    assert share_proof(share_bounds(392, 400, 6.0, 1.0), 0.95) == "open"
    assert share_proof(share_bounds(20, 40, 1.0, 1.0), 0.9) == "broken"


def test_a_share_is_close_enough_to_the_best_or_proven_not_to_be() -> None:
    best = share_bounds(72, 72, 1.0, 1.0)
    assert shortfall_proof(1.0, best, 1.0, best, 0.05) == "proven"
    fewer = share_bounds(60, 60, 1.0, 1.0)
    assert shortfall_proof(1.0, fewer, 1.0, best, 0.05) == "open"
    bad = share_bounds(40, 72, 1.0, 1.0)
    assert shortfall_proof(40 / 72, bad, 1.0, best, 0.05) == "broken"
    assert (
        shortfall_proof(0.5, ShareBounds(0.4, 0.6, 0.6), 0.5, ShareBounds(0.4, 0.6, 0.6), 0.05)
        == "open"
    )


def test_a_true_rate_below_the_slo_is_hardly_ever_proven_at_any_look() -> None:
    random, looks = np.random.default_rng(5), growing_looks(60)
    good = np.cumsum(random.binomial(20, 0.99, size=(2000, 60)), axis=1)
    wrong = np.zeros(2000, bool)
    for count in looks.repeats:
        level = looks.level(count)
        proven = {
            number: share_bounds(number, 20 * count, 1.0, level).low >= 0.99
            for number in set(good[:, count - 1].tolist())
        }
        wrong |= np.array([proven[number] for number in good[:, count - 1].tolist()])
    assert wrong.mean() <= TAIL + 3 * math.sqrt(TAIL / 2000)


def test_upper_bounds_are_those_of_student_and_need_three_repeats() -> None:
    logs = np.array([[0.1, 0.2, 0.4, np.nan], [0.1, 0.2, np.nan, np.nan]])
    bound, unknown = upper_bounds(logs, 1.0)
    known = logs[0, :3]
    expected = known.mean() + stats.t.ppf(1 - BEHIND, 2) * stats.sem(known)
    assert bound == pytest.approx(expected)
    assert unknown == math.inf


def test_a_better_cell_is_hardly_ever_overlooked_at_any_look() -> None:
    random, looks = np.random.default_rng(7), growing_looks(60)
    logs = random.normal(0.0, 0.1, size=(2000, 60))
    overlooked = np.zeros(2000, bool)
    for count in looks.repeats:
        overlooked |= upper_bounds(logs[:, :count], looks.level(count)) < 0
    assert overlooked.mean() <= BEHIND + 3 * math.sqrt(BEHIND / 2000)


def test_the_design_effect_is_one_for_independent_workflows_and_grows_with_bursts() -> None:
    random = np.random.default_rng(9)
    alike = np.mean(
        [design_effect(random.binomial(20, 0.9, 60).tolist(), [20] * 60) for _ in range(200)]
    )
    assert 1.0 <= alike < 1.2
    assert design_effect([20] * 8 + [0] * 2, [20] * 10) > 15
    assert design_effect([20, 20], [20, 20]) == 1.0


def test_a_mean_is_significant_only_with_three_values_that_agree() -> None:
    assert significant_mean([1.0, 1.1]) == 0.0
    assert significant_mean([1.0, 1.1, 0.9]) == pytest.approx(1.0)
    assert significant_mean([1.0, -1.1, 0.4]) == 0.0


def test_a_small_lead_needs_more_repeats_than_a_large_one() -> None:
    def needed(*times: float) -> int:
        advantages = (-np.log(times)).tolist()
        return next(count for count in range(3, 1000) if leads(advantages, count, 0.02, 1.0))

    few, many = needed(1.5, 1.6, 1.4), needed(1.05, 1.15, 0.95)
    assert 3 <= few < many
    assert not leads((-np.log([1.0, 0.5])).tolist(), 1000, 0.02, 1.0)
