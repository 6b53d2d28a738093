"""What is cut off an open loop before it is measured, and that a batch is left whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.cells import MeasuredCell
from harness.analysis.compare import compare_runs
from harness.analysis.metrics import compared_metrics
from harness.analysis.summary import summarise
from harness.analysis.warmup import mser5
from harness.records.clock import SECOND
from harness.store.run_directory import Records
from tests.analysis.builders import by_cell, make_call, make_run, make_trial, make_workflow

OPEN = """
[load.arrivals]
process = "constant"
per_second = 1.0
[objective]
minimise = "workflow_p95"
"""
CELL = "async_2_none_attempt"


def slowly(values: list[float]) -> int:
    """MSER-5 as its paper writes it, without any shortcut."""
    n = len(values) // 5
    means = [sum(values[5 * at : 5 * at + 5]) / 5 for at in range(n)]

    def error(d: int) -> float:
        rest = means[d:]
        middle = sum(rest) / len(rest)
        return sum((value - middle) ** 2 for value in rest) / len(rest) ** 2

    return min(range(n // 2 + 1), key=error) * 5


@given(st.lists(st.integers(1, 1000), min_size=50, max_size=120))
def test_the_cut_is_the_one_of_the_paper(values: list[int]) -> None:
    floats = [float(value) for value in values]
    assert mser5(floats) == slowly(floats)


def test_a_ramp_at_the_beginning_is_cut_and_a_steady_series_hardly() -> None:
    random = np.random.default_rng(3)
    steady = 10 + random.normal(size=300)
    ramp = np.concatenate([np.linspace(0, 10, 40), steady])
    assert 25 <= mser5(ramp.tolist()) <= 60
    cuts = [mser5((10 + random.normal(size=300)).tolist()) for _ in range(200)]
    assert np.median(cuts) <= 30


@pytest.mark.parametrize("latency", [123_456_789_012.0, 98_765_432_109.7, 0.1])
@pytest.mark.parametrize("count", [50, 100, 1000])
def test_equal_latencies_have_no_warm_up(latency: float, count: int) -> None:
    assert mser5([latency] * count) == 0


def test_a_short_series_is_left_whole() -> None:
    assert mser5([100.0] * 10 + [1.0] * 39) == 0


def records_of(latencies: list[float], extra: str) -> Records:
    run = make_run([CELL], workflows=len(latencies), extra_toml=extra)
    if extra:
        load = run.scenario["load"] | {"arrivals": {"process": "constant", "per_second": 1.0}}
        run.scenario["load"] = load
    workflows, calls = [], []
    for at, seconds in enumerate(latencies):
        ready, done = at * SECOND, at * SECOND + round(seconds * SECOND)
        workflows.append(make_workflow(workflow=at, ready=ready, started=ready, done=done))
        calls.append(make_call(workflow=at, ready=ready, done=done))
    end = max(workflow.done for workflow in workflows)
    return Records(run, [], calls, workflows, [make_trial(end=end)], None)


def test_an_open_loop_is_measured_without_its_warm_up_but_every_workflow_is_counted() -> None:
    records = records_of([30.0] * 20 + [3.0] * 80, "[objective]\nminimise = 'workflow_p95'")
    (cell,) = summarise(records).cells
    assert cell.warm_up == 20
    assert (cell.workflows.started, cell.workflow_latency_s.n, cell.call_latency_s.n) == (
        100, 80, 80,
    )  # fmt: skip
    assert cell.workflow_latency_s.p95 is not None
    assert cell.workflow_latency_s.p95.value == 3.0
    (of_records,) = by_cell(records)
    p95 = compared_metrics()["workflow_p95"].by_repeat(MeasuredCell(of_records))
    assert p95 == {0: 3.0}


def test_what_is_left_after_the_warm_up_must_carry_the_percentile_that_is_compared() -> None:
    records = records_of([30.0] * 20 + [3.0] * 60, "[objective]\nminimise = 'workflow_p95'")
    summary = summarise(records)
    (cell,) = summary.cells
    assert (cell.workflow_latency_s.n, cell.workflow_latency_s.p95) == (60, None)
    assert summary.recommendation.cell is None
    (compared,) = compare_runs(records, records).cells
    assert "workflow_p95" not in compared.changes
    assert "workflow_p50" in compared.changes


def test_a_batch_is_never_cut() -> None:
    (cell,) = summarise(records_of([30.0] * 20 + [3.0] * 80, "")).cells
    assert (cell.warm_up, cell.workflow_latency_s.n) == (0, 100)


def test_the_bound_of_an_open_loop_counts_from_the_arrivals() -> None:
    (cell,) = summarise(records_of([3.0] * 60, "[objective]\nminimise = 'workflow_p95'")).cells
    # No attempt was recorded, so the service times are zero and the last arrival is the end.
    assert cell.critical_path_bound_s == pytest.approx(59.0)
