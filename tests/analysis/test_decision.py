"""Which cell is recommended, from one value of each cell in each repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest

from harness.analysis.decision import (
    Contender,
    Judgement,
    Rules,
    ShareCounts,
    decide,
    preference,
    share_proofs,
)
from harness.analysis.looks import growing_looks, one_look
from harness.analysis.tuned import decide_tune
from harness.records.tune_blocks import TuneBlock, TuneRuledOut

_N = TypeVar("_N", int, float)


def contender(name: str, values: Any, **known: Any) -> Contender:
    """Return a cell with these objectives, 20 good workflows in each repeat and no failure."""
    repeats = range(len(values))
    plain: dict[str, Any] = {
        "objective": dict(enumerate(map(float, values))),
        "good": dict.fromkeys(repeats, 20),
        "tried": dict.fromkeys(repeats, 20),
        "attempts": dict.fromkeys(repeats, 1.0),
        "refusals": dict.fromkeys(repeats, 0),
        "failures": 0,
        "policy": "none",
        "setting": name,
        "permits": 8,
        "safety": (-1, 1),
        "simplicity": (1, 0),
    }
    return Contender(name=name, **(plain | known))


def judged(*cells: Contender, asked: float | None = 0.9, **rules: Any) -> Judgement:
    """Decide after all repeats."""
    repeats = max(len(cell.tried) for cell in cells)
    plain: dict[str, Any] = {"margin": 0.02, "success_margin": 0.05, "looks": one_look(repeats)}
    return decide(lambda count: until(cells, count), Rules(asked=asked, **(plain | rules)), repeats)


def until(cells: Sequence[Contender], count: int) -> list[Contender]:
    """Return cells with their first repeats only."""

    def kept(values: Mapping[int, _N]) -> dict[int, _N]:
        return {at: value for at, value in values.items() if at < count}

    return [
        cell._replace(
            objective=kept(cell.objective),
            good=kept(cell.good),
            tried=kept(cell.tried),
            attempts=kept(cell.attempts),
            refusals=kept(cell.refusals),
        )
        for cell in cells
    ]


BASE = np.array([10, 11, 12, 10.5, 11.5])


def test_the_fastest_cell_with_both_proofs_is_recommended() -> None:
    found = judged(contender("slow", 2 * BASE), contender("fast", BASE))
    assert (found.state, found.cell, found.rival) == ("proven", "fast", "slow")
    assert found.dropped == {"slow": 5}


def test_a_faster_cell_that_may_meet_the_slo_keeps_the_proven_one_from_being_recommended() -> None:
    unsure = contender("unsure", BASE, good=dict.fromkeys(range(5), 18))
    found = judged(unsure, contender("sure", 2 * BASE))
    assert (found.state, found.cell, found.candidate) == ("leading", None, "unsure")
    assert found.proofs == {"unsure": "open", "sure": "proven"}
    assert found.settled
    broken = contender("broken", BASE, good=dict.fromkeys(range(5), 2))
    assert judged(broken, contender("sure", 2 * BASE)).cell == "sure"


def test_repeats_without_a_burst_do_not_prove_that_there_are_none() -> None:
    plain = contender("one", np.ones(12))
    assert judged(plain, asked=0.9).proofs == {"one": "proven"}
    assert judged(plain._replace(has_few_bursts=True), asked=0.9).proofs == {"one": "open"}
    long = contender("one", np.ones(36), has_few_bursts=True)  # as 36 workflows
    assert judged(long, asked=0.9).proofs == {"one": "proven"}


def test_of_equal_cells_the_one_with_fewer_attempts_wins_then_429s_then_permits() -> None:
    more = dict(enumerate([1.5, 1.6, 1.4, 1.5, 1.55]))
    many = contender("many", BASE, attempts=more, permits=2, failures=9)
    few = contender("few", BASE * 1.001, permits=24, failures=9)
    assert judged(many, few).cell == "few"
    refused = contender("refused", BASE, refusals=dict(enumerate([9, 8, 9, 7, 8])), permits=2)
    assert judged(refused, few).cell == "few"
    assert judged(contender("two", BASE, permits=2), few).cell == "two"
    assert (
        judged(contender("layers", BASE, simplicity=(2, 0)), contender("one", BASE)).cell == "one"
    )


def test_of_equal_cells_the_one_that_loses_fewer_workflows_wins_before_all_else() -> None:
    keeps = {"tried": dict.fromkeys(range(5), 100), "failures": 9}
    lossy = {"good": dict(enumerate([96, 97, 96, 99, 99]))}
    more = dict(enumerate([1.5, 1.6, 1.4, 1.5, 1.55]))
    whole = contender(
        "whole", BASE * 1.001, attempts=more, permits=24, good=dict.fromkeys(range(5), 100), **keeps
    )
    cheap = contender("cheap", BASE, **keeps, **lossy)
    found = judged(cheap, whole)
    assert (found.cell, set(found.equal)) == ("whole", {"cheap", "whole"})
    assert preference(whole, cheap, found, [cheap, whole]) == "losses"
    unlucky = cheap._replace(good=dict(enumerate([100, 100, 99, 100, 100])))
    found = judged(unlucky, whole)
    assert found.cell == "cheap", "one lost workflow in 500 can be chance"
    assert preference(unlucky, whole, found, [unlucky, whole]) == "attempts"


def test_a_cell_that_loses_more_does_not_win_by_way_of_a_third() -> None:
    """The third differs from neither in its losses, and sends more than the one that loses."""
    every = {"tried": dict.fromkeys(range(5), 100), "failures": 9}
    whole = contender(
        "whole", BASE, good=dict.fromkeys(range(5), 100), **every,
        attempts=dict.fromkeys(range(5), 3.0),
    )  # fmt: skip
    third = contender(
        "third", BASE, good=dict(enumerate([97, 100, 100, 98, 96])), **every,
        attempts=dict.fromkeys(range(5), 2.0),
    )  # fmt: skip
    lossy = contender("lossy", BASE, good=dict(enumerate([97, 97, 97, 98, 97])), **every)
    for cells in ([whole, third, lossy], [lossy, whole, third], [third, lossy, whole]):
        assert judged(*cells).cell == "third"


def test_attempts_that_differ_by_chance_do_not_decide() -> None:
    noisy = dict(enumerate([1.5, 1.2, 1.4, 1.0, 1.1]))
    other = dict(enumerate([1.2, 1.5, 1.0, 1.4, 1.05]))
    found = judged(
        contender("eight", BASE, attempts=noisy, permits=8),
        contender("four", BASE, attempts=other, permits=4),
    )
    assert found.cell == "four"


def test_where_nothing_failed_the_safest_policy_is_recommended_and_it_is_said() -> None:
    safe = contender("safe", BASE, setting="s", policy="p", safety=(-8, 0), simplicity=(1, 4))
    none = contender("none", BASE, setting="s")
    found = judged(none, safe)
    assert (found.cell, found.exercised) == ("safe", False)
    met = judged(none._replace(failures=1), safe)
    assert (met.cell, met.exercised) == ("none", True)


def test_without_an_slo_success_is_compared_with_the_best_cell() -> None:
    lossy = contender("lossy", BASE / 2, good=dict.fromkeys(range(5), 14))
    found = judged(contender("whole", BASE), lossy, asked=None)
    assert (found.state, found.cell) == ("proven", "whole")
    assert found.proofs["lossy"] == "broken"
    few = judged(contender("a", BASE[:3]), contender("b", 2 * BASE[:3]), asked=None)
    assert (few.state, few.candidate, few.proofs["a"]) == ("leading", "a", "open")


def test_failures_in_bursts_of_one_cell_count_for_all_cells_with_its_policy() -> None:
    bursts = dict(enumerate([20] * 9 + [2]))
    values = np.linspace(10, 11, 10)
    seen = contender("seen", values * 2, good=bursts, policy="patient")
    lucky = contender("lucky", values, policy="patient")
    assert judged(seen, lucky).proofs["lucky"] == "open"
    assert judged(seen, lucky._replace(policy="other")).proofs["lucky"] == "proven"


def test_cells_that_cannot_win_are_dropped_and_the_rest_settle_it() -> None:
    random = np.random.default_rng(3)
    values = np.exp(random.normal(2, 0.1, 30))
    cells = [
        contender("best", values),
        contender("near", values * np.exp(random.normal(0.08, 0.05, 30))),
        contender("far", 2 * values[:4]),
    ]
    found = judged(*cells, looks=growing_looks(30))
    assert found.cell == "best"
    assert "far" in found.dropped


def test_nobody_is_recommended_when_all_are_proven_to_miss_the_slo() -> None:
    found = judged(contender("bad", BASE, good=dict.fromkeys(range(5), 2)))
    assert (found.state, found.candidate, found.is_final) == ("open", None, True)
    unknown = contender("unknown", [], good={}, tried={})
    assert judged(unknown, looks=one_look(5)).candidate is None


@pytest.mark.parametrize("permits", [[24, 8, 2], [2, 8, 24]])
def test_equal_makespans_with_many_429s_do_not_win(permits: list[int]) -> None:
    cells = [
        contender(f"p{count}", BASE, permits=count, refusals=dict.fromkeys(range(5), 100 * count))
        for count in permits
    ]
    # The counts are constant, so each difference is significant.
    assert judged(*cells).cell == "p2"


def test_policies_that_had_nothing_to_do_are_one_measurement() -> None:
    random = np.random.default_rng(3)
    noisy = [np.exp(random.normal(np.log(10), 0.06, 30)) for _ in range(3)]
    same = [
        contender(name, values, setting="fast", policy=name)
        for name, values in zip(("none", "short", "patient"), noisy, strict=True)
    ]
    slow = contender("slow", 12 * np.exp(random.normal(0, 0.06, 30)))
    found = judged(*same, slow)
    assert (found.state, set(found.equal)) == ("proven", {"none", "short", "patient"})
    apart = [one._replace(failures=1) for one in same]
    assert judged(*apart, slow).state == "leading"
    repeated = [one._replace(attempts=dict.fromkeys(range(30), 1.1)) for one in same]
    assert judged(*repeated, slow).state == "leading"


def test_a_policy_that_repeats_requests_was_used_although_nothing_failed() -> None:
    hedged = contender(
        "hedged", [10, 11, 12], setting="same", safety=(1, 1), attempts=dict.fromkeys(range(3), 1.2)
    )
    plain = contender("plain", [15, 16, 18], setting="same", safety=(0, 1))
    found = judged(hedged, plain)
    assert (found.cell, found.exercised) == ("hedged", True)


@pytest.mark.parametrize(
    ("good", "proofs"),
    [
        ((76, 10, 0), ("proven", "broken", "broken")),
        ((76, 74, 0), ("open", "open", "broken")),
        ((80, 80, 80), ("proven", "proven", "proven")),
        ((40, 38, 36), ("open", "open", "open")),
        ((76,), ("open",)),
        ((80,), ("proven",)),
    ],
)
def test_without_an_slo_each_cell_is_compared_with_every_other_one(
    good: tuple[int, ...], proofs: tuple[str, ...]
) -> None:
    """A cell that keeps far more than the others needs no exact rate of its own."""
    counts = {str(at): ShareCounts(one, 80, 1.0) for at, one in enumerate(good)}
    found = share_proofs(counts, Rules(None, 0.02, 0.05, one_look(1)), 1.0)
    assert tuple(found[name] for name in counts) == proofs


def test_a_setting_that_a_tune_ruled_out_still_shows_how_many_workflows_can_be_kept() -> None:
    """Without an SLO; a winner that is compared with failing settings alone would prove nothing."""
    fast, failing = contender("fast", BASE[:3]), contender("failing", 0.9 * BASE[:3], failures=9)
    failing = failing._replace(good=dict.fromkeys(range(3), 12))
    slow = contender("slow", 2 * BASE[:1])
    block = TuneBlock(
        block=3, cells=(), leading="fast", regret=0.0, open=(), outlooks=(), attempts=0, reason="",
        ruled_out=(TuneRuledOut(cell="slow", because="slower", bound=1.5),),
    )  # fmt: skip

    def decided(*cells: Contender) -> Judgement:
        rules = Rules(asked=None, margin=0.02, success_margin=0.05, looks=one_look(3))
        return decide_tune(lambda count: until(cells, count), rules, 3, [block])

    assert decided(fast, failing).proofs["fast"] == "proven"
    found = decided(fast, failing, slow)
    assert (found.state, found.cell, found.proofs["fast"]) == ("leading", None, "open")
    more = fast._replace(good=dict.fromkeys(range(3), 25), tried=dict.fromkeys(range(3), 25))
    assert (decided(more, failing, slow).state, more.good[0]) == ("proven", 25)
