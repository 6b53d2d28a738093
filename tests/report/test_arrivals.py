"""What every view says of the load of an open loop."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from harness.analysis.model import Cell, Figure, Lateness, Summary
from harness.analysis.summary import summarise
from harness.report.advisories import warnings_of
from harness.report.arrivals_text import arrivals_text
from harness.report.first_screen import LINES, first_screen
from harness.report.terminal import render_summary
from tests.analysis.builders import MS
from tests.analysis.played import make_records
from tests.analysis.test_offered_load import arriving
from tests.report.subjects import render_report
from tests.report.summaries import make_cell, make_summary

OFF = arriving(lambda at: at * 20 * MS)
KEPT = arriving()


def open_cell(permits: int = 8, *, offered: float = 0.2, **fields: Any) -> Cell:
    plain: dict[str, Any] = {
        "configured_workflows_per_s": 0.2, "planned_workflows_per_s": Figure(value=0.2),
        "offered_workflows_per_s": Figure(value=offered),
        "offered_over_planned": Figure(value=offered / 0.2),
        "arrival_lateness_s": Lateness(p50=0.001, p99=0.02, max=0.1),
    }  # fmt: skip
    return make_cell(f"async_{permits}_none_attempt", **(plain | fields))


def plain_summary(*cells: Cell, **fields: Any) -> Summary:
    return make_summary(cells, **({"time_scale": 1.0} | fields))


def test_a_sentence_has_the_offered_and_the_configured_rate_and_the_lateness() -> None:
    assert arrivals_text(plain_summary(open_cell())) == (
        "Arrivals a minute: 12.0, configured 12.0; late by 0.00100 s (median), 0.0200 s (p99), "
        "0.100 s (max)."
    )


def test_of_a_poisson_schedule_it_has_the_rate_that_was_drawn() -> None:
    drawn = open_cell(
        offered=0.25, planned_workflows_per_s=Figure(value=0.25),
        arrival_lateness_s=Lateness(p50=0.0, p99=0.0, max=0.0),
    )  # fmt: skip
    assert arrivals_text(plain_summary(drawn)) == (
        "Arrivals a minute: 15.0, planned 15.0 (Poisson, configured 12.0); none late."
    )


def test_of_several_settings_it_has_the_range_and_the_latest() -> None:
    late = Lateness(p50=0.5, p99=1.0, max=2.0)
    cells = [open_cell(8), open_cell(16, offered=0.19, arrival_lateness_s=late)]
    assert arrivals_text(plain_summary(*cells, time_scale=0.5)) == (
        "Arrivals a minute: 5.70 to 6.00, configured 6.00; late by 1.00 s (median), 2.00 s (p99), "
        "4.00 s (max) in the worst setting."
    )


def test_a_closed_loop_has_no_sentence_and_no_table(tmp_path: Path) -> None:
    summary = make_summary(["async_8_none_attempt"])
    assert arrivals_text(summary) == ""
    assert "Arrivals" not in text_of(summary, tmp_path)


@pytest.mark.parametrize("width", [80, 120])
def test_the_first_screen_has_the_sentence_and_first_the_warning(
    width: int, tmp_path: Path
) -> None:
    summary = summarise(OFF)
    lines = [str(line) for line in first_screen(summary, tmp_path, width)]
    assert len(lines) <= LINES
    assert max(map(len, lines[:-4])) <= width
    assert any(
        line.startswith("Arrivals a minute: 58.8, configured 60.0; late by") for line in lines
    )
    (first, *_) = [line for line in lines if line.startswith("Note:")]
    assert first.startswith(
        "Note: the client did not keep the schedule of arrivals in async 2: 0.98"
    )


def test_the_warning_stands_for_the_one_about_the_client() -> None:
    summary = summarise(OFF)
    assert summary.verdict.bottleneck == "client"
    assert [text for text in warnings_of(summary) if "schedule of arrivals" in text]
    assert not [text for text in warnings_of(summary) if "limited some of the results" in text]
    simulator = replace(summary.verdict, bottleneck="simulator")
    both = warnings_of(replace(summary, verdict=simulator))
    assert [text for text in both if "the simulator limited some of the results" in text]
    assert not [text for text in warnings_of(summarise(KEPT)) if "schedule" in text]


def test_the_terminal_has_a_table_of_each_setting(tmp_path: Path) -> None:
    said = text_of(summarise(OFF), tmp_path)
    assert max(map(len, said.splitlines()[:-2])) <= 80
    table = said.split("Arrivals of the open loop\n")[1].splitlines()
    assert table[1].split()[:2] == ["mode", "mits"]
    assert table[2].split()[-7:] == ["60.0", "60.0", "58.8", "0.980", "1.99", "3.94", "3.98"]


def test_the_report_has_sentence_table_definitions_and_warning() -> None:
    page = render_report(summarise(OFF), OFF)
    assert "Arrivals a minute: 58.8, configured 60.0" in page
    assert "Arrivals of the open loop" in page
    assert "offered_workflows_per_minute" in page
    assert "lateness of arrivals" in page
    assert "The client did not keep the schedule of arrivals in async 2" in page
    closed = make_records(["async_8_none_attempt"])
    assert "Arrivals of the open loop" not in render_report(summarise(closed), closed)


def text_of(summary: Summary, directory: Path) -> str:
    file = io.StringIO()
    render_summary(summary, directory, Console(file=file, width=80))
    return file.getvalue()
