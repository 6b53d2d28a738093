"""Budgets: what each rule allows, and that no interleaving of calls gets more out of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.policies.aws_standard import AwsQuota
from harness.policies.budget_layer import BudgetRule
from harness.policies.finagle_budget import WINDOW_SLICES, FinagleBudgetRule
from harness.policies.grpc_throttling import GrpcThrottlingRule
from harness.policies.protocol import Earlier, Ended
from harness.policies.retry_budget import RetryBudgetRule
from harness.policies.token_bucket import WHOLE
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.schema import retry_in

WINDOW = 10 * SECOND


def attempt_of(outcome: str, *, number: int = 1, now: int = 0, after: str = "") -> Ended:
    earlier = (Earlier(after, retry_in(0, "policy")),) if after else ()
    return Ended("fan_out", number, outcome, None, None, None, now, now, now, 10**15, earlier)


def spend(budget: BudgetRule, *ends: Ended, state: Any = None) -> tuple[Any, list[bool]]:
    """Let attempts end one after another; every failure wants to be sent again."""
    state = budget.fresh() if state is None else state
    answers = []
    for end in ends:
        state, may = budget.ended(state, end, end.outcome != OK)
        answers.append(may)
    return state, answers


FAILED = attempt_of("unavailable")
AGAIN = attempt_of("unavailable", number=2, after="unavailable")
GOOD = attempt_of(OK)
LIMITED = attempt_of("rate_limited", number=2, after="rate_limited")


def test_the_quota_of_aws_pays_for_35_retries_or_for_100_after_a_429() -> None:
    _, answers = spend(AwsQuota(), *[FAILED] * 40)
    assert answers == [True] * 35 + [False] * 5
    _, answers = spend(AwsQuota(), *[LIMITED] * 110)
    assert answers == [True] * 100 + [False] * 10


@pytest.mark.parametrize(
    ("good", "gives"),
    [
        (GOOD, 1),
        (attempt_of(OK, number=2, after="unavailable"), 14),
        (attempt_of(OK, number=2, after="rate_limited"), 5),
    ],
)
def test_a_success_gives_the_quota_of_aws_back_what_its_retry_cost_or_one(
    good: Ended, gives: int
) -> None:
    empty, _ = spend(AwsQuota(), *[FAILED] * 35)
    assert empty.tokens == 10
    state, _ = spend(AwsQuota(), good, state=empty)
    assert state.tokens == 10 + gives


def test_what_a_breaker_sent_again_was_not_paid_for_and_gives_back_no_more_than_a_first() -> None:
    empty, _ = spend(AwsQuota(), *[FAILED] * 35)
    parked = (Earlier("unavailable", retry_in(0, "breaker")),)
    state, _ = spend(AwsQuota(), replace(GOOD, attempt=2, earlier=parked), state=empty)
    assert state.tokens == empty.tokens + 1


def test_a_bucket_holds_no_more_than_its_size() -> None:
    for budget in (AwsQuota(), RetryBudgetRule(100, 10), GrpcThrottlingRule(10, 100)):
        state, _ = spend(budget, *[GOOD] * 50)
        assert state == budget.fresh()


def test_a_retry_budget_allows_its_burst_and_then_one_in_ten() -> None:
    _, answers = spend(RetryBudgetRule(ratio=100, burst=3), *[AGAIN] * 5)
    assert answers == [True, True, True, False, False]
    budget = RetryBudgetRule(ratio=100, burst=3)
    _, answers = spend(budget, *[AGAIN] * 3, *[GOOD] * 9, AGAIN, GOOD, AGAIN, AGAIN)
    assert [may for may in answers if not may] == [False, False]
    assert answers[-4:] == [False, True, True, False]


def test_grpc_blocks_retries_while_half_of_the_tokens_or_more_are_gone() -> None:
    _, answers = spend(GrpcThrottlingRule(tokens=10, ratio=100), *[AGAIN] * 7)
    assert answers == [True] * 4 + [False] * 3
    state, _ = spend(GrpcThrottlingRule(10, 100), *[AGAIN] * 5)
    state, _ = spend(GrpcThrottlingRule(10, 100), *[GOOD] * 10, state=state)
    assert state.tokens == 6 * WHOLE
    _, answers = spend(GrpcThrottlingRule(10, 100), AGAIN, state=state)
    assert answers == [False]
    _, answers = spend(GrpcThrottlingRule(10, 100), GOOD, AGAIN, state=state)
    assert answers == [True, True]


def test_grpc_counts_no_failure_that_a_retry_could_not_mend() -> None:
    budget = GrpcThrottlingRule(10, 100)
    state, _ = budget.ended(budget.fresh(), attempt_of("unauthorized"), False)
    assert state == budget.fresh()


def test_finagle_allows_its_reserve_and_a_share_of_the_calls_within_its_window() -> None:
    budget = FinagleBudgetRule(ratio=200, reserve=2, window=WINDOW)
    calls = [attempt_of(OK, now=at * SECOND) for at in range(5)]
    retries = [attempt_of("unavailable", number=2, now=5 * SECOND)] * 4
    _, answers = spend(budget, *calls, *retries)
    assert answers[-4:] == [True, True, True, False]


def test_what_finagles_window_has_left_behind_counts_no_more() -> None:
    budget = FinagleBudgetRule(ratio=200, reserve=1, window=WINDOW)
    state, answers = spend(budget, *[AGAIN] * 2)
    assert answers == [True, False]
    late = attempt_of("unavailable", number=2, now=WINDOW - 1)
    assert spend(budget, late, state=state)[1] == [False]
    late = attempt_of("unavailable", number=2, now=WINDOW)
    assert spend(budget, late, state=state)[1] == [True]


ends = st.builds(
    attempt_of,
    st.sampled_from([OK, "unavailable", "rate_limited", "truncated"]),
    number=st.integers(1, 3),
    now=st.integers(0, 60 * SECOND),
    after=st.sampled_from(["", "unavailable", "rate_limited"]),
)


@given(st.lists(ends, max_size=80), st.integers(1, 1000), st.integers(1, 20))
def test_a_retry_budget_never_allows_more_than_its_burst_and_its_share(
    schedule: list[Ended], ratio: int, burst: int
) -> None:
    state, answers = spend(RetryBudgetRule(ratio, burst), *schedule)
    allowed = sum(may for may, end in zip(answers, schedule, strict=True) if end.outcome != OK)
    calls = sum(end.attempt == 1 for end in schedule)
    assert allowed * WHOLE <= burst * WHOLE + ratio * calls
    assert 0 <= state.tokens <= state.most


@given(st.lists(ends, max_size=80), st.integers(1, 1000), st.integers(0, 20))
def test_finagle_never_allows_more_than_reserve_and_share_of_the_window_before_a_retry(
    schedule: list[Ended], ratio: int, reserve: int
) -> None:
    schedule = sorted(schedule, key=lambda end: end.now)
    _, answers = spend(FinagleBudgetRule(ratio, reserve, WINDOW), *schedule)
    allowed = [may and end.outcome != OK for end, may in zip(schedule, answers, strict=True)]
    slices = [end.now * WINDOW_SLICES // WINDOW for end in schedule]
    for place, last in enumerate(slices):
        if allowed[place]:
            inside = [at for at in range(place + 1) if last - WINDOW_SLICES < slices[at]]
            retries = sum(allowed[at] for at in inside)
            calls = sum(schedule[at].attempt == 1 for at in inside)
            assert retries * WHOLE <= reserve * WHOLE + ratio * calls


@given(st.lists(ends, max_size=120), st.integers(0, 500))
def test_the_quota_of_aws_is_never_overdrawn(schedule: list[Ended], size: int) -> None:
    budget = AwsQuota(size)
    state = budget.fresh()
    for end in schedule:
        before = state.tokens
        state, may = budget.ended(state, end, end.outcome != OK)
        cost = 5 if end.outcome == "rate_limited" else 14
        assert 0 <= state.tokens <= size
        if end.outcome != OK:
            assert may == (before >= cost)
            assert state.tokens == before - (cost if may else 0)


@given(st.lists(ends, max_size=120), st.integers(1, 20), st.integers(1, 1000))
def test_grpc_never_allows_a_retry_at_or_below_half(
    schedule: list[Ended], tokens: int, ratio: int
) -> None:
    budget = GrpcThrottlingRule(tokens, ratio)
    state = budget.fresh()
    for end in schedule:
        state, may = budget.ended(state, end, end.outcome != OK)
        assert 0 <= state.tokens <= state.most
        if end.outcome != OK:
            assert may == (state.tokens > state.most / 2)
