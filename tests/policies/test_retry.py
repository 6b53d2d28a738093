"""Retry policies: pure decisions over numbers."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.policies.aws_standard import AwsBackoff
from harness.policies.exponential import ExponentialRule
from harness.policies.fixed import FixedRule
from harness.policies.no_retry import NoRetryRule
from harness.policies.openai_sdk import OpenAISdkRule
from harness.policies.retry import Failure, Retry
from harness.records.clock import SECOND
from harness.records.failures import FAILURES, is_retryable
from harness.records.schema import Decision, give_up, retry_in

FULL = ExponentialRule(attempts=10, base=SECOND // 2, cap=20 * SECOND, jitter="full")
EQUAL = FULL._replace(jitter="equal")
APART = FULL._replace(jitter="decorrelated")
SDK = OpenAISdkRule(max_retries=10)
FIXED = FixedRule(attempts=10, delay=2 * SECOND)
AWS = AwsBackoff(attempts=10)
FOREVER = 10**15


def failure(**fields: Any) -> Failure:
    plain = Failure(1, "rate_limited", 429, None, None, now=0, deadline=FOREVER)
    return plain._replace(**fields)


def waits(policy: Retry, attempt: int, draws: int = 4000) -> list[int]:
    random = Random(f"{attempt}")
    decisions = [policy.decide(failure(attempt=attempt), random) for _ in range(draws)]
    assert {decision.source for decision in decisions} == {"policy"}
    return [decision.retry_in for decision in decisions if decision.retry_in is not None]


class Draws(Random):
    """A random source that draws one given value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


LOWEST, HIGHEST = Draws(0.0), Draws(1 - 2**-53)

CEILINGS = [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 20.0), (9, 20.0)]
SDK_CEILINGS = [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (10, 8.0)]


@pytest.mark.parametrize(
    ("policy", "attempt", "ceiling", "floor"),
    [
        *((FULL, attempt, ceiling, 0.0) for attempt, ceiling in CEILINGS),
        *((EQUAL, attempt, ceiling, 0.5) for attempt, ceiling in CEILINGS),
        *((SDK, attempt, ceiling, 0.75) for attempt, ceiling in SDK_CEILINGS),
    ],
)
def test_backoff_is_uniform_between_its_floor_and_its_ceiling(
    policy: Retry, attempt: int, ceiling: float, floor: float
) -> None:
    """Bounds exactly, and every tenth of the range with a tenth of the draws, within 5 sigma."""
    low, high = round(ceiling * floor * SECOND), round(ceiling * SECOND)
    extremes = {
        policy.decide(failure(attempt=attempt), draws).retry_in for draws in (LOWEST, HIGHEST)
    }
    assert extremes == {low, high}
    drawn = waits(policy, attempt)
    assert low <= min(drawn) <= max(drawn) <= high
    tenths = [0] * 10
    for wait in drawn:
        tenths[min(9, (wait - low) * 10 // (high - low))] += 1
    sigma = (len(drawn) * 0.1 * 0.9) ** 0.5
    assert all(abs(count - len(drawn) / 10) < 5 * sigma for count in tenths)


def test_a_policy_that_draws_from_equal_sources_decides_equally() -> None:
    for policy in (FULL, EQUAL, SDK):
        assert waits(policy, 3) == waits(policy, 3)


jitters = st.sampled_from(["full", "equal", "decorrelated"])


@given(
    attempt=st.integers(1, 10**6),
    base=st.integers(0, 10**13),
    cap=st.integers(0, 10**14),
    jitter=jitters,
    draw=st.floats(0, 1, exclude_max=True),
)
def test_backoff_stays_below_its_cap_and_equal_jitter_above_half(
    attempt: int, base: int, cap: int, jitter: Literal["full", "equal", "decorrelated"], draw: float
) -> None:
    policy = ExponentialRule(attempts=attempt + 1, base=base, cap=cap, jitter=jitter)
    wait = policy.decide(failure(attempt=attempt), Draws(draw)).retry_in
    assert wait is not None
    ceiling = min(cap, base * (3 if jitter == "decorrelated" else 2 ** min(attempt - 1, 62)))
    assert 0 <= wait <= ceiling
    if jitter == "equal":
        assert wait >= ceiling // 2


@given(
    attempt=st.integers(1, 10**6),
    second=st.integers(1, 10**10),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_the_sdks_backoff_scales_with_the_length_of_a_second(
    attempt: int, second: int, draw: float
) -> None:
    policy = OpenAISdkRule(max_retries=attempt, second=second)
    wait = policy.decide(failure(attempt=attempt), Draws(draw)).retry_in
    assert wait is not None
    ceiling = min(0.5 * 2.0 ** min(attempt - 1, 50), 8) * second
    assert 0.75 * ceiling - 1 <= wait <= ceiling + 1


failures = st.builds(
    Failure,
    attempt=st.integers(1, 12),
    outcome=st.sampled_from(sorted(FAILURES)),
    status=st.none() | st.sampled_from([200, 302, 400, 401, 408, 409, 429, 500, 503]),
    retry_after=st.none() | st.integers(0, 300 * SECOND),
    should_retry=st.none() | st.booleans(),
    now=st.integers(0, 10**12),
    deadline=st.integers(0, 10**12),
    waited=st.none() | st.integers(0, 10**12),
    rate_limit_reset=st.none() | st.integers(0, 300 * SECOND),
)


HONOURING = [NoRetryRule(), FIXED, FULL, EQUAL, APART, SDK]


@given(failure=failures, policy=st.sampled_from([*HONOURING, AWS]), seed=st.integers())
def test_no_policy_sleeps_past_the_deadline_or_sends_more_than_its_attempts(
    failure: Failure, policy: Retry, seed: int
) -> None:
    decision = policy.decide(failure, Random(seed))
    assert (decision.retry_in is None) == bool(decision.give_up) == (decision.source is None)
    if decision.retry_in is not None:
        assert decision.retry_in >= 0
        assert failure.now + decision.retry_in <= failure.deadline
        assert failure.attempt <= (10 if policy is SDK else 9)


@given(failure=failures, policy=st.sampled_from(HONOURING), seed=st.integers())
def test_no_policy_but_that_of_aws_waits_shorter_than_the_server_asks(
    failure: Failure, policy: Retry, seed: int
) -> None:
    decision = policy.decide(failure, Random(seed))
    if decision.retry_in is not None:
        assert decision.retry_in >= (failure.retry_after or 0)
        assert (decision.source == "retry_after") == bool(failure.retry_after)


@given(failure=failures, seed=st.integers())
def test_that_of_aws_lengthens_its_own_wait_by_five_seconds_at_most(
    failure: Failure, seed: int
) -> None:
    failure = failure._replace(deadline=FOREVER)
    drawn = AWS.decide(failure._replace(retry_after=None), Random(seed)).retry_in
    decision = AWS.decide(failure, Random(seed))
    if drawn is None:
        assert decision.retry_in is None
    else:
        asked = failure.retry_after or 0
        assert decision.retry_in == max(drawn, min(asked, drawn + 5 * SECOND))
        assert (decision.source == "retry_after") == (asked > drawn)


@given(failure=failures, jitter=jitters)
def test_backoff_tries_again_exactly_what_the_table_of_failures_calls_retryable(
    failure: Failure, jitter: Literal["full", "equal", "decorrelated"]
) -> None:
    patient = failure._replace(deadline=FOREVER)
    decision = FULL._replace(attempts=13, jitter=jitter).decide(patient, Random(0))
    assert (decision.retry_in is not None) == is_retryable(failure.outcome)


@pytest.mark.parametrize(
    ("policy", "changes", "decision"),
    [
        (NoRetryRule(), {}, give_up("policy")),
        (FULL, {"outcome": "unauthorized", "status": 401}, give_up("not_retryable")),
        (FULL, {"attempt": 9}, retry_in(0, "policy")),
        (FULL, {"attempt": 10}, give_up("attempts")),
        (FULL, {"attempt": 11}, give_up("attempts")),
        (FULL, {"retry_after": 7}, retry_in(7, "retry_after")),
        (FULL, {"retry_after": 500 * SECOND}, retry_in(500 * SECOND, "retry_after")),
        (FULL, {"retry_after": 7, "attempt": 10}, give_up("attempts")),
        (FULL, {"retry_after": 7, "now": 5, "deadline": 12}, retry_in(7, "retry_after")),
        (FULL, {"retry_after": 7, "now": 5, "deadline": 11}, give_up("deadline")),
        (EQUAL, {"now": 5, "deadline": 6}, give_up("deadline")),
        (EQUAL, {"retry_after": 0}, retry_in(SECOND // 4, "policy")),
        (APART, {}, retry_in(SECOND // 2, "policy")),
        (APART, {"retry_after": 7}, retry_in(7, "retry_after")),
        (FIXED, {}, retry_in(2 * SECOND, "policy")),
        (FIXED, {"attempt": 10}, give_up("attempts")),
        (FIXED, {"outcome": "truncated"}, give_up("not_retryable")),
        (FIXED, {"retry_after": 7}, retry_in(7, "retry_after")),
        (FIXED, {"now": 5, "deadline": 6}, give_up("deadline")),
        (AWS, {"retry_after": SECOND}, retry_in(SECOND, "retry_after")),
        (AWS, {"retry_after": 60 * SECOND}, retry_in(5 * SECOND, "retry_after")),
        (AWS, {"attempt": 10}, give_up("attempts")),
        (AWS, {"retry_after": 7, "now": 5, "deadline": 11}, give_up("deadline")),
        (AWS, {"outcome": "forbidden"}, give_up("not_retryable")),
        (SDK, {"attempt": 11}, give_up("attempts")),
        (SDK._replace(max_retries=0), {}, give_up("attempts")),
        (SDK, {"retry_after": 120 * SECOND}, retry_in(120 * SECOND, "retry_after")),
        (SDK, {"retry_after": 120 * SECOND + 1}, give_up("retry_after_too_long")),
        (SDK._replace(second=10), {"retry_after": 1200}, retry_in(1200, "retry_after")),
        (SDK._replace(second=10), {"retry_after": 1201}, give_up("retry_after_too_long")),
        (SDK, {"now": 5, "deadline": 6}, give_up("deadline")),
    ],
)
def test_a_decision_says_when_or_why_not(
    policy: Retry, changes: dict[str, Any], decision: Decision
) -> None:
    assert policy.decide(failure(**changes), LOWEST) == decision


@pytest.mark.parametrize("rule", [FixedRule(3, 5), ExponentialRule(3, 5, 50, "full")])
def test_the_reset_of_a_limit_is_a_hint_where_retry_after_is_missing(rule: Retry) -> None:
    failed = Failure(1, "rate_limited", 429, None, None, 100, 1000, rate_limit_reset=300)
    assert rule.decide(failed, Random(1)) == retry_in(300, "rate_limit_reset")
    told = failed._replace(retry_after=40)
    assert rule.decide(told, Random(1)) == retry_in(40, "retry_after")
    late = rule.decide(failed._replace(rate_limit_reset=2000), Random(1))
    assert late.source == "policy"


def test_the_package_does_not_read_the_reset_of_a_limit() -> None:
    failed = Failure(1, "rate_limited", 429, None, None, 0, 10**12, rate_limit_reset=300)
    assert OpenAISdkRule(2).decide(failed, Random(1)).source == "policy"
