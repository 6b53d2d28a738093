"""A call whose policy does not let it out: parked, woken and let out, driven by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.engine.attempt import CallTerms
from harness.engine.call import Completion, complete
from harness.engine.effects import (
    Acquire,
    Cancelled,
    Effect,
    Emit,
    Finished,
    Grant,
    Message,
    Now,
    Park,
    Program,
    Release,
    Request,
    Ring,
    Send,
    step,
)
from harness.policies import protocol as asked_for
from harness.policies.protocol import Admission, Asking, Ended, Go, RandomOf, RetryVerdict
from harness.records.failures import CANCELLED, OK
from harness.records.schema import Attempt, Backoff, Call, Decision, retry_in
from tests.engine.scripted import CALL, RATE_LIMITED, Says, reply, terms

REQUEST = Request((Message("user", "why?"),))


class Scripted:
    """A policy that answers what it is told to, and notes what it was asked."""

    hedge = None

    def __init__(self, *admissions: Admission, verdicts: tuple[RetryVerdict, ...] = ()) -> None:
        self._admissions: Iterator[Admission] = iter(admissions)
        self._verdicts = iter(verdicts)
        self.asked: list[Asking] = []
        self.ends: list[Ended] = []

    def admit(self, asking: Asking) -> Admission:
        self.asked.append(asking)
        return next(self._admissions)

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        self.ends.append(ended)
        return next(self._verdicts, RetryVerdict(None))


def under(policy: Scripted, *, hold: bool = False) -> CallTerms:
    return terms(hold=hold)._replace(policy=policy)


def parked(bell: str = "bell", until: int | None = None) -> Admission:
    return asked_for.ParkCall(bell, until)


def end_of(program: Program[Completion], asked: Effect | Finished[Any]) -> tuple[Completion, Call]:
    """Go on to the end of a call that waits for nothing any more."""
    calls: list[Call] = []
    while not isinstance(asked, Finished):
        assert isinstance(asked, Emit | Release)
        if isinstance(asked, Emit) and isinstance(asked.record, Call):
            calls.append(asked.record)
        asked = step(program, None)
    [call] = calls
    return asked.value, call


def attempt_in(asked: Effect | Finished[Any]) -> Attempt:
    assert isinstance(asked, Emit)
    assert isinstance(asked.record, Attempt)
    return asked.record


@pytest.mark.parametrize("hold", [False, True])
def test_a_call_is_parked_until_it_is_let_out(hold: bool) -> None:
    """Its deadline runs from the permit under which it is sent, not from those it gave back."""
    policy = Scripted(parked(until=50), parked(), Go())
    program = complete(under(policy, hold=hold), CALL, REQUEST, ready=5)
    assert step(program, None) == Acquire(5, None)
    assert step(program, Grant(5, 20, rings=3)) == Park("bell", 50, None, keep=hold, rings=3)
    assert step(program, Grant(50, 60, rings=3)) == Park("bell", None, None, keep=hold, rings=3)
    sent = step(program, Grant(90, 95, rings=4))
    assert isinstance(sent, Send)
    assert sent.deadlines.end == 95 + 1000
    assert policy.asked == [Asking("fan_out", 1, at) for at in (20, 60, 95)]
    record = attempt_in(step(program, reply(Says(), 95)))
    assert (record.ready, record.permit_requested, record.permit_granted) == (90, 90, 95)
    completion, call = end_of(program, step(program, None))
    assert (completion.outcome, call.attempts) == (OK, 1)
    assert call.backoffs == (
        Backoff(start=20, end=50, planned=30, source="breaker"),
        Backoff(start=60, end=90, planned=0, source="breaker"),
    )
    [ended] = policy.ends
    assert (ended.admitted, ended.outcome) == (95, OK)


@pytest.mark.parametrize("hold", [False, True])
def test_a_failure_that_the_breaker_takes_over_asks_again_at_once_with_its_permit(
    hold: bool,
) -> None:
    """So it is parked before whoever would have had its permit."""
    over = RetryVerdict(retry_in(0, "breaker"), ring="other bell")
    policy = Scripted(Go(), parked(until=900), Go(), verdicts=(over,))
    program = complete(under(policy, hold=hold), CALL, REQUEST, ready=0)
    step(program, None)
    assert isinstance(step(program, Grant(0, 0)), Send)
    failed = attempt_in(step(program, reply(RATE_LIMITED, 0)))
    assert failed.decision == Decision(retry_in=0, source="breaker")
    assert step(program, None) == Ring("other bell")
    assert step(program, None) == Park("bell", 900, 1000, keep=hold, rings=0)
    sent = step(program, Grant(400, 410))
    assert isinstance(sent, Send)
    assert sent.attempt == 2
    record = attempt_in(step(program, reply(Says(), 410)))
    assert (record.ready, record.permit_granted) == (400, 410)
    _, call = end_of(program, step(program, None))
    assert call.backoffs == (Backoff(start=1, end=400, planned=899, source="breaker"),)
    assert [earlier.outcome for earlier in policy.ends[1].earlier] == ["rate_limited"]


def test_a_failure_that_is_taken_over_may_go_out_again_at_once() -> None:
    over = RetryVerdict(retry_in(0, "breaker"))
    program = complete(under(Scripted(Go(), Go(), verdicts=(over,))), CALL, REQUEST, ready=0)
    step(program, None)
    step(program, Grant(0, 0))
    step(program, reply(RATE_LIMITED, 0))
    sent = step(program, None)
    assert isinstance(sent, Send)
    record = attempt_in(step(program, reply(Says(), 1)))
    assert record.ready == record.permit_requested == record.permit_granted == 1
    _, call = end_of(program, step(program, None))
    assert (call.attempts, call.backoffs) == (2, ())


@pytest.mark.parametrize("granted", [None, 700])
def test_a_deadline_that_comes_while_parked_ends_the_call(granted: int | None) -> None:
    program = complete(under(Scripted(parked())), CALL, REQUEST, ready=0, workflow_end=700)
    step(program, None)
    assert step(program, Grant(0, 10)) == Park("bell", None, 700, keep=False, rings=0)
    asked = step(program, Grant(700, granted))
    if granted is not None:  # it came with the deadline
        assert asked == Release()
        asked = step(program, None)
    assert asked == Now()
    completion, call = end_of(program, step(program, 701))
    assert (completion.outcome, call.attempts, call.done) == ("workflow_timeout", 0, 701)
    assert call.backoffs == (Backoff(start=10, end=700, planned=0, source="breaker"),)


@pytest.mark.parametrize("hold", [False, True])
def test_a_parked_call_that_is_cancelled_says_how_long_it_was_parked(hold: bool) -> None:
    program = complete(under(Scripted(parked()), hold=hold), CALL, REQUEST, ready=0)
    step(program, None)
    step(program, Grant(0, 10))
    assert step(program, Cancelled()) == Now()
    asked = step(program, 300)
    if hold:
        assert asked == Release()
        asked = step(program, None)
    assert asked == Now()
    completion, call = end_of(program, step(program, 301))
    assert (completion.outcome, call.outcome, call.done) == (CANCELLED, CANCELLED, 301)
    assert call.backoffs == (Backoff(start=10, end=300, planned=0, source="breaker"),)


def test_an_attempt_that_is_cancelled_is_told_to_the_policy_which_decides_nothing() -> None:
    policy = Scripted(Go(), verdicts=(RetryVerdict(retry_in(5, "policy"), ring="bell"),))
    program = complete(under(policy), CALL, REQUEST, ready=0)
    step(program, None)
    step(program, Grant(0, 0))
    record = attempt_in(step(program, reply(Says(CANCELLED), 0)))
    assert record.decision is None
    assert step(program, None) == Ring("bell")
    completion, call = end_of(program, step(program, None))
    assert (completion.outcome, call.outcome, call.attempts) == (CANCELLED, CANCELLED, 1)
    assert [ended.outcome for ended in policy.ends] == [CANCELLED]
