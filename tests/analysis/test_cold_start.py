"""First calls of trials that are slower than later ones are found, and chance alone is not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from harness.analysis.cold_start import FirstCall, cold_start, p_of_ranks
from harness.analysis.selection import Dataset
from harness.records.clock import SECOND
from harness.records.schema import Tokens
from harness.report.advisories import warnings_of
from harness.report.wording import warm_up_note
from harness.store.run_directory import Records
from tests.analysis.builders import make_attempt, make_call, make_run, make_trial, make_workflow
from tests.report.summaries import make_summary

CELL = "async_2_none_attempt"


def trials(first: float, repeats: int = 6, later: int = 5) -> Records:
    random = np.random.default_rng(3)
    attempts, calls, workflows = [], [], []
    for repeat in range(repeats):
        for number in range(later + 1):
            ttft = random.lognormal(0, 0.1) * (first if number == 0 else 1)
            sent = number * 100 * SECOND
            text = sent + round(ttft * SECOND)
            key = {"cell": CELL, "repeat": repeat, "workflow": number}
            times = {"ready": sent, "permit_requested": sent, "permit_granted": sent, "sent": sent}
            attempts.append(
                make_attempt(**key, **times, first_answer=text, first_reasoning=None, done=text)
            )
            calls.append(make_call(**key, ready=sent, done=text))
            workflows.append(make_workflow(**key, ready=sent, done=text))
    made = [make_trial(cell=CELL, repeat=repeat) for repeat in range(repeats)]
    return Records(make_run([CELL], repeats), attempts, calls, workflows, made, None)


@pytest.mark.parametrize(("first", "is_cold"), [(1.0, False), (2.0, True), (0.5, False)])
def test_slow_first_calls_are_warned_of(first: float, is_cold: bool) -> None:
    found = cold_start(list(Dataset.of(trials(first)).cells.values()))
    assert found.ratio == pytest.approx(first, rel=0.2)
    said = warnings_of(make_summary([CELL], cold_start=found))
    assert any("first calls of the trials took" in text for text in said) == is_cold


def test_few_trials_are_not_tested() -> None:
    found = cold_start(list(Dataset.of(trials(3.0, repeats=4)).cells.values()))
    assert (found.trials, found.ratio, found.p) == (4, None, None)


def test_a_run_without_a_slow_first_call_is_called_as_often_as_the_level_says() -> None:
    random = np.random.default_rng(1)
    called = 0
    for _ in range(2000):
        ranks = []
        for later in random.integers(1, 9, 8):
            values = random.lognormal(size=later + 1)
            ranks.append(FirstCall(1.0, float((values[1:] < values[0]).mean()), int(later)))
        called += p_of_ranks(ranks) < 0.05
    assert called / 2000 == pytest.approx(0.05, abs=0.015)


def test_the_trial_with_the_slowest_first_call_is_named() -> None:
    found = cold_start(list(Dataset.of(trials(2.0)).cells.values()))
    assert [one.repeat for one in found.starts] == list(range(6))
    slowest = max(found.starts, key=lambda one: one.ratio)
    (said,) = [one for one in warnings_of(make_summary([CELL], cold_start=found)) if "first" in one]
    assert f"most, {slowest.ratio:.1f} times, in async 2, repeat {slowest.repeat + 1}" in said


def test_what_warm_up_calls_cost_is_said() -> None:
    records = trials(1.0)
    warm_up = [
        make_attempt(cell=CELL, workflow=99, phase="warm-up", tokens=Tokens(input=20, output=30))
    ] * 2
    records = records._replace(attempts=[*records.attempts, *warm_up])
    found = cold_start(list(Dataset.of(records).cells.values()))
    assert (found.warmup_calls, found.warmup_tokens, found.warmup_usd) == (2, 100, None)
    summary = make_summary([CELL], cold_start=msgspec.structs.replace(found, warmup_usd=0.5))
    assert warm_up_note(summary) == (
        "Not in the statistics: 2 warm-up calls before the trials (load.warmup_calls), "
        "100 tokens, 0.500 USD."
    )
    assert warm_up_note(make_summary([CELL])) == ""
