"""The load of an open loop as it was: the offered rate, the lateness, and whether they matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from harness.analysis.compare import compare_runs
from harness.analysis.model import NO_ARRIVALS, Cell, Verdict
from harness.analysis.offered_load import arrivals_of, check_schedule, rate_of
from harness.analysis.summary import summarise
from harness.analysis.verdict import judge
from harness.engine.load import arrival_times
from harness.records.clock import SECOND
from harness.store.run_directory import Records
from tests.analysis.builders import (
    MS,
    by_cell,
    make_attempt,
    make_call,
    make_run,
    make_trial,
    make_workflow,
)

CELL = "async_2_none_attempt"
SYNC = "sync_1_none_attempt"
TAKES = 4 * SECOND
EACH_SECOND = range(0, 200 * SECOND, SECOND)


def on_time(_: int) -> int:
    return 0


def arriving(
    lateness: Callable[[int], int] = on_time,
    *,
    process: str = "constant",
    planned: Sequence[int] = EACH_SECOND,
    repeats: int = 1,
    scale: float = 1.0,
    takes: int = TAKES,
    cell: str = CELL,
    simulated: bool = True,
    **workflow: Any,
) -> Records:
    """Return an open loop; `lateness`: nanoseconds, by the number of the workflow."""
    rate = f'process = "{process}"\nper_second = {scale}'
    toml = f'[load.arrivals]\n{rate}\n[objective]\nminimise = "workflow_p95"'
    run = make_run(
        [cell], repeats, workflows=len(planned), extra_toml=toml, time_scale=scale,
        simulated=simulated,
    )  # fmt: skip
    workflows, calls, attempts, trials = [], [], [], []
    for repeat in range(repeats):
        mine = []
        for at, ready in enumerate(planned):
            started = ready + lateness(at)
            key = {"cell": cell, "repeat": repeat, "workflow": at}
            times = {"ready": ready, "started": started, "done": started + takes}
            mine.append(make_workflow(**key, **{**times, **workflow}))
            calls.append(make_call(**key, ready=started, done=started + takes))
            attempts.append(make_attempt(**key, ready=started, done=started + takes))
        end = max(one.done for one in mine)
        trials.append(make_trial(cell=cell, repeat=repeat, start=min(planned), end=end))
        workflows += mine
    return Records(run, attempts, calls, workflows, trials, None)


def cell_of(records: Records) -> Cell:
    (cell,) = summarise(records).cells
    return cell


def verdict_on(records: Records) -> Verdict:
    return judge(by_cell(records), None)


def test_a_rate_is_that_of_the_arrivals_after_the_first_one() -> None:
    assert rate_of(np.array([5, 5 + SECOND, 5 + 4 * SECOND])) == 0.5
    assert rate_of(np.array([], np.int64)) is None
    assert rate_of(np.array([5])) is None
    assert rate_of(np.array([5, 5])) is None


def test_arrivals_on_time_offer_the_configured_rate() -> None:
    cell = cell_of(arriving(repeats=3))
    assert cell.configured_workflows_per_s == 1.0
    for figure in (cell.planned_workflows_per_s, cell.offered_workflows_per_s):
        assert figure is not None
        assert (figure.value, figure.low, figure.high) == pytest.approx((1.0, 1.0, 1.0))
    late = cell.arrival_lateness_s
    assert (late.p50, late.p99, late.max) == (0.0, 0.0, 0.0)
    assert verdict_on(arriving()).arrivals == ""


def test_a_closed_loop_has_none_of_the_figures() -> None:
    run = make_run([CELL])
    records = Records(run, [], [make_call()], [make_workflow()], [make_trial()], None)
    cell = cell_of(records)
    assert cell.arrival_lateness_s is NO_ARRIVALS
    assert cell.configured_workflows_per_s is None
    assert cell.offered_over_planned is None
    written = msgspec.json.decode(msgspec.json.encode(cell))
    assert not [name for name in written if "offered" in name or "arrival" in name]
    assert check_schedule(by_cell(records)[0]) is None


def test_lateness_is_from_the_planned_arrival_to_the_start_over_all_repeats() -> None:
    late = cell_of(arriving(lambda at: (at % 100) * MS, repeats=2)).arrival_lateness_s
    assert late.p50 == pytest.approx(0.0495)
    assert late.p99 == pytest.approx(0.098, abs=0.001)
    assert late.max == 0.099


def test_a_rate_that_drifts_by_a_percent_is_found_with_its_figure_and_a_way_out() -> None:
    """Each arrival counts from the late one before it: 20 ms for each second."""
    found = verdict_on(arriving(lambda at: at * SECOND // 50))
    assert found.bottleneck == "client"
    assert found.limited_cells == (CELL,)
    assert found.arrivals == (
        f"The client did not keep the schedule of arrivals in {CELL}: 0.98 workflows a second "
        "arrived, 2.0 % fewer than the configured 1, and the 99th percentile of lateness is 3.94 "
        "s, 99 % of the median workflow latency of 4 s; set a lower load.arrivals.per_second, or "
        "use a less busy machine."
    )
    assert found.because[0] == (
        f"The 99th percentile of the lateness of arrivals is 3940 ms in {CELL}, above the limit of "
        "40 ms."
    )
    assert "is 2 % in" in found.because[1]
    assert "limit of 1 %" in found.because[1]


@pytest.mark.parametrize(("permille", "is_off"), [(9, False), (11, True)])
def test_the_limit_of_the_rate_is_one_percent(permille: int, is_off: bool) -> None:
    """With long workflows, the lateness itself does not matter."""
    records = arriving(lambda at: at * permille * MS, takes=10**6 * SECOND)
    assert bool(verdict_on(records).arrivals) is is_off
    if is_off:
        assert "lateness" not in verdict_on(records).arrivals


def test_constant_arrivals_are_compared_with_the_configured_rate() -> None:
    """So a schedule that drifts is found, although no workflow is late for it."""
    drifted = arriving(planned=[at * 1030 * MS for at in range(200)])
    found = verdict_on(drifted).arrivals
    assert "0.971 workflows a second arrived, 2.9 % fewer than the configured 1;" in found


def test_random_arrivals_are_compared_with_the_schedule_that_was_drawn() -> None:
    times = arrival_times("poisson", 1.0, 100, Random(3))
    planned = [round(at * SECOND) for at in times]
    cell = cell_of(arriving(process="poisson", planned=planned))
    assert cell.configured_workflows_per_s == 1.0
    assert cell.planned_workflows_per_s is not None
    assert cell.planned_workflows_per_s.value == pytest.approx(99 / (times[-1] - times[0]))
    assert abs(cell.planned_workflows_per_s.value - 1) > 0.02, "the draw is not the mean"
    assert cell.offered_over_planned is not None
    assert cell.offered_over_planned.value == 1.0
    assert verdict_on(arriving(process="poisson", planned=planned)).arrivals == ""
    late = verdict_on(
        arriving(lambda at: planned[at] // 20, process="poisson", planned=planned)
    ).arrivals
    assert "4.8 % fewer than the" in late
    assert "of the schedule that was drawn (Poisson, 1 on average)" in late


@pytest.mark.parametrize(("late", "is_late"), [(39, False), (41, True)])
def test_the_limit_of_lateness_is_a_percent_of_the_median_latency(late: int, is_late: bool) -> None:
    """Of the latency without the lateness, so that a slow client does not raise the limit."""
    found = verdict_on(arriving(lambda _: late * MS)).arrivals
    assert bool(found) is is_late
    if is_late:
        assert "lateness is 0.041 s, 1 % of the median workflow latency of 4 s" in found
        assert "arrived" not in found


def test_timers_that_are_late_by_a_millisecond_do_not_matter() -> None:
    soon = [at * 10 * MS for at in range(10)]
    quick: dict[str, Any] = {"planned": soon, "takes": 10 * MS, "scale": 100.0, "simulated": False}
    records = arriving(lambda at: MS * (at == 9), **quick)
    run = records.run
    run.scenario["load"]["arrivals"]["per_second"] = 100.0
    records = records._replace(run=msgspec.structs.replace(run, time_scale=1.0))
    check = check_schedule(by_cell(records)[0])
    assert check is not None
    assert -0.02 < check.rate_error < -0.01
    assert verdict_on(records).arrivals == ""


def test_figures_are_in_scenario_seconds() -> None:
    records = arriving(lambda at: at * 40 * MS, scale=0.01)
    found = verdict_on(records)
    assert "0.00962 workflows a scenario second arrived, 3.8 % fewer than the configured 0.01" in (
        found.arrivals
    )
    assert "lateness is 788 s" in found.arrivals
    assert "or a larger endpoint.time_scale" in found.arrivals


def test_large_figures_have_no_exponent() -> None:
    found = verdict_on(arriving(lambda at: at * 300 * SECOND)).arrivals
    assert "lateness is 59100 s, 1500000 % of the median workflow latency of 4 s" in found


def test_one_at_a_time_the_wait_for_the_workflow_before_is_not_the_clients() -> None:
    """Workflows of 4 s arrive each second: the queue is the setting's, and 5 ms the client's."""
    records = arriving(cell=SYNC)
    ends = 0
    queued = []
    for one in records.workflows:
        started = max(ends, one.ready) + 5 * MS
        ends = started + TAKES
        queued.append(msgspec.structs.replace(one, started=started, done=ends))
    trials = [msgspec.structs.replace(records.trials[0], end=ends)]
    records = records._replace(workflows=queued, trials=trials)
    (trial,) = arrivals_of(by_cell(records)[0]).values()
    assert set(trial.lateness.tolist()) == {5 * MS}
    cell = cell_of(records)
    assert cell.offered_over_planned is not None
    assert cell.offered_over_planned.value == pytest.approx(1.0)
    assert verdict_on(records).arrivals == ""


def test_an_interrupted_trial_has_no_rate() -> None:
    records = arriving(lambda at: at * SECOND)
    trials = [msgspec.structs.replace(one, interrupted=True) for one in records.trials]
    assert cell_of(records._replace(trials=trials)).offered_workflows_per_s is None
    assert verdict_on(records._replace(trials=trials)).arrivals == ""


def test_a_comparison_warns_of_a_run_whose_load_was_another() -> None:
    good, bad = arriving(), arriving(lambda at: at * SECOND // 50)
    for one, other, which in ((good, bad, "second"), (bad, good, "first")):
        (warning,) = [
            text for text in compare_runs(one, other).warnings if "schedule of arrivals" in text
        ]
        assert warning.startswith(f"in the {which} run, the client did not keep the schedule")
        assert not warning.endswith(".")
    assert not [text for text in compare_runs(good, good).warnings if "schedule" in text]
    changes = compare_runs(good, bad).cells[0].changes
    assert changes["offered_over_planned"].new == pytest.approx(1 / 1.02)
