"""What is proposed to prove a recommendation does prove it, if the cells go on as they did."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.decision import Contender, Rules, look
from harness.analysis.looks import Looks, growing_looks, one_look
from harness.analysis.model import SettlesWith
from harness.analysis.settling import MOST_PROPOSED_REPEATS, RunState, settles_with
from tests.analysis.test_decision import contender

ROUND = [1.0, 1.04, 0.96, 1.02, 0.98]


def measured(name: str, pace: float, repeats: int, workflows: int, failed: int) -> Contender:
    """Return a cell of which so many workflows failed, in as many repeats as possible."""
    bad = [failed // repeats + (at < failed % repeats) for at in range(repeats)]
    return contender(
        name,
        [pace * ROUND[at % len(ROUND)] ** (1 if name == "mine" else -1) for at in range(repeats)],
        good={at: workflows - count for at, count in enumerate(bad)},
        tried=dict.fromkeys(range(repeats), workflows),
        failures=failed,
    )


def proposed(
    cells: Sequence[Contender], rules: Rules, repeats: int, *, can_go_on: bool = False
) -> SettlesWith | None:
    """Return what is proposed for the cell `mine`; None if it is proven, or not the candidate."""
    found = look(cells, rules, repeats, {})
    if found.cell is not None or found.candidate != "mine":
        return None
    by_name = {one.name: one for one in cells}
    return settles_with(by_name, rules, found, RunState(repeats, can_go_on))


def rules_of(asked: float | None, looks: Looks, success_margin: float = 0.05) -> Rules:
    return Rules(asked=asked, margin=0.02, success_margin=success_margin, looks=looks)


@given(
    asked=st.sampled_from([None, 0.5, 0.8, 0.9, 0.95, 0.99]),
    repeats=st.integers(3, 30),
    workflows=st.integers(1, 40),
    failed=st.integers(0, 6),
    others=st.integers(0, 6),
    lead=st.sampled_from([1.0, 1.03, 1.1, 2.0]),
    is_auto=st.booleans(),
)
def test_a_run_of_the_proposed_size_proves_what_was_missing(
    asked: float | None,
    repeats: int,
    workflows: int,
    failed: int,
    others: int,
    lead: float,
    is_auto: bool,
) -> None:
    looks = growing_looks(repeats) if is_auto else one_look(repeats)
    failed, others = min(failed, workflows * repeats), min(others, workflows * repeats)
    cells = [
        measured("mine", 10.0, repeats, workflows, failed),
        measured("other", 10.0 * lead, repeats, workflows, others),
    ]
    found = proposed(cells, rules_of(asked, looks), repeats)
    if found is None or found.max_repeats is None:
        return
    more = found.max_repeats
    assert repeats < more <= MOST_PROPOSED_REPEATS
    assert found.workflows == more * workflows
    again = [
        measured("mine", 10.0, more, workflows, math.ceil(failed * more / repeats - 1e-9)),
        measured("other", 10.0 * lead, more, workflows, math.floor(others * more / repeats)),
    ]
    judged = look(again, rules_of(asked, growing_looks(more)), more, {})
    assert judged.proofs["mine"] == "proven"
    if repeats % len(ROUND) == 0 or lead != 1.03:  # else the spread seen is not that of all repeats
        assert judged.settled or judged.candidate != "mine"


@pytest.mark.parametrize("workflows", [1, 4, 8, 20])
@pytest.mark.parametrize("asked", [0.9, 0.95, 0.99])
def test_the_proposal_counts_with_the_looks_of_the_run_that_it_proposes(
    asked: float, workflows: int
) -> None:
    cells = [measured("mine", 10.0, 3, workflows, 0)]
    found = proposed(cells, rules_of(asked, one_look(3)), 3)
    if found is None:
        return
    assert found.max_repeats is not None
    looks = growing_looks(found.max_repeats)
    good = found.max_repeats * workflows
    proofs = look(
        [measured("mine", 10.0, found.max_repeats, workflows, 0)],
        rules_of(asked, looks), found.max_repeats, {},
    ).proofs  # fmt: skip
    assert proofs == {"mine": "proven"}
    assert good >= math.log(0.025 * looks.level(found.max_repeats)) / math.log(asked)


def test_a_run_that_ended_early_is_resumed_where_its_rest_is_enough() -> None:
    cells = [measured("mine", 10.0, 5, 8, 0)]
    found = proposed(cells, rules_of(0.9, growing_looks(60)), 5, can_go_on=True)
    assert found is not None
    assert found.by_resuming
    assert found.max_repeats in growing_looks(60).repeats
    short = proposed(cells, rules_of(0.99, growing_looks(7)), 5, can_go_on=True)
    assert short is not None
    assert not short.by_resuming


def test_nothing_is_proposed_where_the_share_is_below_the_slo() -> None:
    cells = [measured("mine", 10.0, 3, 10, 4)]
    found = proposed(cells, rules_of(0.9, one_look(3)), 3)
    assert found is not None
    assert (found.missing, found.max_repeats, found.workflows) == ("slo", None, None)


def test_an_unknown_spread_is_said() -> None:
    cells = [measured("mine", 10.0, 1, 10, 0), measured("other", 20.0, 1, 10, 0)]
    found = proposed(cells, rules_of(0.9, one_look(1)), 1)
    assert found is not None
    assert found.at_least
    assert found.missing == "both"
