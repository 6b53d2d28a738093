"""The circuit breaker: its table of states, and calls of every kind going through it."""

from __future__ import annotations

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from harness.policies.breaker import (
    BreakerLayer,
    BreakerRule,
    BreakerUpdate,
    Closed,
    HalfOpen,
    Open,
    State,
    Wait,
    admit_attempt,
    state_after,
)
from harness.policies.no_retry import NoRetryRule
from harness.policies.protocol import Asking, Ended, ParkCall
from harness.policies.stack import Stack
from harness.records.failures import FAILURES, OK, is_outage
from tests.policies.calls import CallModel, any_random, end_of

RULE = BreakerRule(failures=3, many=4, last=6, pause=100, cap=350)
OPEN = Open(since=1000, until=1100, pause=100)
HALF = HalfOpen(since=1000, probe=1100, pause=100)
LET_IN = BreakerUpdate(over=False, ring=False)
TAKEN = BreakerUpdate(over=True, ring=False)
RINGS = BreakerUpdate(over=False, ring=True)


def end(outcome: str, *, at: int, sent: int, asked: int | None = None, hint: int = 0) -> Ended:
    return end_of(outcome, admitted=sent if asked is None else asked, sent=sent, now=at, hint=hint)


def after(state: State, *ends: Ended) -> tuple[State, BreakerUpdate]:
    taken = LET_IN
    for one in ends:
        state, taken = state_after(RULE, state, one)
    return state, taken


def many(outcomes: str) -> list[Ended]:
    """`x`: an outage-like failure, `n`: one of another kind, `.`: a success, `c`: cancelled."""
    names = {"x": "unavailable", ".": OK, "n": "rate_limited", "c": "cancelled"}
    return [end(names[one], at=10 + at, sent=at) for at, one in enumerate(outcomes)]


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ("xx", False),
        ("xxx", True),
        ("xx.xx", True),  # four of the last six
        ("xx...xx", False),
        ("xxn.nxx", False),
        ("xcccxcccx", True),  # as where the first failure cancels the siblings
        ("x.cx.cx.cx", False),
        ("xx.ccccx.x", True),
        ("cccccc", False),
        ("xnxnx.", False),
        ("xnxxnx", True),
        ("x.x.x.x.x.x", False),
        ("nnnnnnnn", False),
    ],
)
def test_it_opens_on_failures_in_a_row_or_on_their_share_of_the_last_attempts(
    outcomes: str, opens: bool
) -> None:
    state, taken = after(Closed(), *many(outcomes))
    assert isinstance(state, Open) == opens
    assert taken == (TAKEN if opens else LET_IN)


def test_what_is_outage_like_may_pass_and_a_refusal_or_a_full_account_is_not() -> None:
    like = {name for name in FAILURES if is_outage(name)}
    assert like == {
        "server_error", "bad_gateway", "unavailable", "gateway_timeout", "connect_failed",
        "proxy_error",
        "connect_timeout", "connection_lost", "first_token_timeout",
    }  # fmt: skip
    assert all(FAILURES[name].retryable for name in like)
    assert not is_outage(OK)


@pytest.mark.parametrize(
    ("state", "now", "next_state", "wait"),
    [
        (Closed(), 5, Closed(), None),
        (OPEN, 1099, OPEN, Wait(1100)),
        (OPEN, 1100, HALF, None),
        (HALF, 1200, HALF, Wait(None)),
    ],
)
def test_who_asks_goes_out_is_the_probe_or_is_parked(
    state: State, now: int, next_state: State, wait: Wait | None
) -> None:
    assert admit_attempt(state, now) == (next_state, wait)


@pytest.mark.parametrize(
    ("state", "what", "next_state", "taken"),
    [
        pytest.param(
            HALF, end(OK, at=1300, sent=1101, asked=1100), Closed(since=1300), RINGS,
            id="the probe succeeds",
        ),
        pytest.param(
            HALF, end("unavailable", at=1300, sent=1101, asked=1100),
            Open(1000, 1500, 200), BreakerUpdate(over=True, ring=True), id="the probe fails",
        ),
        pytest.param(
            HALF._replace(pause=200), end("connect_failed", at=1300, sent=1101, asked=1100),
            Open(1000, 1650, 350), BreakerUpdate(over=True, ring=True), id="a pause has its cap",
        ),
        pytest.param(
            HALF, end("unavailable", at=1300, sent=1101, asked=1100, hint=900),
            Open(1000, 2200, 200), BreakerUpdate(over=True, ring=True), id="a longer hint",
        ),
        pytest.param(
            HALF, end("unavailable", at=1300, sent=1101, asked=1100, hint=10**9),
            Open(1000, 1500, 200), BreakerUpdate(over=True, ring=True), id="a hint beyond the call",
        ),
        pytest.param(
            HALF, end("rate_limited", at=1300, sent=1101, asked=1100),
            Open(1000, 1300, 100), RINGS, id="the probe fails in another way",
        ),
        pytest.param(
            HALF, end("cancelled", at=1300, sent=1101, asked=1100),
            Open(1000, 1300, 100), RINGS, id="the probe is cancelled",
        ),
        pytest.param(
            HALF, end(OK, at=1300, sent=990), HALF, LET_IN, id="a success sent before it opened",
        ),
        pytest.param(
            HALF, end("unavailable", at=1300, sent=990), HALF, TAKEN, id="a late failure",
        ),
        pytest.param(
            OPEN, end(OK, at=1050, sent=1000), OPEN, LET_IN, id="a success sent as it opened",
        ),
        pytest.param(
            OPEN, end(OK, at=1050, sent=1001, asked=999), Closed(since=1050), RINGS,
            id="a success let out before it opened and sent after",
        ),
        pytest.param(
            OPEN, end("unavailable", at=1050, sent=990), OPEN, TAKEN, id="a failure while open",
        ),
        pytest.param(
            OPEN, end("unavailable", at=1050, sent=990, hint=500), OPEN._replace(until=1550),
            TAKEN, id="a failure while open that asks for more",
        ),
        pytest.param(
            OPEN, end("truncated", at=1050, sent=990), OPEN, LET_IN, id="a failure of its own",
        ),
        pytest.param(
            Closed(since=1000, in_a_row=2), end("unavailable", at=1050, sent=990),
            Closed(since=1000, in_a_row=2), TAKEN, id="a failure of the outage that is over",
        ),
        pytest.param(
            Closed(since=1000, in_a_row=2), end(OK, at=1050, sent=990),
            Closed(since=1000, in_a_row=2), LET_IN, id="a success of before",
        ),
    ],
)  # fmt: skip
def test_what_an_end_does(
    state: State, what: Ended, next_state: State, taken: BreakerUpdate
) -> None:
    assert state_after(RULE, state, what) == (next_state, taken)


class Traffic(RuleBasedStateMachine):
    """Calls that ask, are parked, sent, fail, succeed and are cancelled, in any order."""

    @initialize()
    def begin(self) -> None:
        self.layer = BreakerLayer(RULE, "breaker")
        self.calls = CallModel(Stack([self.layer], NoRetryRule()))

    @property
    def state(self) -> State:
        state: State = self.layer.states.get("fan_out").state
        return state

    @rule(count=st.integers(1, 4))
    def new_calls_ask(self, count: int) -> None:
        for _ in range(count):
            self.calls.begin()

    @rule(by=st.sampled_from([0, 1, 50, 100, 400, 3000]))
    def time_passes(self, by: int) -> None:
        self.calls.pass_time(by)

    @precondition(lambda self: self.calls.unsent())
    @rule(data=st.data())
    def one_is_sent(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.calls.unsent())).sent = self.calls.now

    @precondition(lambda self: self.calls.flying())
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["unavailable"] * 3 + [OK, "rate_limited", "cancelled"]),
        hint=st.sampled_from([0, 0, 0, 20, 1000]),
    )
    def one_ends(self, data: st.DataObject, outcome: str, hint: int) -> None:
        call = data.draw(st.sampled_from(self.calls.flying()))
        before = self.state
        assume(outcome != OK or call.sent is not None)
        sent = call.sent
        self.calls.end(call, outcome, hint)
        if isinstance(self.state, Closed) and not isinstance(before, Closed):
            assert outcome == OK
            assert sent is not None
            assert sent > before.since
        if outcome == "unavailable" and not isinstance(before, Closed):
            assert call.outcome is None, "an outage loses no call"

    @precondition(lambda self: self.calls.parked())
    @rule(data=st.data())
    def one_that_is_parked_is_abandoned(self, data: st.DataObject) -> None:
        self.calls.abandon(data.draw(st.sampled_from(self.calls.parked())))

    @invariant()
    def one_probe_at_most_is_in_flight_while_it_is_not_closed(self) -> None:
        state = self.state
        if not isinstance(state, Closed):
            assert sum(call.admitted > state.since for call in self.calls.flying()) <= 1

    @invariant()
    def who_is_parked_without_an_end_waits_for_a_probe_that_is_in_flight(self) -> None:
        for call in self.calls.parked():
            assert call.park is not None
            if call.park.until is None:
                state = self.state
                assert isinstance(state, HalfOpen)
                assert state.probe in [other.admitted for other in self.calls.flying()]

    def teardown(self) -> None:
        """Let the server work again: every call comes to its end, and none is left parked."""
        if hasattr(self, "calls"):
            self.calls.heal()
            assert all(call.outcome is not None for call in self.calls.calls)
            assert not self.calls.parked()


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def opened(scope: str) -> Stack:
    policy = Stack([BreakerLayer(RULE, "breaker", scope)], NoRetryRule())  # type: ignore[arg-type]
    for at in range(3):
        policy.admit(Asking("fan_out", 1, at))
        policy.ended(end("unavailable", at=at + 10, sent=at), any_random)
    return policy


def test_one_breaker_for_the_process_parks_every_phase_and_one_for_each_phase_its_own() -> None:
    for scope, parked in [("process", True), ("phase", False)]:
        policy = opened(scope)
        assert isinstance(policy.admit(Asking("fan_out", 1, 20)), ParkCall)
        assert isinstance(policy.admit(Asking("synthesize", 1, 20)), ParkCall) == parked


def test_each_ring_has_a_bell_of_its_own_so_that_none_is_waited_for_in_vain() -> None:
    policy = opened("process")
    first = policy.admit(Asking("fan_out", 1, 20))
    assert isinstance(first, ParkCall)
    assert first.until == 112
    policy.admit(Asking("fan_out", 1, 112))
    waiting = policy.admit(Asking("fan_out", 1, 113))
    assert waiting == ParkCall(first.bell, None)
    verdict = policy.ended(end("unavailable", at=120, sent=112), any_random)
    assert verdict.ring == first.bell
    later = policy.admit(Asking("fan_out", 1, 121))
    assert isinstance(later, ParkCall)
    assert later.bell != first.bell


def test_a_failure_that_comes_after_its_calls_deadline_is_not_taken_over() -> None:
    policy = opened("process")
    late = replace(end("unavailable", at=50, sent=2), deadline=49)
    decision = policy.ended(late, any_random).decision
    assert decision is not None
    assert decision.give_up == "policy"
