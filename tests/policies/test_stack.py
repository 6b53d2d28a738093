"""Policies around one another: who hears of what, who pays, and what order changes."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.policies.aws_standard import AwsBackoff, AwsQuota
from harness.policies.breaker import BreakerLayer, BreakerRule, Closed
from harness.policies.budget_layer import BudgetLayer
from harness.policies.exponential import ExponentialRule
from harness.policies.finagle_budget import FinagleBudgetRule
from harness.policies.fixed import FixedRule
from harness.policies.grpc_throttling import GrpcThrottlingRule
from harness.policies.hedge import HedgeLayer
from harness.policies.layers import Inside, Layer
from harness.policies.no_retry import NoRetryRule
from harness.policies.openai_sdk import OpenAISdkRule
from harness.policies.protocol import Admission, Asking, Earlier, Ended, Go, ParkCall, RetryVerdict
from harness.policies.retry import Retry
from harness.policies.retry_budget import RetryBudgetRule
from harness.policies.stack import Stack
from harness.records.failures import OK
from harness.records.schema import give_up, retry_in
from tests.policies.calls import any_random, end_of

RULE = BreakerRule(failures=1, many=1, last=1, pause=100, cap=100)
TEN = FixedRule(attempts=5, delay=10)
ASKING = Asking("fan_out", 1, 0)


def budget(burst: int = 1, scope: str = "process") -> BudgetLayer:
    return BudgetLayer(RetryBudgetRule(ratio=1, burst=burst), scope)  # type: ignore[arg-type]


def fail(policy: Stack, outcome: str = "unavailable", phase: str = "fan_out") -> RetryVerdict:
    failed = end_of(outcome, admitted=0, sent=1, now=2, attempt=2)
    return policy.ended(replace(failed, phase=phase), any_random)


def test_without_layers_it_is_its_retry_policy() -> None:
    policy = Stack([], TEN)
    assert policy.admit(ASKING) == Go()
    assert policy.hedge is None
    assert fail(policy) == RetryVerdict(retry_in(10, "policy"))
    assert fail(policy, "truncated") == RetryVerdict(give_up("not_retryable"))
    assert fail(policy, OK) == RetryVerdict(None)


def test_an_empty_budget_ends_a_call_that_would_be_tried_again() -> None:
    policy = Stack([budget(burst=2)], TEN)
    assert [fail(policy).decision for _ in range(3)] == [
        retry_in(10, "policy"),
        retry_in(10, "policy"),
        give_up("budget"),
    ]


def test_what_ends_anyway_costs_the_budget_nothing_and_keeps_its_own_reason() -> None:
    policy = Stack([budget()], TEN)
    assert fail(policy, "truncated").decision == give_up("not_retryable")
    assert fail(policy).decision == retry_in(10, "policy")


def test_a_budget_inside_of_a_breaker_does_not_pay_for_what_the_breaker_sends_again() -> None:
    policy = Stack([BreakerLayer(RULE, "b"), budget()], TEN)
    assert [fail(policy).decision for _ in range(3)] == [retry_in(0, "breaker")] * 3
    assert fail(policy, "rate_limited").decision == retry_in(10, "policy")


def test_a_budget_around_a_breaker_pays_for_it() -> None:
    policy = Stack([budget(), BreakerLayer(RULE, "b")], TEN)
    assert [fail(policy).decision for _ in range(2)] == [
        retry_in(0, "breaker"),
        give_up("budget"),
    ]


def test_a_failure_beside_a_hedged_attempt_is_noted_and_decides_nothing() -> None:
    breaker, throttling = BreakerLayer(RULE, "b"), BudgetLayer(GrpcThrottlingRule(2, 1))
    beside = replace(end_of("connection_lost", admitted=0, sent=1, now=2), final=False)
    assert Stack([budget(), throttling], TEN).ended(beside, any_random) == RetryVerdict(None)
    assert throttling.states.get("fan_out").tokens == 1000
    policy = Stack([budget(), breaker], TEN)
    assert policy.ended(beside, any_random) == RetryVerdict(None)
    assert isinstance(policy.admit(ASKING), ParkCall)
    assert fail(policy).decision == retry_in(0, "breaker")


def test_a_ring_is_heard_through_every_layer() -> None:
    policy = Stack([budget(), BreakerLayer(RULE, "b")], TEN)
    fail(policy)
    parked = policy.admit(ASKING)
    assert isinstance(parked, ParkCall)
    assert policy.admit(replace(ASKING, now=200)) == Go()
    good = end_of(OK, admitted=200, sent=201, now=300)
    assert policy.ended(good, any_random) == RetryVerdict(None, ring=parked.bell)


def test_an_inner_layer_that_parks_is_heard_of() -> None:
    policy = Stack([budget(), BreakerLayer(RULE, "b")], NoRetryRule())
    fail(policy)
    assert isinstance(policy.admit(ASKING), ParkCall)


def test_attempts_that_a_breaker_took_over_leave_the_call_all_of_its_own() -> None:
    policy = Stack([BreakerLayer(RULE._replace(failures=9, many=9, last=9), "b")], TEN)
    earlier = (Earlier("unavailable", retry_in(0, "breaker")),) * 7
    ended = end_of("unavailable", admitted=0, sent=1, now=2, attempt=8, earlier=earlier)
    assert policy.ended(ended, any_random) == RetryVerdict(retry_in(10, "policy"))


def test_a_budget_for_each_phase_is_spent_apart() -> None:
    policy = Stack([budget(scope="phase")], TEN)
    for phase in ("decompose", "fan_out"):
        assert fail(policy, phase=phase).decision == retry_in(10, "policy")
        assert fail(policy, phase=phase).decision == give_up("budget")


def test_hedges_are_paid_for_by_calls_after_the_first_few() -> None:
    policy = Stack([HedgeLayer(after=7, ratio=500, burst=2)], NoRetryRule())
    assert policy.hedge is not None
    assert policy.hedge.after == 7
    asking = Asking("fan_out", 2, 9)
    assert [policy.hedge.may(asking) for _ in range(3)] == [True, True, False]
    for number in (1, 2, 1):  # a hedge that ends is no new call
        policy.ended(end_of(OK, admitted=0, sent=1, now=2, attempt=number), any_random)
    assert [policy.hedge.may(asking) for _ in range(2)] == [True, False]


def test_hedges_of_a_phase_leave_those_of_another_alone() -> None:
    policy = Stack([HedgeLayer(after=7, ratio=1, burst=1, scope="phase")], NoRetryRule())
    assert policy.hedge is not None
    assert policy.hedge.may(Asking("decompose", 2, 0))
    assert policy.hedge.may(Asking("fan_out", 2, 0))
    assert not policy.hedge.may(Asking("fan_out", 2, 0))


class OneAtATime:
    """A layer that notices when two threads are in it."""

    hedge = None

    def __init__(self) -> None:
        self.inside = self.most = 0

    def admit(self, asking: Asking) -> Admission:
        self.pass_through()
        return Go()

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        self.pass_through()
        return inside()

    def pass_through(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _ in range(100):  # where another thread may be let in, if nothing holds it off
            pass
        self.inside -= 1


def test_threads_go_through_a_stack_one_at_a_time() -> None:
    layer = OneAtATime()
    policy, together = Stack([layer, budget(burst=20)], TEN), threading.Barrier(8)

    def use(_: int) -> int:
        together.wait()
        retries = 0
        for _ in range(50):
            policy.admit(ASKING)
            retries += fail(policy).decision == retry_in(10, "policy")
        return retries

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            spent = list(pool.map(use, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert layer.most == 1
    assert sum(spent) == 20


outcomes = st.sampled_from([OK, "unavailable", "rate_limited", "connection_lost", "bad_request"])
innermost: list[Retry] = [
    NoRetryRule(), TEN, AwsBackoff(3), OpenAISdkRule(2), ExponentialRule(4, 10, 500, "full"),
    ExponentialRule(4, 10, 500, "equal"), ExponentialRule(4, 10, 500, "decorrelated"),
]  # fmt: skip
MOST = [1, 5, 3, 3, 4, 4, 4]


def all_layers() -> list[Layer]:
    return [
        BreakerLayer(BreakerRule(2, 3, 4, 50, 200), "b"),
        BudgetLayer(RetryBudgetRule(500, 3)),
        BudgetLayer(AwsQuota(60)),
        BudgetLayer(GrpcThrottlingRule(8, 500)),
        BudgetLayer(FinagleBudgetRule(500, 3, 1000)),
        HedgeLayer(5, 100, 2),
    ]


@given(
    data=st.data(),
    order=st.permutations(range(6)),
    count=st.integers(0, 6),
    inner=st.integers(0, len(innermost) - 1),
)
def test_no_stack_sleeps_past_a_deadline_or_sends_more_than_its_innermost_allows(
    data: st.DataObject, order: list[int], count: int, inner: int
) -> None:
    """Calls that overlap as they like: each ends by itself, within its deadline and attempts."""
    layers = [all_layers()[place] for place in order[:count]]
    policy, random = Stack(layers, innermost[inner]), Random(0)
    waiting: list[tuple[int, int, tuple[Earlier, ...]]] = [(number, 1, ()) for number in range(4)]
    deadline, now = data.draw(st.integers(1, 2000)), 0
    own = dict.fromkeys(range(4), 0)
    while waiting and now < deadline:
        number, attempt, earlier = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        now += data.draw(st.integers(0, 30))
        answer = policy.admit(Asking("fan_out", attempt, now))
        if isinstance(answer, ParkCall):
            assert answer.until is not None, "no probe is in flight here"
            now = max(now, answer.until)
            waiting.append((number, attempt, earlier))
            continue
        sent, now = now, now + data.draw(st.integers(1, 30))
        failed = end_of(
            data.draw(outcomes), admitted=sent, sent=sent, now=now, attempt=attempt,
            deadline=deadline, earlier=earlier,
            hint=data.draw(st.sampled_from([0, 0, 40, 5000])),
        )  # fmt: skip
        decision = policy.ended(failed, lambda: random).decision
        own[number] += decision is None or decision.source != "breaker"
        assert own[number] <= MOST[inner]
        if decision is not None and decision.retry_in is not None:
            assert now + decision.retry_in <= deadline
            before = (*earlier, Earlier(failed.outcome, decision))
            waiting.append((number, attempt + 1, before))


@pytest.mark.parametrize("outcome", ["unavailable", OK])
def test_a_stack_with_a_closed_breaker_does_what_it_would_do_without(outcome: str) -> None:
    layer = BreakerLayer(BreakerRule(9, 9, 9, 1, 1), "b")
    assert fail(Stack([layer], TEN), outcome) == fail(Stack([], TEN), outcome)
    assert isinstance(layer.states.get("fan_out").state, Closed)
