"""Predictions of a twin, with their intervals, against the provider that the twin was fitted to."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from harness.records.errors import InputError
from harness.simulator.profiles import Profile, load_profile
from harness.store.column_reader import read_columns
from harness.store.run_directory import Records
from harness.twin.check_prediction import compare_with
from harness.twin.observations import Observations, observe
from harness.twin.predict import predict
from harness.twin.predicted_metrics import PREDICTED, PredictedMetric, values_of
from harness.twin.prediction import LeftOutSetting, Prediction
from harness.twin.prediction_error import (
    FitError,
    distance,
    excess_variance,
    fit_error,
    freedom_of,
    half_width,
    model_variance,
    trial_variance,
)
from harness.twin.recorded_lengths import recorded_lengths
from harness.twin.twin_trials import at_twin, play_at_twin, twin_scenario
from tests.twin.providers import play, profile_file, write_run

CAPPED = {"concurrency_cap": 6}


def metric(name: str) -> PredictedMetric:
    return next(one for one in PREDICTED if one.name == name)


@pytest.fixture(scope="module")
def run() -> Records:
    return play(CAPPED, permits=(2, 4, 12), workflows=6, in_flight=6, repeats=2)


@pytest.fixture(scope="module")
def predicted(run: Records) -> Prediction:
    changes = ["sweep.permits=[3, 8, 40]", "sweep.retry=['openai-sdk']"]
    return predict([run], changes, bootstraps=8)


def test_predictions_are_near_the_truth_and_the_intervals_hold_it(
    run: Records, predicted: Prediction, tmp_path: Path
) -> None:
    scenario = at_twin(
        run.run.scenario, ["sweep.permits=[3, 8]", "sweep.retry=['openai-sdk']"], "run"
    )
    true = load_profile(str(profile_file(tmp_path, CAPPED))).as_dict()
    lengths = recorded_lengths(observe([run])).of_trial
    truth = values_of(play_at_twin(twin_scenario(scenario, true, run.run), 60, 77, lengths))
    for cell in predicted.cells[:2]:
        for name, most in (("makespan", 0.05), ("ttft_p50", 0.15), ("amplification", 0.05)):
            value = cell.values[name]
            real = float(np.mean(list(truth[name][cell.info.id].values())))
            assert value.value == pytest.approx(real, rel=most)
            assert value.low <= value.value <= value.high
            assert value.low * 0.98 <= real <= value.high * 1.02


def test_permits_beyond_those_measured_are_marked(predicted: Prediction) -> None:
    marks = {cell.info.permits: cell.beyond for cell in predicted.cells}
    assert marks == {3: "", 8: "", 40: "40 permits are more than the 12 that were measured"}


def test_each_measured_setting_is_left_out_once(predicted: Prediction) -> None:
    errors = predicted.errors["makespan"]
    assert [(one.cell, one.is_inside) for one in errors] == [
        ("async_2_patient_attempt", False),
        ("async_4_patient_attempt", True),
        ("async_12_patient_attempt", False),
    ]
    assert abs(errors[1].error) < 0.05
    assert errors[2].error < -0.1, "the cap is not known without the setting that met it"


def test_the_lengths_of_the_run_are_played_again(run: Records) -> None:
    seen = observe([run])
    lengths = recorded_lengths(seen)
    scenario = at_twin(run.run.scenario, (), "run")
    other = Profile.model_validate({
        "name": "other", "description": "d", "source": "s", "date": "2026-11-27",
        "ttft": {"median": 0.1}, "itl_a": 0.001, "answer_tokens": {"median": 5000},
    }, strict=False).as_dict()  # fmt: skip
    again = observe([play_at_twin(twin_scenario(scenario, other, run.run), 2, 9, lengths.of_trial)])

    def recorded(one: Observations) -> dict[tuple[object, ...], int]:
        rows = one.ok
        key = (one.repeat, one.workflow, one.phase, one.branch, one.call)
        named = zip(*(column[rows].tolist() for column in key), strict=True)
        return {
            (row[0], row[1], one.phases[row[2]], *row[3:]): tokens
            for row, tokens in zip(named, one.output[rows].tolist(), strict=True)
        }

    assert recorded(again) == recorded(seen)


def test_a_topic_that_the_run_has_not_gets_drawn_lengths_and_a_note(run: Records) -> None:
    found = predict([run], ["workflow.topics=['something else']"], bootstraps=1)
    assert found.notes == (
        "100.0% of the calls have no recorded length; theirs are drawn from the fitted "
        "distributions",
    )


def test_a_phase_that_was_not_recorded_is_refused(run: Records) -> None:
    changes = ["prompts=", "workflow={kind = 'agent', topics = ['tides']}"]
    with pytest.raises(InputError, match="its length would have to be invented"):
        predict([run], changes, bootstraps=1)


def test_the_same_seed_gives_the_same_prediction(run: Records) -> None:
    one, other = (predict([run], ["sweep.permits=[3]"], bootstraps=2) for _ in range(2))
    assert one.cells == other.cells
    assert predict([run], ["sweep.permits=[3]"], bootstraps=2, seed=2).cells != one.cells


def test_a_check_against_a_run_of_other_settings(run: Records, tmp_path: Path) -> None:
    other = read_columns(
        write_run(tmp_path, CAPPED, seed=8, permits=(3, 5), workflows=6, repeats=2)
    )
    checked = compare_with(predict([run], of=other, bootstraps=8), other)
    assert checked.quality == "good"
    makespan = checked.metrics[0]
    assert (makespan.metric, makespan.settings) == ("makespan", 2)
    assert makespan.median < 0.05
    assert makespan.covered == 1.0
    assert checked.weak == ()


def test_a_check_against_another_provider_is_poor_and_says_where(
    run: Records, tmp_path: Path
) -> None:
    slower = {
        **CAPPED,
        "itl_points": [
            {"requests": 1, "itl": "20ms"},
            {"requests": 4, "itl": "21ms"},
            {"requests": 6, "itl": "80ms"},
        ],
    }
    other = read_columns(write_run(tmp_path, slower, permits=(2, 3, 9), workflows=6))
    checked = compare_with(predict([run], of=other, bootstraps=4), other)
    assert checked.quality == "poor"
    assert ("permits 9", "makespan") in [(one.where, one.metric) for one in checked.weak]
    assert checked.metrics[0].covered < 1


def test_the_variance_of_a_trial_is_that_among_trials_with_equal_lengths() -> None:
    values = {0: 10.0, 1: 20.0, 2: 11.0, 3: 22.0}
    expected = np.mean([np.var(np.log(pair), ddof=1) for pair in ([10, 11], [20, 22])])
    assert trial_variance(metric("makespan"), values, 2) == pytest.approx(expected)
    assert trial_variance(metric("makespan"), {0: 1.0}, 1) == 0.0


def test_intervals_widen_with_few_settings() -> None:
    assert half_width(0.0, None) == 0.0
    assert half_width(1.0, None) == pytest.approx(1.96, abs=0.001)
    assert half_width(1.0, 3.0) == pytest.approx(3.182, abs=0.001)
    assert freedom_of(1.0, [(0.0, 5)]) is None
    assert freedom_of(1.0, [(1.0, 5)]) == pytest.approx(5)
    assert freedom_of(2.0, [(1.0, 5)]) == pytest.approx(20)
    assert freedom_of(2.0, [(1.0, 5), (1.0, 5)]) == pytest.approx(10)


def test_the_error_of_the_model_grows_with_the_distance_beyond_chance() -> None:
    left_out = [
        LeftOutSetting("a", 0.10, 0.001, True, 1.0), LeftOutSetting("b", -0.06, 0.001, True, 1.0)
    ]  # fmt: skip
    variance, freedom = model_variance(left_out, 0.5, False)
    # two settings without an error are counted besides
    assert variance == pytest.approx((0.10**2 + 0.06**2 - 0.002) / 4 * 0.25)
    assert freedom == 4
    assert model_variance([], 1.0, False) == (0.0, 0.0)
    near = [LeftOutSetting("a", 0.01, 0.001, True, 1.0)]
    assert model_variance(near, 1.0, False)[0] == 0.0
    assert model_variance(near, 1.0, True)[0] == pytest.approx(0.0001 / 3)
    assert distance(16, [8, 64]) == pytest.approx(math.log(2))
    assert distance(8, [8, 64]) == pytest.approx(math.log(1.25))


def test_the_chance_of_trials_is_no_error_of_a_fit() -> None:
    random = np.random.default_rng(3)
    noise, fit, each = 0.02, 0.01, []
    for _ in range(300):
        base = random.normal(0, noise)
        shifts = random.normal(0, fit, 30) + random.normal(0, noise, 30) - base
        each.append(fit_error(shifts, np.full(30, 2 * noise**2)))
    assert np.sqrt(np.median([one.variance for one in each])) < 1.6 * fit
    assert abs(np.mean([one.bias for one in each])) < 0.3 * noise
    apart = fit_error(np.array([0.1, -0.1]), np.zeros(2))
    assert apart.bias == 0.0
    assert apart.variance == pytest.approx(0.01)
    together = fit_error(np.array([0.1, 0.1]), np.zeros(2))
    assert together.bias == pytest.approx(0.1)
    assert together.variance == pytest.approx(0.05**2)
    assert fit_error(np.zeros(0), np.zeros(0)) == FitError(0.0, 0.0)


def test_trials_that_vary_more_than_at_the_twin_are_told() -> None:
    differences = [np.array([0.1, -0.1]), np.array([0.3, 0.1])]
    assert excess_variance([(each, 0.004) for each in differences]) == pytest.approx(0.016)
    by_chance = [(each, 0.012) for each in differences]  # 1.7 times as much, with two trials more
    assert excess_variance(by_chance) == 0.0
    assert excess_variance([(each, 0.04) for each in differences]) == 0.0
    assert excess_variance([(np.array([0.5]), 0.0)]) == 0.0


def test_permits_that_no_call_can_use_are_one_setting(run: Records) -> None:
    changes = ["sweep.permits=[6, 64, 256]", "sweep.retry=['openai-sdk', 'none']"]
    changes += ["load.in_flight=3"]  # of four calls at once
    found = predict([run], changes, bootstraps=1)
    assert [(one.info.permits, one.info.retry, bool(one.beyond)) for one in found.cells] == [
        (6, "openai-sdk", False),
        (6, "none", False),
        (64, "openai-sdk", False),
        (64, "none", False),
    ]
    assert found.notes == (
        "at most 12 requests are in flight at once, so more permits change nothing: 256 permits "
        "are the same setting as 64, and are not listed",
    )


def test_permits_that_calls_can_use_are_settings_of_their_own(run: Records) -> None:
    found = predict([run], ["sweep.permits=[23, 24]", "load.in_flight=6"], bootstraps=1)
    assert [one.info.permits for one in found.cells] == [23, 24]
    assert [bool(one.beyond) for one in found.cells] == [True, True]
    assert found.notes == ()


def test_limits_with_the_same_highest_value_are_settings_of_their_own(run: Records) -> None:
    changes = ["sweep.permits=['elastic', 'aimd', 256]", "load.in_flight=3"]
    found = predict([run], changes, bootstraps=1)
    assert [one.info.limiter for one in found.cells] == ["elastic", "aimd", ""]
    assert found.notes == ()


def test_a_hedge_can_use_a_second_permit_for_each_call(run: Records) -> None:
    hedge = [
        "retry.late={kind = 'hedge', after = '1s'}",
        "retry.hedged={kind = 'stack', layers = ['late', 'none']}",
        "sweep.retry=['hedged']",
    ]
    changes = [*hedge, "sweep.permits=[12, 24, 32]", "load.in_flight=3"]
    found = predict([run], changes, bootstraps=1)
    assert [one.info.permits for one in found.cells] == [12, 24]
    assert "at most 24 requests" in found.notes[0]


def test_each_step_of_a_prediction_is_told(run: Records) -> None:
    steps: list[str] = []
    predict([run], ["sweep.permits=[3, 5]"], bootstraps=2, on_step=steps.append)
    assert steps == [
        f"fitting {len(run.attempts):,} attempts", "predicting 2 settings",
        "intervals: fit 1 of 2", "intervals: fit 2 of 2",
        "errors: measured setting 1 of 3", "errors: measured setting 2 of 3",
        "errors: measured setting 3 of 3",
    ]  # fmt: skip
