"""Log lines: what stands in them, at which level, and that nothing secret does."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime
from typing import Any, Literal

import pytest

from harness.records import ids
from harness.records.schema import Record
from harness.store.run_directory import Records
from harness.telemetry.log_lines import LOGGER, RunLog, logging_to
from tests.analysis.played import Shape, make_records

CELLS = ["async_2_full-jitter_attempt", "sync_1_none_attempt"]


@pytest.fixture(scope="module")
def records() -> Records:
    return make_records(CELLS, 1, workflows=4, shape=Shape(failure_rate=0.25))


def everything(records: Records) -> list[Record]:
    return [*records.attempts, *records.calls, *records.workflows]


def logged(records: Records, level: str, style: Literal["text", "json"] = "json") -> list[str]:
    """Return the lines of a run, logged as it goes on."""
    stream = io.StringIO()
    with logging_to(stream, level, style):
        log = RunLog(lambda: records.run)
        for record in everything(records):
            log.record(record)
        log.after_trial(records.workflows)
    return stream.getvalue().splitlines()


def parsed(records: Records, level: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(records, level)]


def test_each_failed_attempt_and_each_phase_has_a_line_with_its_key_and_trace(
    records: Records,
) -> None:
    lines = parsed(records, "info")
    failed = [one for one in records.attempts if one.outcome != "ok"]
    told = [line for line in lines if line["event"] == "attempt"]
    assert len(told) == len(failed) > 5
    for line, one in zip(told, failed, strict=True):
        assert line["level"] == "warning"
        assert line["trace_id"] == ids.workflow_trace(records.run.run_id, one)
        assert line["span_id"] == ids.attempt_span(records.run.run_id, one)
        key = ("cell", "repeat", "workflow", "phase", "call", "attempt", "outcome", "status")
        assert [line[name] for name in key] == [getattr(one, name) for name in key]
        assert line.get("branch") == one.branch
        assert ("retry_in_s" in line) != ("give_up" in line)
    phases = [line for line in lines if line["event"] == "phase"]
    assert [(line["workflow"], line["phase"], line["outcome"]) for line in phases] == [
        (one.workflow, phase.name, phase.outcome)
        for one in records.workflows
        for phase in one.phases
    ]
    assert sum(line["event"] == "workflow" for line in lines) == len(records.workflows)


def test_only_failures_are_above_debug_while_a_trial_runs(records: Records) -> None:
    log = RunLog(lambda: records.run)
    stream = io.StringIO()
    with logging_to(stream, "info", "json"):
        for record in everything(records):
            log.record(record)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line["event"] for line in lines} == {"attempt"}
    assert "ok" not in {line["outcome"] for line in lines}


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        ("debug", {"debug", "info", "warning", "error"}),
        ("info", {"info", "warning", "error"}),
        ("warning", {"warning", "error"}),
        ("error", {"error"}),
    ],
)
def test_a_level_shows_itself_and_what_is_worse(
    records: Records, level: str, levels: set[str]
) -> None:
    assert {line["level"] for line in parsed(records, level)} == levels


def test_debugging_shows_every_attempt_and_call(records: Records) -> None:
    events = [line["event"] for line in parsed(records, "debug")]
    assert events.count("attempt") == len(records.attempts)
    assert events.count("call") == len(records.calls)


def test_a_line_of_text_says_the_same_as_its_object(records: Records) -> None:
    objects = parsed(records, "debug")
    for line, told in zip(logged(records, "debug", "text"), objects, strict=True):
        time, level, event = line.split()[:3]
        assert (time, level.lower(), event) == (told["time"], told["level"], told["event"])
        fields = dict(re.findall(r"(\w+)=(\S+)", line))
        assert list(fields) == list(told)[3:]
        assert fields["trace_id"] == told["trace_id"]
        assert fields["took_s"] == f"{told['took_s']:.6f}"


def test_a_line_has_the_time_at_which_it_happened(records: Records) -> None:
    failed = next(one for one in records.attempts if one.outcome != "ok")
    line = parsed(records, "warning")[0]
    unix = (records.run.anchor.unix_ns + failed.done) / 1e9
    assert line["time"].endswith("Z")
    assert datetime.fromisoformat(line["time"]).timestamp() == pytest.approx(unix, abs=1e-5)


def test_a_simulated_run_says_so_in_every_line(records: Records) -> None:
    assert {line["simulated"] for line in parsed(records, "info")} == {True}


def test_without_a_level_nothing_is_logged_and_nothing_stays_behind(records: Records) -> None:
    before = LOGGER.level, LOGGER.propagate, list(LOGGER.handlers)
    with logging_to(io.StringIO(), None) as nothing:
        assert nothing is None
    logged(records, "debug")
    assert (LOGGER.level, LOGGER.propagate, LOGGER.handlers) == before


def test_no_line_has_a_topic_or_the_text_of_an_error(records: Records) -> None:
    whole = "\n".join(logged(records, "debug"))
    assert whole
    for workflow in records.workflows:
        assert workflow.topic not in whole
        assert workflow.error is None or workflow.error not in whole
