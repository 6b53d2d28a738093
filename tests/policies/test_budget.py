"""The ledger never lets a run overspend, in whatever order its attempts begin and end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harness.engine.ledger import Amount, BudgetLimits, BudgetRefusal, Ledger, reserve, settle


def granted(answer: Ledger | BudgetRefusal) -> Ledger:
    assert isinstance(answer, Ledger)
    return answer


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (BudgetLimits(attempts=1), "attempts"),
        (BudgetLimits(tokens=199), "tokens"),
        (BudgetLimits(nano_usd=13), "usd"),
    ],
)
def test_an_attempt_that_could_exceed_a_limit_is_refused_by_that_limit(
    limits: BudgetLimits, name: str
) -> None:
    worst = Amount(1, 100, 7)
    one = granted(reserve(Ledger(limits), worst, 0.0))
    assert reserve(one, worst, 0.0) == BudgetRefusal(name)


def test_a_limit_may_be_used_up_to_the_last_token() -> None:
    worst = Amount(1, 100, 7)
    limits = BudgetLimits(attempts=2, tokens=200, nano_usd=14)
    two = granted(reserve(granted(reserve(Ledger(limits), worst, 0.0)), worst, 0.0))
    assert two.reserved == Amount(2, 200, 14)


def test_what_an_attempt_did_not_use_can_be_used_by_the_next() -> None:
    worst = Amount(1, 100, 7)
    ledger = granted(reserve(Ledger(BudgetLimits(tokens=150)), worst, 0.0))
    assert reserve(ledger, worst, 0.0) == BudgetRefusal("tokens")
    ledger = settle(ledger, worst, Amount(1, 50, 3))
    assert ledger.reserved == Amount()
    assert granted(reserve(ledger, worst, 0.0)).spent == Amount(1, 50, 3)


def test_nothing_is_sent_once_the_seconds_are_over() -> None:
    ledger = Ledger(BudgetLimits(seconds=10.0))
    granted(reserve(ledger, Amount(1), 9.999))
    assert reserve(ledger, Amount(1), 10.0) == BudgetRefusal("seconds")


def test_without_limits_nothing_is_refused() -> None:
    granted(reserve(Ledger(BudgetLimits()), Amount(10**9, 10**15, 10**15), 1e9))


AMOUNT = st.builds(Amount, st.just(1), st.integers(0, 1000), st.integers(0, 1000))


class Schedules(RuleBasedStateMachine):
    """Attempts begin and end in any order, each using anything up to its worst case."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(BudgetLimits(attempts=20, tokens=5000, nano_usd=4000))
        self.flying: list[Amount] = []
        self.used: list[Amount] = []

    @rule(worst=AMOUNT)
    def begin(self, worst: Amount) -> None:
        answer = reserve(self.ledger, worst, 0.0)
        if isinstance(answer, Ledger):
            self.ledger = answer
            self.flying.append(worst)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        worst = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        tokens, cost = (data.draw(st.integers(0, most)) for most in worst[1:])
        used = Amount(1, tokens, cost)
        self.ledger = settle(self.ledger, worst, used)
        self.used.append(used)

    @invariant()
    def nothing_is_overspent_even_if_all_in_flight_cost_their_worst(self) -> None:
        together = [sum(amount[part] for amount in (*self.used, *self.flying)) for part in range(3)]
        assert together[0] <= 20
        assert together[1] <= 5000
        assert together[2] <= 4000

    @invariant()
    def the_ledger_agrees_with_what_happened(self) -> None:
        assert self.ledger.spent == tuple(
            sum(used[part] for used in self.used) for part in range(3)
        )
        assert self.ledger.reserved == tuple(
            sum(worst[part] for worst in self.flying) for part in range(3)
        )


TestSchedules = Schedules.TestCase


@given(st.lists(AMOUNT, max_size=30), st.integers(0, 5000))
def test_refusing_leaves_the_ledger_usable_for_a_smaller_attempt(
    attempts: list[Amount], tokens: int
) -> None:
    ledger = Ledger(BudgetLimits(tokens=tokens))
    for worst in attempts:
        answer = reserve(ledger, worst, 0.0)
        fits = ledger.reserved.tokens + worst.tokens <= tokens
        assert isinstance(answer, Ledger) == fits
        ledger = answer if isinstance(answer, Ledger) else ledger
