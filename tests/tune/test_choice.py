"""What a tune decides, from what is known of each setting."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.tune_blocks import TRIALS_A_BLOCK
from harness.tune.beliefs import Belief
from harness.tune.choice import (
    Candidate,
    Required,
    affordable,
    first_block,
    next_block,
    standing,
)

ASKED = Required(asked=0.9, success_margin=0.05, margin=0.02)


def known(name: str, value: float, error: float = 0.005, *, trials: int = 1,
          good: float = 60.0, lost: float = 0.1) -> Belief:  # fmt: skip
    return Belief(name, math.log(value), error**2, None, good, lost, trials)


def candidates(*names: str) -> dict[str, Candidate]:
    """Return settings by names such as `8 safe`: permits and policy."""
    return {
        name: Candidate(name, name.split()[0], int(name.split()[0]), (name.split()[1] != "safe",))
        for name in names
    }


def test_the_first_block_has_few_and_the_most_permits_with_the_safest_policy() -> None:
    every = candidates(*(f"{n} {policy}" for n in (1, 2, 4, 8, 16, 32, 64) for policy in
                         ("fast", "safe")))  # fmt: skip
    assert first_block(list(every.values())) == ["4 safe", "16 safe", "64 safe"]
    assert first_block(list(candidates("8 safe", "8 fast").values())) == ["8 safe"]


def test_the_most_permits_are_tried_first_with_the_fewest_attempts() -> None:
    every = candidates(*(f"{n} {policy}" for n in (8, 16, 64) for policy in ("once", "safe")))
    every = {name: replace(one, attempts=1 if "once" in name else 6) for name, one in every.items()}
    assert first_block(list(every.values())) == ["8 safe", "16 safe", "64 once"]


def test_only_the_faster_setting_is_tried_while_its_success_rate_is_the_question() -> None:
    """The leading one keeps all workflows, and is slower without a doubt."""
    every = candidates("8 safe", "12 safe", "16 safe")
    leading = known("8 safe", 130)
    doubtful = known("12 safe", 100, trials=1, good=16.2, lost=2.0)
    beliefs = {one.cell: one for one in (leading, doubtful, known("16 safe", 132, 0.05, trials=0))}
    costs = dict.fromkeys(every, 300.0)

    def block() -> list[str]:
        now = standing(beliefs, every, ASKED, (), costs)
        assert now is not None
        assert now.leading == "8 safe"
        return next_block(now, beliefs, every, costs, ASKED.margin, is_settling=False)

    assert block() == ["12 safe"]
    beliefs["8 safe"] = replace(leading, trials=0)
    assert block()[:2] == ["8 safe", "12 safe"]
    beliefs["8 safe"] = replace(leading, variance=0.3**2)
    assert block()[:2] == ["8 safe", "12 safe"]


def test_what_is_beyond_the_margin_is_ruled_out() -> None:
    every = candidates("4 safe", "8 safe", "16 safe")
    beliefs = {
        one.cell: one
        for one in (known("4 safe", 120, trials=0), known("8 safe", 100), known("16 safe", 99.5))
    }
    now = standing(beliefs, every, ASKED, ())
    assert now is not None
    assert now.leading == "16 safe"
    # The first is slower; the second may be better, but by less than the margin.
    assert {one.cell: one.because for one in now.ruled_out} == {
        "4 safe": "slower", "8 safe": "slower"
    }  # fmt: skip
    unsure = {**beliefs, "8 safe": known("8 safe", 100, error=0.05)}
    now = standing(unsure, every, ASKED, ())
    assert now is not None
    assert now.open == ("8 safe",)


def test_a_faster_setting_that_loses_workflows_does_not_lead() -> None:
    every = candidates("8 safe", "16 safe")
    beliefs = {
        "8 safe": known("8 safe", 100), "16 safe": known("16 safe", 50, good=10, lost=10)
    }  # fmt: skip
    now = standing(beliefs, every, ASKED, ())
    assert now is not None
    assert now.leading == "8 safe"
    assert [(one.cell, one.because) for one in now.ruled_out] == [("16 safe", "slo")]


def test_nothing_slower_is_ruled_out_before_the_leading_setting_was_measured() -> None:
    every = candidates("8 safe", "16 safe")
    beliefs = {"8 safe": known("8 safe", 200), "16 safe": known("16 safe", 100, trials=0)}
    now = standing(beliefs, every, ASKED, ())
    assert now is not None
    assert (now.leading, now.ruled_out) == ("16 safe", ())


def test_one_trial_stands_for_all_policies_where_nothing_failed() -> None:
    every = candidates("8 safe", "8 fast", "8 third")
    beliefs = {
        "8 safe": known("8 safe", 100, trials=2), "8 fast": known("8 fast", 90, trials=0),
        "8 third": known("8 third", 100, trials=1),
    }  # fmt: skip
    now = standing(beliefs, every, ASKED, {"8"})
    assert now is not None
    assert now.leading == "8 safe"
    assert {one.cell for one in now.ruled_out if one.because == "same"} == {"8 fast", "8 third"}
    failed = standing(beliefs, every, ASKED, ())
    assert failed is not None
    assert failed.leading == "8 fast"


def test_a_block_tries_one_policy_of_a_setting_without_trials() -> None:
    every = candidates("8 safe", "16 safe", "16 fast", "32 safe")
    beliefs = {
        "8 safe": known("8 safe", 100), "16 safe": known("16 safe", 99, 0.05, trials=0),
        "16 fast": known("16 fast", 99, 0.05, trials=0),
        "32 safe": known("32 safe", 99.2, 0.05, trials=0),
    }  # fmt: skip
    now = standing({**beliefs, "8 safe": known("8 safe", 98)}, every, ASKED, ())
    assert now is not None
    block = next_block(now, beliefs, every, {}, ASKED.margin, is_settling=False)
    assert block == ["8 safe", "16 safe", "32 safe"]


def test_dear_settings_are_not_tried_together_while_a_tune_searches() -> None:
    every = candidates("8 safe", "16 safe", "32 safe", "64 safe")
    beliefs = {
        "8 safe": known("8 safe", 98), "16 safe": known("16 safe", 99, 0.05, trials=0),
        "32 safe": known("32 safe", 99, 0.04, trials=0),
        "64 safe": known("64 safe", 99, 0.03, trials=0),
    }  # fmt: skip
    now = standing(beliefs, every, ASKED, ())
    assert now is not None
    costs = {"8 safe": 200.0, "16 safe": 600.0, "32 safe": 600.0, "64 safe": 150.0}

    def block(is_settling: bool) -> list[str]:
        return next_block(now, beliefs, every, costs, ASKED.margin, is_settling=is_settling)

    assert block(is_settling=False) == ["8 safe", "64 safe"]
    assert len(block(is_settling=True)) == 4
    costs["16 safe"] = 200.0
    assert block(is_settling=False) == ["8 safe", "16 safe", "64 safe"]


def test_what_does_not_fit_into_the_budget_is_left_out() -> None:
    costs = {"lead": 200.0, "dear": 600.0, "cheap": 150.0}
    assert affordable(["lead", "dear", "cheap"], costs, 500) == ["lead", "cheap"]
    assert affordable(["lead", "dear", "cheap"], costs, 199) == []
    assert affordable(["lead", "unknown"], costs, 500) == ["lead"]  # as many as usual: 317


def test_of_settings_that_lead_alike_the_one_with_the_fewest_requests_leads() -> None:
    every = candidates("16 safe", "64 safe")
    beliefs = {"16 safe": known("16 safe", 100.2), "64 safe": known("64 safe", 100)}
    for costs, leading in (({}, "64 safe"), ({"16 safe": 200, "64 safe": 560}, "16 safe")):
        now = standing(beliefs, every, ASKED, (), costs)
        assert now is not None
        assert now.leading == leading


@pytest.mark.parametrize(
    ("cheap", "leading"),
    [
        (known("16 safe", 107), "16 safe"),  # 7 % slower, with a standard error of 4 %
        (known("16 safe", 109), "64 safe"),
        (known("16 safe", 101.5, 0.0001), "16 safe"),  # clearly slower, but within the margin
        (known("16 safe", 101.5, trials=0), "16 safe"),  # within the margin of 2 %
        (known("16 safe", 103, trials=0), "64 safe"),
        (known("16 safe", 101.5, good=55, lost=5), "64 safe"),
    ],
)
def test_a_setting_that_cannot_be_told_apart_leads_if_it_takes_fewer_requests(
    cheap: Belief, leading: str
) -> None:
    error = 0.0001 if cheap.variance < 1e-6 else 0.0394
    beliefs = {"16 safe": cheap, "64 safe": known("64 safe", 100, error)}
    every, costs = candidates("16 safe", "64 safe"), {"16 safe": 300.0, "64 safe": 500.0}
    now = standing(beliefs, every, ASKED, (), costs)
    assert now is not None
    assert now.leading == leading


def test_a_setting_with_fewer_requests_is_tried_for_what_it_needs_to_lead() -> None:
    every = candidates("16 safe", "32 safe", "64 safe")
    beliefs = {
        "16 safe": known("16 safe", 103, 0.02, trials=0),
        "32 safe": known("32 safe", 103, 0.02, trials=0), "64 safe": known("64 safe", 100, 0.02),
    }  # fmt: skip
    now = standing(beliefs, every, ASKED, (), {"16 safe": 300, "32 safe": 500, "64 safe": 500})
    assert now is not None
    assert now.leading == "64 safe"
    assert now.gains["16 safe"] > 2 * now.gains["32 safe"]
    alike = standing(beliefs, every, ASKED, (), dict.fromkeys(every, 500))
    assert alike is not None
    assert alike.gains["16 safe"] == alike.gains["32 safe"]
    assert alike.regret == now.regret


@given(
    values=st.lists(st.floats(1, 1000), min_size=1, max_size=8),
    errors=st.lists(st.floats(0.001, 0.5), min_size=8, max_size=8),
    lost=st.lists(st.floats(0.1, 50), min_size=8, max_size=8),
)
def test_each_setting_leads_or_is_open_or_ruled_out(
    values: list[float], errors: list[float], lost: list[float]
) -> None:
    every = candidates(*(f"{number + 1} safe" for number in range(len(values))))
    beliefs = {
        name: replace(known(name, value, errors[at]), lost=lost[at])
        for at, (name, value) in enumerate(zip(every, values, strict=True))
    }
    now = standing(beliefs, every, ASKED, ())
    assert now is not None
    parts = [now.leading, *now.open, *(one.cell for one in now.ruled_out)]
    assert sorted(parts) == sorted(every)
    block = next_block(now, beliefs, every, {}, ASKED.margin, is_settling=True)
    assert block[0] == now.leading
    assert len(block) == len(set(block)) <= TRIALS_A_BLOCK
