"""What each retry policy cost: on the terminal, in the report and in the plots."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import msgspec
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from rich.console import Console

from harness.analysis.model import AttemptCounts, Figure, Summary, TokenCounts
from harness.analysis.summary import summarise
from harness.records.failures import FAILURES
from harness.report.html.policies import attempts_chart
from harness.report.tables import subject
from harness.report.plots.attempts import attempts_over_time, outages_until, seen_over_time
from harness.report.plots.ecdf import band, latency_ecdf
from harness.report.plots.heat_map import heat_map
from harness.report.plots.permit_lanes import permit_lanes
from harness.report.plots.permits import knee, lines_of, permits
from harness.report.plots.repeats import repeats
from harness.report.plots.style import RC
from harness.report.policy_table import failure_lines, seconds_a_call
from harness.report.terminal import render_summary
from harness.report.wording import short_count
from harness.store.run_directory import Records
from tests.analysis.played import Shape, make_records
from tests.report.summaries import figure, make_cell, make_summary

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


@pytest.fixture(autouse=True)
def _style() -> Any:
    with mpl.rc_context(RC):
        yield


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
    rows = block(shown(make_summary(cells, time_scale=1.0)), "What each retry policy cost")
    plain, patient = (row.removeprefix("*").split() for row in rows[-2:])
    assert plain[:4] == ["async", "8", "none", "150"]
    # amplification, lost, tokens, USD, makespan, permit wait and backoff a call (mean 1.05 s)
    assert plain[4:] == ["1.04", "19%", "12.3k", "0.500", "5.00", "0.263", "0.0525"]
    assert patient[5] == "0%"


def test_one_policy_alone_is_compared_with_nothing() -> None:
    assert "What each retry policy cost" not in shown(make_summary(IDS[:3]))


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


def test_the_heat_map_has_every_pair_of_permits_and_policy(played: tuple[Summary, Records]) -> None:
    found = heat_map(played[0])
    assert found is not None
    goodput, lost = found.axes
    assert len(goodput.texts) == len(lost.texts) == 4
    assert [tick.get_text() for tick in goodput.get_yticklabels()] == ["none", "full-jitter"]
    assert [tick.get_text() for tick in goodput.get_xticklabels()] == ["2", "8"]
    assert {text.get_text() for text in lost.texts[2:]} == {"0\u00a0%"}


def test_nothing_crossed_gives_no_heat_map() -> None:
    assert heat_map(make_summary(IDS[:3])) is None


def test_attempts_over_time_show_every_policy_at_the_same_permits(
    played: tuple[Summary, Records],
) -> None:
    summary, records = played
    seen = seen_over_time(summary, records)
    assert [one.cell.id for one in seen] == ["async_8_none_attempt", "async_8_full-jitter_attempt"]
    found = attempts_over_time(summary, records)
    assert found is not None
    for one, axes in zip(seen, found.axes, strict=True):
        mine = [a for a in records.attempts if (a.cell, a.repeat) == (one.cell.id, one.repeat)]
        heights = sum(patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle))
        assert heights == len(mine) == one.flow.total


def test_the_provider_s_outages_are_shaded_where_they_were(
    played: tuple[Summary, Records],
) -> None:
    summary, records = played
    outage = {"start": 2.0, "duration": 1.0, "every": 10.0}
    profile = {"faults": [{"outage": outage}, {"outage": None}]}
    known = records._replace(run=msgspec.structs.replace(records.run, profile=profile))
    assert outages_until(known, 12.5) == [(2.0, 3.0), (12.0, 12.5)]
    assert outages_until(records, 12.5) == []
    found = attempts_over_time(summary, known)
    assert found is not None
    shaded = [patch for patch in found.axes[0].patches if patch.get_label() == "outage"]
    assert shaded
    chart = attempts_chart(subject(summary), known)
    assert chart is not None
    assert chart.legend[-1].text == "the provider is out"


def test_where_nothing_failed_there_is_no_outage_to_show() -> None:
    records = make_records(IDS[:2], 1)
    assert attempts_over_time(summarise(records), records) is None


def test_the_ecdf_reaches_one_at_the_longest_latency(played: tuple[Summary, Records]) -> None:
    summary, records = played
    found = latency_ecdf(summary, records)
    assert found is not None
    for line in found.axes[0].get_lines():
        assert np.asarray(line.get_ydata())[-1] == 1
    assert band(100) == pytest.approx(0.1358, abs=1e-4)


def test_the_knee_is_the_fewest_permits_with_almost_all_of_the_throughput() -> None:
    rates = {2: 1.0, 4: 1.95, 8: 2.0, 16: 1.2}
    cells = [
        make_cell(f"async_{count}_none_attempt", throughput=make_cell().throughput.__class__(
            workflows_per_s=figure(rate), calls_per_s=None)) for count, rate in rates.items()
    ]  # fmt: skip
    summary = make_summary(cells)
    (line,) = lines_of(summary)
    found = knee(line)
    assert found is not None
    assert found.permits == 4
    drawn = permits(summary)
    assert drawn is not None
    rings = [one for one in drawn.axes[0].get_lines() if str(one.get_label()).startswith("knee")]
    assert [one.get_label() for one in rings] == ["knee async_4_none_attempt"]


def test_repeats_and_permit_lanes_are_drawn_from_whole_trials(
    played: tuple[Summary, Records],
) -> None:
    summary, records = played
    found = repeats(summary, records)
    assert found is not None
    dots = [one for one in found.axes[0].get_lines() if str(one.get_label()).startswith("repeat")]
    assert len(dots) == len(records.trials)
    assert permit_lanes(summary, records) is not None
    assert repeats(summary, records._replace(trials=[])) is None
    assert permit_lanes(summary, records._replace(trials=[])) is None
