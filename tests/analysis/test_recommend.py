"""A recommendation follows from measured cells, and says how sure it can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.analysis.cells import MeasuredCell
from harness.analysis.contenders import judge_look
from harness.analysis.model import Recommendation
from harness.analysis.recommend import Advice
from harness.analysis.selection import Dataset
from harness.records.clock import SECOND
from harness.records.schema import Tokens, Trial, Workflow
from harness.store.run_directory import Records
from tests.analysis.builders import (
    by_cell,
    known,
    make_attempt,
    make_run,
    make_trial,
    make_workflow,
)

FAST, SLOW = "async_8_none_attempt", "async_2_none_attempt"


def recommended(
    makespans: dict[str, list[float]],
    failed: dict[str, int] | None = None,
    workflows: int = 4,
    **run: Any,
) -> Recommendation:
    """Recommend among cells with these makespans by repeat; `failed` workflows in each repeat."""
    trials: list[Trial] = []
    ended: list[Workflow] = []
    for cell, seconds in makespans.items():
        bad = (failed or {}).get(cell, 0)
        for repeat, makespan in enumerate(seconds):
            end = round(makespan * SECOND)
            trials.append(make_trial(cell=cell, repeat=repeat, end=end))
            for number in range(workflows):
                outcome = "failed" if number < bad else "ok"
                key = {"cell": cell, "repeat": repeat, "workflow": number}
                ended.append(make_workflow(**key, outcome=outcome, done=end))
    repeats = max(map(len, makespans.values()))
    the_run = make_run(makespans, repeats, **run)
    records = Records(the_run, [], [], ended, trials, None)
    return Advice(the_run, [MeasuredCell(cell) for cell in by_cell(records)]).recommendation()


def test_a_cell_with_both_proofs_is_recommended_with_its_lead_over_the_next() -> None:
    found = recommended({SLOW: [20, 22, 21], FAST: [10, 10.5, 10.2]}, workflows=30)
    assert (found.state, found.cell, found.candidate) == ("proven", FAST, FAST)
    assert known(found.lead_over_next)[1] == pytest.approx(2.05, abs=0.02)
    assert found.settles_with is None
    assert any("10.2 scenario seconds" in sentence for sentence in found.because)
    assert any("3 repeats" in sentence for sentence in found.because)


def test_a_lead_that_chance_could_make_is_no_proof_and_says_how_many_more() -> None:
    found = recommended({SLOW: [12, 10, 14], FAST: [10, 11, 12]}, workflows=30)
    assert (found.state, found.cell, found.candidate) == ("leading", None, FAST)
    assert known(found.lead_over_next)[0] < 1
    assert found.settles_with is not None
    assert (found.settles_with.missing, found.settles_with.max_repeats) == ("lead", 11)
    assert found.settles_with.workflows == 330
    assert any(
        "A new run with repeats = 'auto' would prove the lead with at most 11 repeats (330 "
        "workflows in each setting)" in sentence
        for sentence in found.because
    )


def test_too_few_workflows_do_not_prove_a_success_rate_however_clear_the_lead() -> None:
    found = recommended({SLOW: [20, 22, 21], FAST: [10, 10.5, 10.2]})
    assert (found.state, found.cell, found.candidate) == ("leading", None, FAST)
    assert found.settles_with is not None
    # 72 workflows without a failure show at least 95 % at one look; 80 at the last of several.
    assert (found.settles_with.missing, found.settles_with.workflows) == ("slo", 80)


def test_one_repeat_has_a_lead_without_interval_and_asks_for_three_at_least() -> None:
    found = recommended({SLOW: [20], FAST: [10]}, workflows=80)
    assert found.lead_over_next is not None
    assert (found.lead_over_next.value, found.lead_over_next.low) == (2.0, None)
    assert found.state == "leading"
    assert found.settles_with is not None
    assert (found.settles_with.missing, found.settles_with.max_repeats) == ("lead", 3)
    assert found.settles_with.at_least


def test_a_cell_that_was_stopped_before_a_hard_repeat_is_not_better_for_it() -> None:
    found = recommended({SLOW: [12], FAST: [10, 30, 31]})
    assert found.candidate == FAST
    assert found.lead_over_next is not None
    assert found.lead_over_next.value == pytest.approx(1.2)


def test_equal_cells_are_both_right_and_the_one_with_fewer_permits_is_recommended() -> None:
    found = recommended({SLOW: [10, 11, 12], FAST: [10, 11, 12]}, workflows=30)
    assert (found.state, found.cell) == ("proven", SLOW)
    assert any(
        f"Equal within 2 %, and why it was not chosen: {FAST} (more permits)." in sentence
        for sentence in found.because
    )


def test_a_policy_that_met_no_failure_is_not_recommended_for_what_it_did() -> None:
    safest = "async_2_openai-sdk_attempt"
    found = recommended({SLOW: [10, 11, 12], safest: [10, 11, 12]}, workflows=30)
    assert (found.state, found.cell, found.retry_exercised) == ("proven", safest, False)
    assert any("Retry policy: not exercised" in sentence for sentence in found.because)


def test_a_cell_that_is_proven_to_miss_the_success_rate_is_excluded() -> None:
    found = recommended(
        {SLOW: [20, 21, 22], FAST: [10, 11, 12]},
        failed={FAST: 10},
        workflows=30,
        extra_toml="[slo]\nsuccess_rate = 0.9",
    )
    assert (found.state, found.cell) == ("proven", SLOW)
    assert found.lead_over_next is None
    assert any(
        "1 of 2 settings is excluded: it does not meet the SLO" in sentence
        for sentence in found.because
    )


def test_failing_fast_does_not_win_where_no_success_rate_is_asked_for() -> None:
    found = recommended({SLOW: [20, 21], FAST: [1, 1]}, failed={FAST: 1})
    assert found.candidate == SLOW


def test_no_cell_is_recommended_when_none_keeps_the_slo() -> None:
    asked = "[slo]\nsuccess_rate = 0.9"
    failed = {SLOW: 20, FAST: 60}
    found = recommended({SLOW: [20], FAST: [10]}, failed=failed, workflows=80, extra_toml=asked)
    assert (found.state, found.cell, found.candidate) == ("open", None, None)
    assert f"75 % of workflows met it, in {SLOW}; 90 % is required" in found.because[-1]
    nothing = recommended({FAST: [10]}, failed={FAST: 4})
    assert nothing.candidate is None


def test_a_success_that_comes_too_late_does_not_keep_the_slo() -> None:
    asked = '[slo]\nsuccess_rate = 0.9\nworkflow_latency = "15s"'
    found = recommended({SLOW: [20], FAST: [10]}, extra_toml=asked)
    assert found.candidate == FAST
    assert any("4 of its 4 workflows succeeded in time" in s for s in found.because)
    found = recommended({SLOW: [20], FAST: [16]}, extra_toml=asked)
    assert found.candidate is None
    assert found.because[-1] == "No workflow succeeded in time."


def test_how_far_the_success_rate_is_proven_is_said() -> None:
    asked = "[slo]\nsuccess_rate = 0.6"
    few = recommended({SLOW: [20], FAST: [10]}, extra_toml=asked)
    assert any("4 of its 4 workflows" in s and "too few to prove" in s for s in few.because)
    many = recommended({SLOW: [20] * 3, FAST: [10] * 3}, extra_toml=asked)
    assert any("12 of its 12" in s and "proves the required" in s for s in many.because)
    low = recommended({SLOW: [20], FAST: [10]}, failed={SLOW: 2, FAST: 2}, extra_toml=asked)
    assert any(s.endswith("2 of its 4 workflows succeeded; 60 % is required.") for s in low.because)


@pytest.mark.parametrize(
    ("slow", "said"),
    [
        ([20, 22, 24], "The closest of the other settings, {}, takes 2 times"),
        (
            [10.1, 10.9, 12.1],
            "None of the other settings is better by more than 2 %: the closest, {}",
        ),
        (
            [10.01, 11.01, 12],
            "takes as long (95 % interval within 0.2 %, paired over 3 repeats)",
        ),
        ([11, 10, 13], "One of the other settings may be better by more than 2 %: {} takes"),
        (
            [20, 22],
            "takes 2 times as long (95 % interval of the ratio 2 to 2, paired over 2 repeats); at "
            "least 3",
        ),
    ],
)
def test_what_is_known_of_the_lead_is_said(slow: list[float], said: str) -> None:
    fast: list[float] = [10, 11, 12]
    found = recommended({SLOW: slow, FAST: fast[: len(slow)]}, workflows=30)
    assert any(said.format(SLOW) in sentence for sentence in found.because), found.because


def test_a_simulated_result_says_so_and_gives_scenario_seconds() -> None:
    found = recommended({SLOW: [2.0], FAST: [1.0]}, time_scale=0.01)
    assert found.because[0].startswith("The run was simulated")
    assert any("100 scenario seconds" in sentence for sentence in found.because)
    live = recommended({SLOW: [2.0], FAST: [1.0]}, simulated=False)
    assert not any("simulated" in sentence for sentence in live.because)
    assert not any("scenario seconds" in sentence for sentence in live.because)
    assert any("1 seconds" in sentence for sentence in live.because)


def test_a_cell_alone_leads_nobody() -> None:
    found = recommended({FAST: [10, 11, 12]}, workflows=30)
    assert (found.state, found.cell, found.lead_over_next) == ("proven", FAST, None)


def test_a_95th_percentile_is_compared_only_where_there_is_one() -> None:
    asked = '[objective]\nminimise = "workflow_p95"'
    found = recommended({SLOW: [20, 22], FAST: [10, 10]}, workflows=36, extra_toml=asked)
    assert found.candidate == FAST
    assert found.objective == "workflow_p95"
    few = recommended({SLOW: [20, 22], FAST: [10, 10]}, workflows=35, extra_toml=asked)
    assert few.candidate is None
    assert "72 workflows" in few.because[-1]


PRICE = {"input": 1.0, "cached": 1.0, "output": 10.0, "source": "made up"}
COST = (
    "[endpoint.price]\ninput = 1.0\noutput = 10.0\n"
    '[objective]\nminimise = "cost_per_successful_workflow"'
)


def cost_recommended(price: dict[str, Any] | None, failed_workflow: bool = False) -> Recommendation:
    """The fast cell spends twice the tokens; everything takes two repeats of one workflow."""
    cells = {SLOW: 100, FAST: 200}
    attempts = [
        make_attempt(cell=cell, repeat=repeat, tokens=Tokens(input=0, output=output))
        for cell, output in cells.items()
        for repeat in range(2)
    ]
    outcome = "failed" if failed_workflow else "ok"
    ended = [
        make_workflow(cell=cell, repeat=repeat, outcome=outcome if repeat else "ok")
        for cell in cells
        for repeat in range(2)
    ]
    the_run = make_run(cells, 2, price=price, extra_toml=COST)
    records = Records(the_run, attempts, [], ended, [], None)
    return Advice(the_run, [MeasuredCell(cell) for cell in by_cell(records)]).recommendation()


def test_the_cheapest_success_wins_where_cost_is_the_objective() -> None:
    found = cost_recommended(PRICE)
    assert found.candidate == SLOW
    assert any("0.001 USD" in sentence for sentence in found.because)
    assert any("costs 2 times as much" in sentence for sentence in found.because)


def test_cost_cannot_be_compared_without_prices() -> None:
    found = cost_recommended(None)
    assert found.cell is None
    assert "No price is known" in found.because[-1]


def test_a_repeat_without_success_has_no_cost_of_success() -> None:
    found = cost_recommended(PRICE, failed_workflow=True)
    assert found.cell is None
    assert "No setting has a success in every repeat" in found.because[-1]


def test_a_run_in_which_no_trial_ended_recommends_nothing() -> None:
    the_run = make_run([FAST, SLOW])
    records = Records(the_run, [], [], [], [], None)
    found = Advice(the_run, [MeasuredCell(cell) for cell in by_cell(records)]).recommendation()
    assert found.cell is None
    assert "nothing to compare" in found.because[-1]


def drawn(best: float, other: float, seed: int, repeats: int = 5) -> Recommendation:
    """Recommend between two cells whose makespans spread by 3 %, and by 10 % together."""
    random = np.random.default_rng(seed)
    shared = np.exp(0.1 * random.normal(size=repeats))
    fast, slow = (
        (typical * shared * np.exp(0.03 * random.normal(size=repeats))).tolist()
        for typical in (best, other)
    )
    return recommended({FAST: fast, SLOW: slow}, workflows=16)


def test_a_lead_of_ten_percent_is_proven_and_right() -> None:
    found = [drawn(10.0, 11.0, seed) for seed in range(100)]
    sure = [one for one in found if one.state == "proven"]
    assert len(sure) >= 80
    assert sum(one.cell == FAST for one in sure) >= 0.95 * len(sure)


def test_a_cell_that_is_worse_by_more_than_the_margin_is_hardly_ever_recommended() -> None:
    found = [drawn(10.0, 10.25, seed) for seed in range(400)]
    wrong = sum(one.cell == SLOW for one in found)
    assert wrong <= 0.05 * 400 + 3 * (0.05 * 0.95 * 400) ** 0.5


def test_each_look_sees_only_the_repeats_before_it() -> None:
    trials: list[Trial] = []
    ended: list[Workflow] = []
    for cell in (FAST, SLOW):
        for repeat in range(7):
            seconds = 20 if cell == SLOW and repeat < 4 else 10
            trials.append(make_trial(cell=cell, repeat=repeat, end=seconds * SECOND))
            for number in range(20):
                key = {"cell": cell, "repeat": repeat, "workflow": number}
                ended.append(make_workflow(**key, done=seconds * SECOND))
    run = make_run([FAST, SLOW], 20, extra_toml="[slo]\nsuccess_rate = 0.9")
    run.scenario["sweep"] = {**run.scenario["sweep"], "repeats": "auto", "max_repeats": 20}
    records = Records(run, [], [], ended, trials, None)
    advice = Advice(run, [MeasuredCell(cell) for cell in by_cell(records)])
    assert advice.decision.dropped == {SLOW: 4}
    assert advice.dropped_before_the_end == {SLOW: 4}
    data = Dataset.of(records)
    assert judge_look(data, 4, {}).dropped == {SLOW: 4}
    assert judge_look(data, 7, {}).dropped == {}
    assert judge_look(data, 7, {SLOW: 4}).dropped == {SLOW: 4}
