"""The curves of fits to known providers, beside what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.analysis.selection import Dataset
from harness.twin.fit import ProviderFit, fit_observations
from harness.twin.fitted_curves import fitted_curves
from harness.twin.measured_means import measured_means
from harness.twin.observations import Observations, observe
from harness.twin.predicted_metrics import values_of
from harness.twin.twin_curves import TwinCurves
from tests.twin.providers import play


def fitted(provider: dict[str, Any], **settings: Any) -> tuple[Observations, ProviderFit]:
    seen = observe([play(provider, **settings)])
    return seen, fit_observations(seen)


def curves_of(provider: dict[str, Any], **settings: Any) -> TwinCurves:
    return fitted_curves(*fitted(provider, **settings), simulated=True)


def test_the_points_of_the_pace_are_on_the_curve_of_the_provider() -> None:
    curves = curves_of({"itl_b": "1ms"}, permits=(2, 16), workflows=20)
    pace = curves.pace
    assert len(pace.measured) == pace.attempts == 240
    beside, each = np.array(pace.measured).T
    assert beside.min() >= 1
    assert beside.max() > 8
    assert np.abs(each / (0.020 + 0.001 * beside) - 1).max() < 0.06
    knots, itl = np.array(pace.knots).T
    assert np.abs(each / np.interp(beside, knots, itl) - 1).max() < 0.06


def test_beyond_the_measurements_the_last_line_goes_on() -> None:
    pace = curves_of({"itl_b": "1ms"}, permits=(2, 16), workflows=20).pace
    (x, y), (end, high) = pace.beyond
    assert (x, y) == pace.knots[-1]
    assert end > x
    (before, below) = pace.knots[-2]
    assert (high - y) / (end - x) == pytest.approx((y - below) / (x - before))


def test_of_many_attempts_some_are_taken_evenly() -> None:
    seen, fit = fitted({"itl_b": "1ms"}, permits=(2, 16), workflows=130)
    pace = fitted_curves(seen, fit, simulated=True).pace
    assert pace.attempts == 1560
    assert len(pace.measured) == 1500
    whole = fit.pace.most
    shares = [np.mean([low < x <= high for x, _ in pace.measured])
              for low, high in ((0, 2.5), (2.5, whole + 1))]  # fmt: skip
    assert sum(shares) == pytest.approx(1)
    assert pace.measured == tuple(sorted(pace.measured))


def test_the_median_of_the_first_token_goes_through_the_points() -> None:
    growth = [{"requests": 1, "factor": 1}, {"requests": 8, "factor": 4}]
    provider = {"ttft": {"median": "300ms", "sigma": 0.3, "growth": growth}}
    curves = curves_of(provider, permits=(2, 16), workflows=40)
    assert curves.slots is None
    assert curves.ttft_waiting is not None
    waiting, wait = np.array(curves.ttft_waiting.measured).T
    knots, median = np.array(curves.ttft_waiting.knots).T
    ratio = wait / np.interp(waiting, knots, median)
    assert np.median(ratio) == pytest.approx(1, rel=0.05)
    assert median[-1] > 2 * median[0]


def test_the_line_over_input_tokens_has_the_slope_of_the_provider() -> None:
    provider = {"ttft": {"median": "300ms", "sigma": 0.1, "per_1k_input_tokens": "2s"}}
    curves = curves_of(provider, permits=(4,), workflows=40)
    assert curves.ttft_input is not None
    (low, one), (high, other) = curves.ttft_input.knots
    assert (other - one) / (high - low) * 1000 == pytest.approx(2, rel=0.1)


def test_lengths_are_counted_once_and_the_fit_expects_nearly_all_of_them() -> None:
    seen, fit = fitted({}, permits=(2, 4), workflows=20)
    curves = fitted_curves(seen, fit, simulated=True)
    answers = {one.setting: one for one in curves.lengths if one.part == "answer"}
    for found in fit.lengths:
        shown = answers[found.setting]
        assert sum(shown.counts) == found.answer.attempts
        assert sum(shown.expected) == pytest.approx(sum(shown.counts), rel=0.1)
        assert len(shown.edges) == len(shown.counts) + 1
        assert shown.median == found.answer.median


def test_lengths_that_max_tokens_cut_are_counted_apart() -> None:
    limited = "[workflow.max_tokens]\nresearch = 200"
    curves = curves_of({}, permits=(4,), workflows=20, workflow=limited)
    cut = {(one.setting, one.part): sum(one.cut) for one in curves.lengths}
    assert cut["research", "reasoning"] + cut["research", "answer"] > 10
    assert cut["synthesize", "answer"] == 0


def test_below_the_cap_all_are_admitted_and_at_it_all_are_refused() -> None:
    curves = curves_of({"concurrency_cap": 5}, permits=(12,), workflows=20)
    (limit,) = curves.limits
    assert limit.cap == 5
    assert sum(limit.refused[:5]) == 0
    assert sum(limit.admitted[5:]) == 0
    assert sum(limit.refused) > 20
    assert sum(limit.admitted) + sum(limit.refused) == curves.attempts


def test_a_cap_that_changes_has_the_counts_of_each_time() -> None:
    provider = {"concurrency_cap": 12, "cap_steps": [{"at": "60s", "cap": 5}]}
    curves = curves_of(provider, permits=(16,), workflows=30, repeats=3)
    before, after = curves.limits
    assert (before.cap, after.cap) == (12, 5)
    assert before.end == after.start == pytest.approx(60, abs=3)
    assert max(n for n, count in enumerate(before.admitted) if count) == 11
    assert max(n for n, count in enumerate(after.admitted) if count) < 6


def test_whole_responses_have_a_pace_and_no_first_token() -> None:
    curves = curves_of({"itl_b": "1ms"}, permits=(2, 8), workflows=20, stream=False)
    assert curves.ttft_waiting is curves.ttft_input is None
    beside, each = np.array(curves.pace.measured).T
    assert np.median(each / (0.020 + 0.001 * beside)) == pytest.approx(1, rel=0.1)


def test_the_measured_mean_of_a_metric_has_an_interval_over_repeats() -> None:
    records = play({}, permits=(2,), workflows=4, repeats=3)
    (cell,) = records.run.cells
    mean = measured_means(records)["makespan"][cell.id]
    values = list(values_of(Dataset.of(records))["makespan"][cell.id].values())
    assert mean.value == pytest.approx(np.mean(values))
    assert mean.low is not None
    assert mean.high is not None
    middle = np.log(mean.value)
    half = 4.302653 * np.std(np.log(values), ddof=1) / np.sqrt(3)  # Student's t with 2 degrees
    assert np.log([mean.low, mean.high]) == pytest.approx(middle + np.array([-half, half]))
    once = measured_means(play({}, permits=(2,), workflows=4))["makespan"][cell.id]
    assert (once.low, once.high) == (None, None)
