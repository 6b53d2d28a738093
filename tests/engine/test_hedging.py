"""A second request when the first token is late: driven by hand, without a clock."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from harness.engine.attempt import CallTerms
from harness.engine.branches import Fork
from harness.engine.call import Completion, complete
from harness.engine.effects import (
    Acquire,
    Cancelled,
    Effect,
    Emit,
    FanOut,
    Finished,
    Grant,
    Message,
    Program,
    Release,
    Reply,
    Request,
    Send,
    Sleep,
    step,
)
from harness.policies.protocol import Asking, HedgeRule
from harness.policies.stack import Stack
from harness.records.failures import CANCELLED, OK
from harness.records.schema import Attempt, Call, Decision
from tests.engine.scripted import CALL, EVERY_TEN, RATE_LIMITED, Says, reply, terms

REQUEST = Request((Message("user", "why?"),))
AFTER = 40
UNAVAILABLE = RATE_LIMITED._replace(outcome="unavailable", status=503)


def hedging(tokens: int = 9, *, hold: bool = False) -> tuple[CallTerms, list[Asking]]:
    """Terms that hedge after 40, and what was asked of their hedges' budget."""
    asked: list[Asking] = []

    def may(asking: Asking) -> bool:
        asked.append(asking)
        return len(asked) <= tokens

    policy = Stack([], EVERY_TEN)
    policy.hedge = HedgeRule(AFTER, may)
    return terms(hold=hold)._replace(policy=policy), asked


class Pair:
    """A call at its fork: the two branches, and what each has asked for."""

    def __init__(self, how: CallTerms) -> None:
        self.call = complete(how, CALL, REQUEST, ready=0)
        assert step(self.call, None) == Acquire(0, None)
        fork = step(self.call, Grant(0, 10))
        assert isinstance(fork, FanOut)
        assert fork.claims
        self.effect = fork
        self.fork = Fork(fork)
        self.first, self.second = fork.branches
        self.emitted: list[Attempt] = []

    def go(self, branch: Program[Any], result: Any) -> Effect | Finished[Any]:
        """Go on with a branch up to where it waits for something, and note its record."""
        asked = step(branch, result)
        while isinstance(asked, Emit):
            assert isinstance(asked.record, Attempt)
            self.emitted.append(asked.record)
            asked = step(branch, None)
        return asked

    def end(self, results: list[Any]) -> tuple[Completion | Effect, list[Call]]:
        """Give the call its branches' results; return what it comes to, or does next."""
        calls: list[Call] = []
        asked = step(self.call, results)
        while isinstance(asked, Emit):
            assert isinstance(asked.record, Call)
            calls.append(asked.record)
            asked = step(self.call, None)
        return (asked.value if isinstance(asked, Finished) else asked), calls


def sent(pair: Pair) -> None:
    """Let both go out."""
    assert isinstance(pair.go(pair.first, None), Send)
    assert pair.go(pair.second, None) == Sleep(until=10 + AFTER)
    assert pair.go(pair.second, 51) == Acquire(ready=51, deadline=1010)
    asked = pair.go(pair.second, Grant(51, 60))
    assert isinstance(asked, Send)
    assert (asked.key, asked.attempt) == (CALL, 2)
    assert (asked.request, asked.deadlines.end) == (REQUEST, 1010)


def finished(asked: Effect | Finished[Any]) -> Any:
    assert isinstance(asked, Finished)
    return asked.value


def ends(pair: Pair, branch: Program[Any], said: Reply) -> Any:
    """Let an attempt come back; its own permit goes back with it."""
    assert pair.go(branch, said) == Release()
    return finished(pair.go(branch, None))


def cancelled(at: int) -> Reply:
    return reply(Says(CANCELLED, takes=0, detail="no longer wanted"), at)


def test_a_first_token_in_time_leaves_no_trace_of_a_hedge() -> None:
    how, asked = hedging()
    pair = Pair(how)
    assert isinstance(pair.go(pair.first, None), Send)
    assert pair.go(pair.second, None) == Sleep(until=10 + AFTER)
    good = ends(pair, pair.first, reply(Says(), 10))
    pair.fork.ended(0, good)
    assert pair.fork.parts[1][1].cancelled
    assert finished(step(pair.second, Cancelled())) is None
    completion, [call] = pair.end([good, None])
    assert isinstance(completion, Completion)
    assert (completion.outcome, call.outcome, call.attempts) == (OK, OK, 1)
    assert [(one.attempt, one.hedge, one.outcome) for one in pair.emitted] == [(1, False, OK)]
    assert asked == []


def test_the_first_to_show_text_cancels_the_other_which_is_wasted() -> None:
    how, asked = hedging()
    pair = Pair(how)
    sent(pair)
    assert asked == [Asking("fan_out", 2, 60)]
    pair.fork.parts[1][1].first_text()
    assert [branch.cancelled for _, branch in pair.fork.parts] == [True, False]
    pair.fork.parts[0][1].first_text()  # too late
    assert not pair.fork.parts[1][1].cancelled
    lost = ends(pair, pair.first, cancelled(70))
    good = ends(pair, pair.second, reply(Says(), 60))
    completion, [call] = pair.end([lost, good])
    assert isinstance(completion, Completion)
    assert (completion.outcome, completion.answer) == (OK, "an answer")
    assert (call.attempts, call.wasted_tokens) == (2, lost.reply.tokens)
    assert [(one.attempt, one.hedge, one.outcome) for one in pair.emitted] == [
        (1, False, CANCELLED), (2, True, OK)
    ]  # fmt: skip
    assert pair.emitted[1].ready == 51
    assert pair.emitted[1].permit_granted == 60
    assert all(one.decision is None for one in pair.emitted)


def test_of_two_that_succeed_in_a_race_one_is_wasted() -> None:
    """Both were whole before either could be cancelled."""
    how, _ = hedging()
    pair = Pair(how)
    sent(pair)
    one = ends(pair, pair.first, reply(Says(), 60))
    other = ends(pair, pair.second, reply(Says(), 60))
    _, [call] = pair.end([one, other])
    assert (call.outcome, call.attempts) == (OK, 2)
    assert call.tokens == call.wasted_tokens == one.reply.tokens


def test_when_one_fails_before_any_text_the_other_goes_on_alone() -> None:
    how, _ = hedging()
    pair = Pair(how)
    sent(pair)
    bad = ends(pair, pair.first, reply(UNAVAILABLE, 69))
    pair.fork.ended(0, bad)
    assert not pair.fork.parts[1][1].cancelled
    assert pair.emitted[0].decision is None, "nothing is decided yet"
    good = ends(pair, pair.second, reply(Says(), 60))
    completion, [call] = pair.end([bad, good])
    assert isinstance(completion, Completion)
    assert (completion.outcome, call.outcome) == (OK, OK)


def test_when_both_fail_the_policy_decides_once_about_the_last() -> None:
    how, _ = hedging()
    pair = Pair(how)
    sent(pair)
    worse = ends(pair, pair.second, reply(UNAVAILABLE, 69))
    bad = ends(pair, pair.first, reply(RATE_LIMITED, 90))
    assert [one.decision for one in pair.emitted] == [None, Decision(retry_in=7, source="policy")]
    asked, _ = pair.end([bad, worse])
    assert asked == Sleep(until=91 + 7)
    assert step(pair.call, 98) == Acquire(ready=98, deadline=1010)
    third = step(pair.call, Grant(98, 98))
    assert isinstance(third, Send)
    assert third.attempt == 3, "a retry is not hedged"


def test_a_first_attempt_that_fails_before_the_hedge_is_due_is_not_hedged() -> None:
    how, asked = hedging()
    pair = Pair(how)
    pair.go(pair.first, None)
    pair.go(pair.second, None)
    bad = ends(pair, pair.first, reply(RATE_LIMITED, 10))
    pair.fork.ended(0, bad)
    assert pair.fork.parts[1][1].cancelled
    assert finished(step(pair.second, Cancelled())) is None
    next_step, _ = pair.end([bad, None])
    assert next_step == Sleep(until=11 + 7)
    assert asked == []


def test_an_attempt_that_fails_after_its_text_is_decided_about_though_the_other_was_cancelled() -> (
    None
):
    how, _ = hedging()
    pair = Pair(how)
    sent(pair)
    cut = replace(reply(Says("connection_lost"), 60), first_answer=61, last_token=61)
    lost = ends(pair, pair.second, cut)  # its sibling has not noticed yet
    other = ends(pair, pair.first, cancelled(170))
    asked, _ = pair.end([other, lost])
    assert asked == Sleep(until=160 + 7)


@pytest.mark.parametrize("why", ["no budget", "too late", "no permit"])
def test_a_hedge_that_may_not_go_out_leaves_nothing_behind(why: str) -> None:
    how, _ = hedging(0 if why == "no budget" else 9)
    pair = Pair(how)
    pair.go(pair.first, None)
    pair.go(pair.second, None)
    pair.go(pair.second, 50)
    granted = {"no budget": 60, "too late": 1010, "no permit": None}[why]
    asked = pair.go(pair.second, Grant(50, granted))
    if why != "no permit":
        assert asked == Release()
        asked = pair.go(pair.second, None)
    assert finished(asked) is None
    pair.fork.ended(1, None)
    assert not pair.fork.parts[0][1].cancelled
    good = ends(pair, pair.first, reply(Says(), 10))
    completion, [call] = pair.end([good, None])
    assert isinstance(completion, Completion)
    assert (completion.outcome, call.attempts) == (OK, 1)


def test_the_first_attempts_permit_goes_with_it_unless_the_call_holds_it() -> None:
    how, _ = hedging()
    assert Pair(how).effect.hand_over
    how, _ = hedging(hold=True)
    pair = Pair(how)
    assert not pair.effect.hand_over
    pair.go(pair.first, None)
    good = finished(pair.go(pair.first, reply(Says(), 10)))  # gives no permit back
    asked, calls = pair.end([good, None])
    assert (asked, calls) == (Release(), [])
