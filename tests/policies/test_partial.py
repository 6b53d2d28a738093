"""How many branches are enough, and when that is settled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.workflows.partial_failure import SYNTHESIZE_WITH_GAPS, Partial, fail_fast, quorum

BRANCHES = st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("branches", "share", "needed"),
    [(4, 0.8, 4), (5, 0.8, 4), (10, 0.7, 7), (3, 1.0, 3), (3, 0.01, 1), (4, 3, 3), (4, 1, 1)],
)
def test_a_quorum_is_a_number_or_a_fraction_rounded_up(
    branches: int, share: int | float, needed: int
) -> None:
    assert quorum(branches, share).needed == needed


@given(BRANCHES)
def test_with_gaps_every_branch_is_waited_for_and_one_suffices(branches: list[bool | None]) -> None:
    assert not SYNTHESIZE_WITH_GAPS.is_enough(branches)
    assert SYNTHESIZE_WITH_GAPS.suffices(1)
    assert not SYNTHESIZE_WITH_GAPS.suffices(0)


@given(BRANCHES)
def test_fail_fast_stops_at_the_first_failure_and_needs_all(branches: list[bool | None]) -> None:
    rule = fail_fast(len(branches))
    assert rule.is_enough(branches) == (False in branches or all(branches))
    assert not rule.suffices(len(branches) - 1)


@given(BRANCHES, st.data())
def test_a_quorum_stops_when_it_is_reached_or_out_of_reach_and_never_before(
    branches: list[bool | None], data: st.DataObject
) -> None:
    """Settled is what no end of the branches that still run can change."""
    rule = Partial(data.draw(st.integers(1, len(branches))), stops=True)
    good, running = branches.count(True), branches.count(None)
    could = {rule.suffices(good + more) for more in range(running + 1)}
    assert rule.is_enough(branches) == (len(could) == 1)
