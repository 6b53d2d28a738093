"""What stands first in the report."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analysis.model import (
    Figure,
    Recommendation,
    Requirement,
    SettlesWith,
    WorkflowCounts,
)
from harness.report.answer_text import run_answer
from harness.report.html.answer import MOST_WARNINGS, AnswerSection, answer
from harness.report.html.page import render_report as render_page
from tests.analysis.played import make_records
from tests.report.html.reading import Element, read
from tests.report.subjects import about, render_report
from tests.report.summaries import figure, make_cell, make_summary

SYNC, TWO, EIGHT = "sync_1_none_attempt", "async_2_none_attempt", "async_8_none_attempt"
LOST = WorkflowCounts(started=24, ok=0, degraded=0, failed=24)


def answered(*cells: Any, **fields: Any) -> AnswerSection:
    return answer(about(make_summary(cells, **fields)))


def section_of(*cells: Any, **fields: Any) -> Element:
    summary = make_summary(cells, **fields)
    page = render_page(about(summary, make_records([SYNC, TWO], 1)), {}, None, None)
    return read(page).one("section", id="answer")


def test_the_page_begins_with_the_sentences_of_the_terminal() -> None:
    summary = make_summary([SYNC, TWO, EIGHT])
    found, said = run_answer(summary), answer(about(summary))
    assert (said.sentence, said.reason) == (found.sentence, found.reason)
    first, *_ = section_of(SYNC, TWO, EIGHT).every("p", class_="lead")
    assert first.text == found.sentence


def test_every_setting_has_a_row_the_recommended_one_first_and_losers_last() -> None:
    dead = make_cell(
        EIGHT, workflows=LOST, success_rate=Figure(value=0.0), slo="broken",
        goodput_workflows_per_s=Figure(value=0.0),
    )  # fmt: skip
    advice = Recommendation(
        state="proven", cell=TWO, candidate=TWO, objective="makespan", because=()
    )
    table = answered(SYNC, dead, TWO, recommendation=advice).settings
    assert table is not None
    assert [row.head.text for row in table.rows] == ["async 2", "sync", "async 8"]
    assert [row.marked for row in table.rows] == [True, False, False]
    assert [row.values[-1].text for row in table.rows] == [
        "recommended", "", "loses over 5 of 100 more than the best"
    ]  # fmt: skip
    heads = [" ".join(column.head.split()) for column in table.shown]
    assert [*heads[:3], heads[-1]] == ["setting", "goodput a minute", "workflows kept", "remark"]


@pytest.mark.parametrize(
    ("slo", "remark"),
    [
        (Requirement(success_rate=0.9), "keeps less than 90\u00a0%"),
        (
            Requirement(success_rate=0.995, workflow_latency_s=1.5),
            "keeps less than 99.5\u00a0% within 30.0 s",
        ),
        (Requirement(success_margin=0.02), "loses over 2 of 100 more than the best"),
    ],
)
def test_an_excluded_setting_is_marked_with_the_reason(slo: Requirement, remark: str) -> None:
    table = answered(SYNC, make_cell(EIGHT, slo="broken"), TWO, slo=slo).settings
    assert table is not None
    remarks = {row.head.text: row.values[-1].text for row in table.rows}
    assert remarks["async 8"] == remark


def test_a_setting_that_was_dropped_is_marked_with_its_repeats() -> None:
    table = answered(SYNC, make_cell(EIGHT, dropped_after=3), TWO).settings
    assert table is not None
    remarks = {row.head.text: row.values[-1].text for row in table.rows}
    assert remarks["async 8"] == "dropped after 3 repeats"


def test_without_sync_no_column_speaks_of_sync() -> None:
    cells = [make_cell(name, speedup_over_sync=None) for name in (TWO, EIGHT)]
    table = answered(*cells).settings
    assert table is not None
    assert not [column.head for column in table.columns if "sync" in column.head]


def test_units_are_documented_below_the_table() -> None:
    said = section_of(SYNC, TWO).one("p", class_="note").text
    for unit in ("goodput: workflows that succeeded", "s: a scenario second", "intervals"):
        assert unit in said


def test_a_missing_proof_is_named_and_cells_are_named_as_the_report_does() -> None:
    advice = Recommendation(
        state="leading", candidate="async_2_none_attempt", objective="workflow_p95",
        lead_over_next=figure(1.01), because=("async_2_none_attempt has the smallest p95.",),
        settles_with=SettlesWith(missing="lead", max_repeats=5, workflows=32),
    )  # fmt: skip
    summary = make_summary([SYNC, "async_2_none_attempt"], recommendation=advice)
    records = make_records([SYNC, "async_2_none_attempt"], 1)
    section = read(render_report(summary, records)).one("section", id="answer")
    for said in (
        "Leading candidate for the least workflow p95: async with 2 permits",
        "Not proven yet: its lead.",
        "async 2 has the smallest p95.",
    ):
        assert said in section.text


def test_warnings_stand_in_the_answer_as_sentences_and_only_two_are_unfolded() -> None:
    once = [make_cell(name, repeats=1) for name in (SYNC, TWO)]
    lossy = make_cell(EIGHT, repeats=1, workflows=LOST, success_rate=Figure(value=0.0))
    said = answered(*once, lossy, status="partial")
    assert said.warnings[0].startswith("The run is partial")
    assert len(said.warnings) == MOST_WARNINGS
    assert said.more_warnings
