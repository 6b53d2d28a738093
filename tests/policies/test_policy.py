"""What calls ask of a policy, and how a retry policy of one call answers."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from harness.policies.exponential import ExponentialRule
from harness.policies.protocol import (
    Asking,
    Earlier,
    Ended,
    Go,
    RetryVerdict,
    failure_of,
)
from harness.policies.stack import Stack
from harness.records.failures import OK
from harness.records.schema import give_up, retry_in

THREE = ExponentialRule(attempts=3, base=10, cap=10, jitter="full")
ENDED = Ended(
    "fan_out", 1, "unavailable", 503, None, None, admitted=5, sent=6, now=9, deadline=10**9
)
OWN = Earlier("unavailable", retry_in(7, "policy"))
PARKED = Earlier("unavailable", retry_in(0, "breaker"))


def no_random() -> Random:
    pytest.fail("nothing is to be drawn")


def test_a_policy_of_one_call_lets_every_attempt_out_and_never_hedges() -> None:
    policy = Stack([], THREE)
    assert policy.admit(Asking("fan_out", 1, 0)) == Go()
    assert policy.hedge is None


def test_nothing_follows_a_success_and_nothing_is_drawn_for_it() -> None:
    assert Stack([], THREE).ended(replace(ENDED, outcome=OK), no_random) == RetryVerdict(None)


def test_a_failure_gets_the_decision_of_the_retry_policy() -> None:
    last = replace(ENDED, attempt=3, earlier=(OWN, OWN))
    assert Stack([], THREE).ended(last, lambda: Random(0)) == RetryVerdict(give_up("attempts"))


def test_attempts_that_a_breaker_took_upon_itself_do_not_count_as_the_calls_own() -> None:
    ended = replace(ENDED, attempt=5, earlier=(OWN, PARKED, OWN, PARKED))
    assert failure_of(ended).attempt == 3
    assert failure_of(replace(ENDED, attempt=3, earlier=(PARKED, PARKED))).attempt == 1


def test_the_wait_before_an_attempt_is_the_last_that_the_policy_planned() -> None:
    assert failure_of(ENDED).waited is None
    ended = replace(ENDED, attempt=3, earlier=(OWN, PARKED))
    assert failure_of(ended).waited == 7
