"""What assertions say: surely beyond a limit, too few workflows to tell, and no value at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from harness.analysis.model import Figure, Summary
from harness.library import Result
from harness.records.errors import InputError
from harness.records.schema import Stop
from harness.testing.checked_run import CheckedRun
from tests.report.summaries import make_cell, make_summary

FAST, SLOW = "async_8_none_attempt", "async_2_none_attempt"
KEPT = "the run is kept in there"


class GivenResult:
    """A result with a summary that is given."""

    directory = Path("there")

    def __init__(self, summary: Summary) -> None:
        self.summary = summary


def run_with(makespan: Figure | None, **fields: Any) -> CheckedRun:
    """Return a run of two settings, of which the recommended one has this makespan."""
    cells = [make_cell(SLOW, makespan_s=Figure(value=90.0)), make_cell(FAST, makespan_s=makespan)]
    summary = make_summary(cells, **({"time_scale": 1.0, "simulated": False} | fields))
    return CheckedRun(cast(Result, GivenResult(summary)), KEPT)


MEASURED = Figure(value=13.2, low=12.6, high=13.9)


def failure(run: CheckedRun, limit: float, **options: Any) -> str:
    with pytest.raises(AssertionError) as found:
        run.assert_at_most("makespan", limit, **options)
    return str(found.value)


def test_surely_above() -> None:
    workflows = make_cell(FAST).workflows.started
    assert failure(run_with(MEASURED), 12.0) == (
        f"makespan of permits=8 is 13.2 s (95 % interval 12.6 to 13.9, {workflows} workflows), "
        f"above 12 s; {KEPT}"
    )


@pytest.mark.parametrize(
    ("limit", "factor"),
    [(13.0, (0.6 / 0.2) ** 2), (13.5, (0.7 / 0.3) ** 2)],
    ids=["the estimate is above the limit", "below"],
)
def test_too_few_workflows_to_tell_and_how_many_are_needed(limit: float, factor: float) -> None:
    run = run_with(MEASURED)
    said = failure(run, limit)
    assert f"too few workflows to tell whether it is above {limit:g} s; about " in said
    needed = int(said.partition("; about ")[2].partition(" are needed")[0])
    cell = make_cell(FAST)
    assert needed == pytest.approx(cell.workflows.started * factor, abs=1)
    run.assert_at_most("makespan", limit, proven=False)


@pytest.mark.parametrize("limit", [13.9, 14.0])
def test_a_limit_that_the_whole_interval_keeps(limit: float) -> None:
    run_with(MEASURED).assert_at_most("makespan", limit)


def test_a_lower_limit_is_the_mirror_of_an_upper_one() -> None:
    run = run_with(MEASURED)
    run.assert_at_least("makespan", 12.6)
    with pytest.raises(AssertionError, match="below 14 s"):
        run.assert_at_least("makespan", 14.0)
    with pytest.raises(AssertionError, match="too few workflows to tell whether it is below 13 s"):
        run.assert_at_least("makespan", 13.0)


def test_an_estimate_without_an_interval_proves_nothing() -> None:
    run = run_with(Figure(value=13.2))
    assert "too few repeats to tell whether it is above 20 s" in failure(run, 20.0)
    run.assert_at_most("makespan", 20.0, proven=False)
    assert "too few repeats" in failure(run, 12.0, proven=False)


def test_scenario_seconds_and_every_setting_that_is_meant() -> None:
    run = run_with(Figure(value=1.32, low=1.26, high=1.39), time_scale=0.1, simulated=True)
    assert ", simulated), above 12 s" in failure(run, 12.0)
    assert failure(run, 12.0, retry="none").count("makespan of permits=") == 2
    found = run.figure("makespan", permits=8)
    assert found is not None
    assert found.high == pytest.approx(13.9)


def test_counts_are_compared_as_they_are() -> None:
    run = run_with(MEASURED)
    total = make_cell(FAST).attempts.total
    run.assert_at_most("attempts.total", total)
    with pytest.raises(AssertionError, match=rf"attempts of permits=8 is {total} .*, above"):
        run.assert_at_most("attempts.total", total - 1)


def test_what_is_not_known_is_no_success_and_a_cost_names_the_model() -> None:
    run = run_with(None, unpriced=("m",))
    assert "is not known: " in failure(run, 1e9)
    with pytest.raises(AssertionError, match=r"no price for m; give \[endpoint.price\]"):
        run.assert_at_most("cost_usd", 1.0)


def test_a_partial_run_proves_nothing() -> None:
    stopped = Stop(by="budget", because="budget.attempts = 20 leaves no room")
    run = run_with(MEASURED, status="partial", stopped=stopped)
    assert "the run is partial: budget.attempts = 20 leaves no room; " in failure(run, 1e9)


@pytest.mark.parametrize(
    ("metric", "settings", "says"),
    [
        ("makespann", {}, "did you mean 'makespan'"),
        ("workflow_latency_s", {}, r"name a part of it, such as workflow_latency_s\.p95"),
        ("makespan", {"permits": 3}, "no setting with permits=3; it has permits=2; permits=8"),
    ],
)
def test_a_mistake_names_what_there_is(metric: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        run_with(MEASURED).assert_at_most(metric, 1.0, **settings)
