"""Waterfalls: which workflows, which rows, and that each fits the terminal and loses nothing."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from harness.analysis.workflow_failures import REJECTED
from harness.records import ids
from harness.records.clock import SECOND
from harness.records.errors import InputError
from harness.records.keys import display_key
from harness.records.schema import Tokens
from harness.report.charts.model import LOOKS
from harness.report.path_text import (
    failure_line,
    in_scenario_seconds,
    path_sentences,
    path_summaries,
    render_paths,
)
from harness.report.waterfall import Waterfalls, find_workflow, slowest
from harness.report.waterfall_text import render_waterfall
from harness.store.run_directory import Records
from tests.analysis.builders import make_attempt, make_call, make_run, make_trial, make_workflow
from tests.analysis.played import Shape, make_records
from tests.telemetry.example import CELL, KEY, example

CELLS = ("sync_1_full-jitter_attempt", "async_2_full-jitter_call", "async_8_none_attempt")


@pytest.fixture(scope="module")
def records() -> Records:
    return make_records(
        CELLS, 2, workflows=4, branches=5, shape=Shape(failure_rate=0.2), time_scale=0.01
    )


def drawn(records: Records, key: str | None = None, whole: bool = False) -> str:
    """Return the picture of one workflow: the slowest, or the one that is named."""
    waterfalls = Waterfalls(records)
    workflow = (
        find_workflow(lambda: [records], records.run.run_id, key)
        if key
        else waterfalls.counted()[0]
    )
    said = io.StringIO()
    console = Console(file=said, width=80)
    render_waterfall(waterfalls.of(workflow), records.run, console, None, whole)
    return said.getvalue()


# Which workflows


def test_the_slowest_come_first_and_the_failed_before_the_degraded(records: Records) -> None:
    waterfalls = Waterfalls(records)
    latencies = [one.done - one.ready for one in waterfalls.counted()]
    assert latencies == sorted(latencies, reverse=True)
    assert len(latencies) == len(records.workflows)
    outcomes = [one.outcome for one in waterfalls.failed()]
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome != "failed")
    assert set(outcomes) == {"failed", "degraded"}


def test_workflows_whose_result_was_rejected_are_found_and_say_why(records: Records) -> None:
    fine = next(one for one in records.workflows if one.outcome == "ok")
    rejected = msgspec.structs.replace(fine, ok=False)
    changed = records._replace(
        workflows=[rejected if one is fine else one for one in records.workflows]
    )
    assert rejected in slowest([changed], failed=True)
    assert fine not in slowest([records], failed=True)
    assert REJECTED in drawn(changed, display_key(fine))
    assert REJECTED not in drawn(records, display_key(fine))


def test_a_workflow_without_calls_says_so(records: Records) -> None:
    without = records._replace(attempts=[], calls=[])
    assert drawn(without).endswith("It made no calls.\n")


def test_a_workflow_is_named_by_its_key_or_by_its_trace(records: Records) -> None:
    waterfalls = Waterfalls(records)
    for workflow in records.workflows:
        trace = ids.workflow_trace(records.run.run_id, workflow)
        for name in (display_key(workflow), f"{display_key(workflow)}/1", trace, trace[:12]):
            assert find_workflow(lambda: [records], records.run.run_id, name) == workflow
        assert waterfalls.of(workflow).trace_id == trace


@pytest.mark.parametrize(
    "name", ["", "x/1/1", "async_8_none_attempt/0/0", "async_8_none_attempt", "abcdef", "0" * 32]
)
def test_a_name_that_nothing_has_is_refused_with_an_example(records: Records, name: str) -> None:
    with pytest.raises(InputError, match=r"no workflow of this run; .* for example \w+"):
        find_workflow(lambda: [records], records.run.run_id, name)


def test_the_key_counts_from_one_as_the_titles_do(records: Records) -> None:
    first = min(records.workflows, key=lambda one: (one.cell, one.repeat, one.workflow))
    assert display_key(first) == f"{first.cell}/1/1"
    assert (first.repeat, first.workflow) == (0, 0)


# Which rows


def test_a_row_a_call_in_the_order_of_the_phases_with_the_path_marked() -> None:
    records = example()
    shown = Waterfalls(records).of(records.workflows[0])
    assert [(row.label, bool(row.path), row.attempts) for row in shown.rows] == [
        ("decompose", True, 1), ("branch 1", False, 1), ("branch 2", True, 2),
        ("synthesize", True, 1),
    ]  # fmt: skip
    assert [(piece.part, piece.start, piece.end) for piece in shown.rows[2].pieces] == [
        ("permit_wait", 100, 109), ("client_wait", 109, 111), ("failed_attempts", 111, 124),
        ("backoff", 124, 154), ("permit_wait", 155, 159), ("client_wait", 159, 160),
        ("to_first_token", 160, 169), ("reasoning", 169, 179), ("answer", 179, 188),
        ("other", 188, 189),
    ]  # fmt: skip
    ((label, failure),) = shown.failures
    assert (label, failure.attempt, failure.status) == ("branch 2", 1, 429)
    assert "(429) after 13.0 s" in failure_line(label, failure, in_scenario_seconds(1e-9))


def test_a_workflow_names_the_anomalies_of_its_responses() -> None:
    records = example()
    assert "Deviates" not in drawn(records)
    first, second, *others = records.attempts
    odd = [
        msgspec.structs.replace(first, anomalies=("framing", "usage")),
        msgspec.structs.replace(second, anomalies=("usage",)),
    ]
    said = drawn(records._replace(attempts=[*odd, *others]))
    assert "Deviates from the API: usage in 2 responses, framing in 1 response\n" in said


def test_an_attempt_that_ran_beside_another_has_a_row_of_its_own() -> None:
    records = example()
    key = {**KEY, "phase": "fan_out", "branch": 2}
    slow = make_attempt(
        **key, ready=100, permit_requested=100, permit_granted=100, sent=101, done=180,
        first_reasoning=None, first_answer=None, last_token=None, outcome="cancelled",
        tokens=Tokens(),
    )  # fmt: skip
    hedge = make_attempt(
        **key, attempt=2, ready=140, permit_requested=140, permit_granted=142, sent=143,
        first_reasoning=150, first_answer=160, last_token=188, done=190,
    )  # fmt: skip
    call = make_call(**key, ready=100, done=190, attempts=2)
    records = records._replace(
        calls=[*records.calls, call], attempts=[*records.attempts, slow, hedge]
    )
    rows = Waterfalls(records).of(records.workflows[0]).rows
    assert [(row.label, row.start, row.end) for row in rows[3:5]] == [
        ("branch 3", 99, 189), ("  hedge", 139, 189),
    ]  # fmt: skip


# The picture


def test_no_line_is_wider_than_the_terminal_and_none_ends_in_spaces(records: Records) -> None:
    waterfalls = Waterfalls(records)
    for workflow in records.workflows:
        for line in drawn(records, display_key(workflow), whole=True).splitlines():
            assert len(line) <= 80, line
            assert line == line.rstrip()
    said = io.StringIO()
    render_paths(path_summaries([records]), records.run, Console(file=said, width=80))
    assert all(len(line) <= 80 for line in said.getvalue().splitlines())
    assert waterfalls


@pytest.mark.parametrize("name", ["full-jitter-305", "full-jitter-3050"])
def test_a_name_is_cut_only_where_there_is_no_room(name: str) -> None:
    records = make_records(
        [f"async_2_{name}_attempt"], 1, extra_toml=f'[retry.{name}]\nkind = "exponential"'
    )
    said = io.StringIO()
    render_paths(path_summaries([records]), records.run, Console(file=said, width=80))
    lines = [line for line in said.getvalue().splitlines() if line.startswith("async ")]
    assert (name in lines[0]) == (len(name) == 15), "80 columns have room for 15 characters"
    assert max(map(len, said.getvalue().splitlines())) <= 80


def test_a_simulated_run_says_so_in_every_picture(records: Records) -> None:
    assert "SIMULATED at time scale 0.01: durations are in scenario seconds" in drawn(records)
    said = io.StringIO()
    render_paths(path_summaries([records]), records.run, Console(file=said, width=80))
    assert "SIMULATED at time scale 0.01: durations are in scenario seconds" in said.getvalue()
    live = make_records(["async_2_none_attempt"], 1, simulated=False)
    assert "SIMULATED" not in drawn(live)


def test_a_topic_and_an_error_do_not_steer_the_terminal() -> None:
    records = example()
    evil = "tides\x1b]0;owned\x07\n\x1b[2J"
    text = drawn(
        records._replace(
            workflows=[
                msgspec.structs.replace(one, topic=evil, error=evil) for one in records.workflows
            ]
        )
    )
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "Topic: tides\ufffd]0;owned\ufffd \ufffd[2J\n" in text
    assert "Error: tides\ufffd]0;owned" in text


def test_every_character_that_is_drawn_is_explained() -> None:
    records = example()
    whole = drawn(records)
    rows = whole.split("\n\n")[1].splitlines()
    bars = "".join(line[16:70] for line in rows if line[:2] in ("* ", "  "))
    for look in LOOKS.values():
        if look.mark and look.mark in bars:
            assert f"{look.mark} " in whole


def test_many_branches_are_cut_to_the_most_telling_unless_all_are_asked_for() -> None:
    records = make_records(["async_8_none_attempt"], 1, workflows=1, branches=80)
    short, whole = drawn(records), drawn(records, whole=True)
    assert whole.count("  branch ") + whole.count("* branch ") == 80
    assert "… 42 more calls: harness trace RUN async_8_none_attempt/1/1" in short
    path = Waterfalls(records).of(records.workflows[0]).path
    assert f"* branch {path.stragglers[0].branch + 1} " in short


def test_the_sentences_name_the_parts_the_phase_and_the_straggler() -> None:
    records = example()
    path = Waterfalls(records).of(records.workflows[0]).path
    parts, longest, held = path_sentences(path, in_scenario_seconds(1e-9))
    assert parts.replace("\u00a0", " ") == (
        "Critical path of 299 s: answer 69 %, backoff 10 %, permit wait 5 %, first token 4 %, "
        "failed attempts 4 %, reasoning 4 %, client wait 2 %, other 2 %."
    )
    assert longest == "Synthesize took most of it (37\u00a0%)."
    assert held == (
        "Branch 2 ended the fan-out, 40.0 s after the one before it: it had 30.0 s more backoff "
        "than the median of the others."
    )


def test_time_outside_of_calls_is_explained() -> None:
    workflow = msgspec.structs.replace(make_workflow(), done=12 * SECOND, phases=())
    records = Records(make_run(), [make_attempt()], [make_call()], [workflow], [make_trial()], None)
    path = Waterfalls(records).of(workflow).path
    (parts,) = path_sentences(path, in_scenario_seconds(1.0))
    assert parts.replace("\u00a0", " ").startswith(
        "Critical path of 12.0 s: program (outside of calls) 92 %, "
    )


def test_a_failed_attempt_is_told_with_what_came_of_it() -> None:
    assert "branch 2, attempt 1: rate limited (429) after" in drawn(example())
    assert "the server's Retry-After" in " ".join(drawn(example()).split())


def test_a_key_without_any_failure_says_what_cell_it_is(records: Records) -> None:
    assert drawn(records).splitlines()[0].startswith(CELLS[0])
    assert CELL in drawn(example())
