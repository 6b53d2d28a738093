"""What stands first in the report."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analysis.model import Figure, Recommendation, SettlesWith, WorkflowCounts
from harness.report.html.answer import AnswerSection, answer
from tests.analysis.played import make_records
from tests.report.html.reading import read
from tests.report.subjects import about, render_report
from tests.report.summaries import figure, make_cell, make_summary

SYNC = "sync_1_none_attempt"


def answered(*cells: Any, **fields: Any) -> AnswerSection:
    return answer(about(make_summary(cells, **fields)))


def test_each_mode_but_sync_has_its_best_cell_with_the_interval_async_first() -> None:
    said = answered(SYNC, "threads_4_none_attempt", "async_8_none_attempt", "async_2_none_attempt")
    assert [mode.mode for mode in said.modes] == ["async", "threads"]
    assert said.lead == (
        "Async with 2 permits ran the workflows 2.00 times as fast as sync, 95\u00a0% interval "
        "1.82 to 2.20.",
        "Threads with 4 permits ran the workflows 4.00 times as fast as sync, 95\u00a0% interval "
        "3.64 to 4.40.",
    )
    assert said.modes[1].figure == "4.00×"


def test_a_cell_that_drops_work_is_not_praised_before_one_that_does_not() -> None:
    lossy = WorkflowCounts(started=24, ok=3, degraded=0, failed=21)
    fast = make_cell("async_8_none_attempt", workflows=lossy)
    none = Recommendation(
        state="open", objective="makespan", because=(),
    )  # fmt: skip
    said = answered(SYNC, "async_2_none_attempt", fast, recommendation=none)
    assert said.modes[0].setting == "async with 2 permits"
    (alone,) = answered(SYNC, fast, recommendation=none).lead
    assert alone.endswith("(3 of 24 workflows ok).")


def test_a_mode_in_which_nothing_ended_ok_bought_nothing_however_fast_it_was() -> None:
    lost = WorkflowCounts(started=24, ok=0, degraded=0, failed=24)
    dead = make_cell("async_8_none_attempt", workflows=lost, success_rate=Figure(value=0.0))
    said = answered(SYNC, "threads_2_none_attempt", dead)
    assert said.lead[0] == "Async with 8 permits: no workflow ended ok."
    assert (said.modes[0].figure, said.modes[0].unit) == ("—", "no workflow ended ok")


def test_every_permit_count_of_the_same_policy_is_a_step() -> None:
    said = answered(
        SYNC, "async_2_none_attempt", "async_8_full-jitter_attempt", "async_16_none_attempt"
    )
    steps = [(step.permits, step.text, step.best) for step in said.modes[0].steps]
    assert steps == [(2, "2.00×", False), (16, "16.0×", True)]


@pytest.mark.parametrize(
    ("speedup", "said"),
    [
        (Figure(value=2.0, low=1.5, high=2.5), "above 1 (paired over 3 repeats): faster"),
        (Figure(value=0.5, low=0.2, high=0.9), "below 1 (paired over 3 repeats): slower"),
        (Figure(value=1.1, low=0.9, high=1.4), "no significant difference from sync"),
        (Figure(value=2.0), "can be due to chance"),
        (None, "There is no sync cell"),
    ],
)
def test_how_sure_a_speed_up_is_follows_from_its_interval(
    speedup: Figure | None, said: str
) -> None:
    cell = make_cell("async_2_none_attempt", speedup_over_sync=speedup)
    assert said in answered(SYNC, cell).modes[0].sure


def test_without_sync_the_answer_is_a_rate() -> None:
    cell = make_cell("async_2_none_attempt", speedup_over_sync=None)
    said = answered(cell)
    assert said.lead == ("Async with 2 permits ended 1.20 (1.09–1.32) workflows a minute.",)
    assert (said.modes[0].figure, said.modes[0].unit) == ("1.20", "workflows a minute")


def test_a_missing_proof_is_named_and_cells_are_named_as_the_report_does() -> None:
    advice = Recommendation(
        state="leading", candidate="async_2_none_attempt", objective="workflow_p95",
        lead_over_next=figure(1.01), because=("async_2_none_attempt has the smallest p95.",),
        settles_with=SettlesWith(missing="lead", repeats=2, workflows=32),
    )  # fmt: skip
    summary = make_summary([SYNC, "async_2_none_attempt"], recommendation=advice)
    records = make_records([SYNC, "async_2_none_attempt"], 1)
    (card,) = read(render_report(summary, records)).every("article", class_="card advice")
    for said in (
        "Leading candidate for the least workflow p95", "async with 2 permits",
        "Not proven yet: its lead.",
        "async 2 has the smallest p95.",
    ):  # fmt: skip
        assert said in card.text


def test_warnings_stand_in_the_answer_as_sentences() -> None:
    (warning,) = answered(SYNC, "async_2_none_attempt", status="partial").warnings
    assert warning.startswith("The run is partial")
