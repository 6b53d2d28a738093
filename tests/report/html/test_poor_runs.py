"""Reports of runs that did not go well, or have next to nothing to tell."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.analysis.model import Cell, Throughput
from harness.records.schema import Branches, Phase, Run, Stop, Tokens
from harness.store.run_directory import Records
from tests.analysis.builders import make_attempt, make_call, make_run, make_trial, make_workflow
from tests.analysis.played import Shape
from tests.report.html.reports import IDS, SCALE, Report, playable, report_of
from tests.report.summaries import NOTHING, make_cell, make_summary


def degenerate() -> dict[str, Report]:
    """Return reports of runs that have next to nothing to tell."""
    one = ["async_2_none_attempt"]
    hopeless = playable(cells=IDS[:5], shape=Shape(failure_rate=1.0))
    damaged = Records(make_run(IDS[:3], 2), [], [], [], [], None)
    cut = playable(cells=IDS[:5])
    interrupted = cut._replace(
        run=_interrupted(cut.run),
        trials=[msgspec.structs.replace(cut.trials[0], interrupted=True)],
        workflows=[msgspec.structs.replace(cut.workflows[0], outcome="cancelled", error="cut")],
        calls=[], attempts=cut.attempts[:3],
    )  # fmt: skip
    return {
        "hopeless": report_of(hopeless),
        "empty": report_of(damaged._replace(run=_interrupted(damaged.run))),
        "damaged": report_of(damaged),
        "interrupted": report_of(interrupted),
        "refused at once": report_of(_refused_at_once()),
        "one cell": report_of(playable(cells=one)),
        "one repeat": report_of(playable(repeats=1)),
        "sync alone": report_of(playable(cells=["sync_1_none_attempt"])),
        "nulls": report_of(playable(cells=one), make_summary([_unknown(one[0])])),
        "no cells": report_of(playable(cells=one), make_summary([])),
    }


def _interrupted(run: Run) -> Run:
    stop = Stop(by="interrupt", because="Ctrl-C")
    return msgspec.structs.replace(run, status="partial", stopped=stop)


def _refused_at_once() -> Records:
    """Return a run in virtual time whose every attempt was refused at the moment it was sent."""
    never = {"headers": None, "first_reasoning": None, "first_answer": None, "last_token": None}
    refused: dict[str, Any] = {"outcome": "unavailable", "done": 0, "tokens": Tokens()}
    attempt = make_attempt(**refused, **never, status=503, chunks=0, gaps={}, finish_reason=None)
    workflow = make_workflow(
        done=0, outcome="failed", branches=Branches(total=0, ok=0), error="decompose: unavailable",
        phases=(Phase(name="decompose", start=0, end=0, outcome="failed"),),
    )  # fmt: skip
    trial = make_trial(end=0, cpu=0, loop_lag={})
    return Records(make_run(), [attempt], [make_call(**refused)], [workflow], [trial], None)


def _unknown(cell: str) -> Cell:
    """Return a cell of which nothing is known but its counts."""
    fields: tuple[str, ...] = tuple(Cell.__struct_fields__)
    spreads = {field: NOTHING for field in fields if field.endswith("latency_s")}
    nothing: dict[str, Any] = dict.fromkeys(
        (
            "makespan_s", "goodput_workflows_per_s", "success_rate", "speedup_over_sync",
            "scheduling_efficiency", "critical_path_bound_s", "time_spent",
        )
    )  # fmt: skip
    rates = Throughput(workflows_per_s=None, calls_per_s=None)
    return make_cell(cell, throughput=rates, **nothing, **spreads)


@pytest.fixture(scope="module")
def poor() -> dict[str, Report]:
    return degenerate()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hopeless", "No workflow succeeded: all "),
        ("hopeless", "The most frequent failure: "),
        ("refused at once", "No workflow succeeded: all 1 failed."),
        ("empty", "No workflow has ended, so there is no result yet."),
        ("damaged", "Records of this run are missing, so nothing is proven. 6 trials are missing."),
        ("interrupted", "No workflow has ended, so there is no result yet."),
        ("one cell", "Only one setting ran, so there is nothing to choose"),
        ("one repeat", "Every setting ran once, so there are no intervals"),
        ("sync alone", "Only one setting ran, so there is nothing to choose"),
        ("nulls", "No workflow succeeded"),
        ("refused at once", "No trial ran to its end, or none took any time"),
        ("no cells", "No workflow has ended, so there is no result yet."),
    ],
)
def test_a_run_that_has_little_to_tell_says_why(
    poor: dict[str, Report], name: str, said: str
) -> None:
    assert said in poor[name].document.one("section", id="answer").text
    assert "None" not in poor[name].document.one("main").text.replace("None yet", "")
    assert " nan" not in poor[name].document.text.lower()


def test_a_run_whose_degraded_workflows_succeed_does_not_say_that_nothing_did() -> None:
    toml = "[success]\nmin_branches = 1"
    played = playable(cells=["async_2_none_attempt"])
    halves = [
        msgspec.structs.replace(one, outcome="degraded", branches=Branches(total=2, ok=1))
        for one in played.workflows
    ]
    run = make_run(["async_2_none_attempt"], 3, workflows=3, time_scale=SCALE, extra_toml=toml)
    report = report_of(played._replace(run=run, workflows=halves))
    said = report.document.one("section", id="answer").text
    assert report.summary.recommendation.candidate == "async_2_none_attempt"
    assert "no workflow ended ok" not in said.lower()
    assert "all 9 workflows" in said
    assert "9/9" in said


def test_an_interrupted_run_says_so_at_the_top_and_why_below(poor: dict[str, Report]) -> None:
    document = poor["interrupted"].document
    assert "partial" in document.one("header").text
    assert "partial: Ctrl-C" in document.one("details", id="environment").text
