"""Every backoff has the published distribution: Kolmogorov-Smirnov against its closed form.

Seeds are fixed, so that a test that passes always does. With 20,000 draws a distribution that is
off by 2 % of probability anywhere is found (critical value at p = 0.001: 1.4 %).
"""

from __future__ import annotations

from random import Random

import pytest
from scipy import stats

from harness.policies.aws_standard import AwsBackoff
from harness.policies.exponential import ExponentialRule
from harness.policies.openai_sdk import OpenAISdkRule
from harness.policies.retry import Failure, Retry
from harness.records.clock import SECOND

DRAWS = 20_000
P = 0.001
FULL = ExponentialRule(attempts=20, base=SECOND // 2, cap=20 * SECOND, jitter="full")
EQUAL = FULL._replace(jitter="equal")
APART = FULL._replace(jitter="decorrelated")
SDK = OpenAISdkRule(max_retries=20)
AWS = AwsBackoff(attempts=20)


def failure(attempt: int, outcome: str = "rate_limited", waited: float | None = None) -> Failure:
    last = None if waited is None else round(waited * SECOND)
    status = 429 if outcome == "rate_limited" else 503
    return Failure(attempt, outcome, status, None, None, 0, 10**15, last)


def drawn(policy: Retry, failed: Failure) -> list[float]:
    random = Random(f"{policy}{failed}")
    decisions = [policy.decide(failed, random) for _ in range(DRAWS)]
    return [decision.retry_in / SECOND for decision in decisions if decision.retry_in is not None]


def assert_uniform(waits: list[float], low: float, high: float) -> None:
    assert len(waits) == DRAWS
    assert stats.kstest(waits, stats.uniform(low, high - low).cdf).pvalue > P


ATTEMPTS = [1, 2, 3, 6, 7, 12]


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_full_jitter_is_uniform_from_nothing_to_the_capped_power_of_two(attempt: int) -> None:
    assert_uniform(drawn(FULL, failure(attempt)), 0, min(20, 0.5 * 2 ** (attempt - 1)))


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_equal_jitter_is_uniform_over_the_upper_half(attempt: int) -> None:
    ceiling = min(20, 0.5 * 2 ** (attempt - 1))
    assert_uniform(drawn(EQUAL, failure(attempt)), ceiling / 2, ceiling)


def test_decorrelated_jitter_is_uniform_from_the_base_to_three_times_the_last_wait() -> None:
    assert_uniform(drawn(APART, failure(1)), 0.5, 1.5)
    assert_uniform(drawn(APART, failure(2, waited=0.9)), 0.5, 2.7)
    assert_uniform(drawn(APART, failure(3, waited=6.5)), 0.5, 19.5)


def test_decorrelated_jitter_puts_what_is_above_its_cap_on_the_cap() -> None:
    waits = drawn(APART, failure(4, waited=20))
    below = [wait for wait in waits if wait < 20]
    assert max(waits) == 20
    share = (20 - 0.5) / (60 - 0.5)
    assert stats.binomtest(len(below), DRAWS, share).pvalue > P
    assert stats.kstest(below, stats.uniform(0.5, 19.5).cdf).pvalue > P


def test_two_waits_of_decorrelated_jitter_have_the_joint_distribution() -> None:
    """The second given the first is uniform, so its rank within its range is uniform, too."""
    random = Random(5)
    ranks = []
    for _ in range(DRAWS):
        first = APART.decide(failure(1), random).retry_in
        assert first is not None
        second = APART.decide(failure(2, waited=first / SECOND), random).retry_in
        assert second is not None
        ranks.append((second / SECOND - 0.5) / (3 * first / SECOND - 0.5))
    assert_uniform(ranks, 0, 1)


@pytest.mark.parametrize("attempt", [1, 2, 4, 5, 9])
def test_the_sdks_wait_is_uniform_over_the_upper_quarter(attempt: int) -> None:
    ceiling = min(8, 0.5 * 2 ** (attempt - 1))
    assert_uniform(drawn(SDK, failure(attempt)), 0.75 * ceiling, ceiling)


@pytest.mark.parametrize("attempt", [1, 2, 5, 6, 14])
def test_aws_waits_uniformly_up_to_a_power_of_two_of_a_second_or_of_50_ms(attempt: int) -> None:
    for outcome, base in [("rate_limited", 1.0), ("unavailable", 0.05)]:
        ceiling = min(20, base * 2 ** (attempt - 1))
        assert_uniform(drawn(AWS, failure(attempt, outcome)), 0, ceiling)


def test_a_wrong_distribution_is_found() -> None:
    waits = drawn(FULL, failure(3))
    assert stats.kstest(waits, stats.uniform(0, 2.06).cdf).pvalue < P
