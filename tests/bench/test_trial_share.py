"""The shares of a trial: they add up, none is empty, and none is in two processes."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from harness.bench.trial_share import (
    WHOLE_TRIAL,
    TrialShare,
    most_shares,
    share_of_limits,
    shares,
)
from harness.engine.ledger import Amount, BudgetLimits

PROCESSES = st.integers(1, 9)
AMOUNTS = st.integers(0, 10**12)


@given(PROCESSES, AMOUNTS)
def test_parts_add_up_and_differ_by_at_most_one(of: int, amount: int) -> None:
    parts = [share.part(amount) for share in shares(of)]
    assert sum(parts) == amount
    assert max(parts) - min(parts) <= 1
    assert parts == sorted(parts, reverse=True)


@given(PROCESSES, st.lists(st.integers(), unique=True))
def test_each_item_is_in_one_share_in_its_order(of: int, items: list[int]) -> None:
    picked = [share.pick(items) for share in shares(of)]
    assert sorted(chain(*picked)) == sorted(items)
    for own in picked:
        assert list(own) == [item for item in items if item in own]
    assert [len(own) for own in picked] == [share.part(len(items)) for share in shares(of)]


def test_the_whole_trial_is_one_share() -> None:
    assert shares(1) == (WHOLE_TRIAL,)
    assert WHOLE_TRIAL.part(7) == 7
    assert WHOLE_TRIAL.pick([1, 2, 3]) == [1, 2, 3]


@given(PROCESSES, *[st.integers(1, 50)] * 2, st.none() | st.integers(1, 50))
def test_no_share_lacks_a_permit_a_workflow_or_a_slot(
    processes: int, permits: int, workflows: int, in_flight: int | None
) -> None:
    of = most_shares(processes, permits, workflows, in_flight)
    assert 1 <= of <= processes
    for share in shares(of):
        assert share.part(permits) >= 1
        assert share.part(workflows) >= 1
        assert in_flight is None or share.part(in_flight) >= 1


def test_a_single_permit_makes_one_share() -> None:
    assert most_shares(4, 1, 100, 100) == 1
    assert most_shares(4, 100, 0, 100) == 1  # nothing is left of the trial


LIMITS = st.builds(
    BudgetLimits,
    st.none() | AMOUNTS, st.none() | AMOUNTS, st.none() | AMOUNTS, st.none() | st.floats(1, 9),
)  # fmt: skip
SPENT = st.builds(Amount, AMOUNTS, AMOUNTS, AMOUNTS)


@given(PROCESSES, LIMITS, SPENT)
def test_shares_of_a_budget_are_what_is_left_of_it(
    of: int, limits: BudgetLimits, spent: Amount
) -> None:
    parts = [share_of_limits(limits, share, spent) for share in shares(of)]
    for at, (most, used) in enumerate(zip(limits[:3], spent, strict=True)):
        own = [part[at] for part in parts]
        if most is None:
            assert own == [None] * of
        else:
            assert sum(one or 0 for one in own) == max(0, most - used)
    assert {part.seconds for part in parts} == {limits.seconds}


def test_a_share_is_one_of_its_number() -> None:
    assert [TrialShare(rank, 3).part(7) for rank in range(3)] == [3, 2, 2]
