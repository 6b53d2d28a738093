"""Cost of each retry policy, on the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.analysis.model import AttemptCounts, Figure, Summary, TokenCounts
from harness.analysis.summary import summarise
from harness.records.failures import FAILURES
from harness.report.columns import seconds_a_call
from harness.report.failures import failure_lines
from harness.report.terminal import render_summary
from harness.report.wording import short_count
from harness.store.run_directory import Records
from tests.analysis.played import Shape, make_records
from tests.report.summaries import make_cell, make_summary

IDS = tuple(
    f"{mode}_{retry}_attempt"
    for retry in ("none", "full-jitter")
    for mode in ("sync_1", "async_2", "async_8")
)


@pytest.fixture(scope="module")
def played() -> tuple[Summary, Records]:
    shape = Shape(failure_rate=0.2)
    records = make_records(IDS, 3, workflows=5, branches=3, shape=shape, time_scale=0.05)
    return summarise(records), records


def shown(summary: Summary) -> str:
    file = io.StringIO()
    render_summary(summary, Path("results/x"), Console(file=file, width=80))
    return file.getvalue()


def block(text: str, start: str) -> list[str]:
    """Return the lines from the one that begins so to the next empty one."""
    lines = text.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith(start))
    end = next((place for place in range(at, len(lines)) if not lines[place]), len(lines))
    return lines[at:end]


def test_policies_stand_under_one_another_with_what_each_cost() -> None:
    cells = [
        make_cell(f"async_8_{retry}_attempt", calls_lost=Figure(value=lost), wasted_usd=0.5,
                  tokens=TokenCounts(input=1, output=1, reasoning=0, cached=0, wasted=12_345))
        for retry, lost in (("none", 0.19), ("full-jitter", 0.0))
    ]  # fmt: skip
    rows = block(shown(make_summary(cells, time_scale=1.0)), "Cost of each retry policy")
    plain, patient = (row.removeprefix("*").split() for row in rows[-2:])
    assert plain[:4] == ["async", "8", "none", "150"]
    # amplification, lost, tokens, USD, makespan, permit wait and backoff a call (mean 1.05 s)
    assert plain[4:] == ["1.04", "19%", "12.3k", "0.500", "5.00", "0.263", "0.0525"]
    assert patient[5] == "0%"


def test_one_policy_alone_is_compared_with_nothing() -> None:
    assert "Cost of each retry policy" not in shown(make_summary(IDS[:3]))


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (9999, "9999"), (12_345, "12.3k"),
                                             (1_234_567, "1.23M")])  # fmt: skip
def test_a_count_is_written_in_five_characters(count: int, text: str) -> None:
    assert short_count(count) == text


def test_every_failure_that_was_seen_is_listed_with_its_advice_within_80_columns() -> None:
    outcomes = dict.fromkeys(list(FAILURES)[:6], 3) | {"ok": 10}
    counts = AttemptCounts(total=28, failed=18, by_outcome=outcomes, amplification=1.0)
    lines = list(failure_lines(make_summary([make_cell(attempts=counts)])))
    said = " ".join(" ".join(lines).split())
    for name in list(FAILURES)[:6]:
        assert name in said
        assert FAILURES[name].advice in said
    assert max(map(len, lines)) <= 80


def test_rare_failures_beyond_the_list_are_counted() -> None:
    outcomes = {name: 20 - at for at, name in enumerate(list(FAILURES)[:10])}
    counts = AttemptCounts(total=155, failed=155, by_outcome=outcomes, amplification=1.0)
    lines = list(failure_lines(make_summary([make_cell(attempts=counts)])))
    assert lines[-1] == "and 23 attempts of 2 rarer classes, see report.html"


def test_without_a_failure_there_is_no_table_of_them() -> None:
    counts = AttemptCounts(total=3, failed=0, by_outcome={"ok": 3}, amplification=1.0)
    assert list(failure_lines(make_summary([make_cell(attempts=counts)]))) == []


def test_waits_a_call_add_up_to_the_calls_own_times(played: tuple[Summary, Records]) -> None:
    summary, records = played
    for cell in summary.cells:
        waits = sum(a.permit_wait for a in records.attempts if a.cell == cell.id) / 1e9 / 0.05
        calls = sum(call.cell == cell.id for call in records.calls)
        assert seconds_a_call(cell, "permit_wait", summary) == pytest.approx(waits / calls)
