"""Calls before a trial: charged to the budget, recorded, and in no statistic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.compare import compare_runs
from harness.bench.scenario_file import parse_scenario
from harness.cli.main import main
from harness.records.keys import WARM_UP
from harness.store.run_directory import Records, read_records
from tests.analysis.builders import make_call, make_run, make_trial, make_workflow
from tests.bench.examples import HEAD, LIVE
from tests.cli.answering import refusing, scenario, working

VIRTUAL = """
name = "virtual"
[workflow]
topics = ["tides", "rivers"]
sub_questions = 2
[endpoint]
time = "virtual"
[load]
workflows = 2
in_flight = 2
[sweep]
mode = ["sync", "async"]
permits = [4]
repeats = 2
"""
MODES = ["sync", "threads", "async"]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_KEY", "sk-planted")


def test_the_default_is_two_calls_for_an_endpoint_that_is_not_simulated() -> None:
    assert parse_scenario(HEAD, "a").load.warmup_calls == 0
    assert parse_scenario(LIVE, "a").load.warmup_calls == 2
    assert parse_scenario(f"{LIVE}[load]\nwarmup_calls = 0", "a").load.warmup_calls == 0
    assert parse_scenario(f"{LIVE}[load]\nworkflows = 3", "a").as_dict()["load"] == {
        "workflows": 3, "in_flight": 1, "arrivals": None, "warmup_calls": 2,
    }  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_they_end_before_the_trial_and_count_nowhere(mode: str, tmp_path: Path) -> None:
    with working(tmp_path) as base_url:
        load = {"workflows": 3, "in_flight": 2, "warmup_calls": 2}
        sweep = {"mode": [mode], "permits": [1 if mode == "sync" else 4], "repeats": 2}
        file = scenario(tmp_path, base_url, load=load, sweep=sweep)
        out = tmp_path / "out"
        assert main(["run", str(file), "--out", str(out), "--quiet", "--yes"]) == 0
    found = read_records(out)
    early = [call for call in found.calls if call.phase == WARM_UP]
    assert sorted((call.repeat, call.workflow, call.call) for call in early) == [
        (repeat, 3, call) for repeat in (0, 1) for call in (1, 2)
    ]
    for trial in found.trials:
        assert all(call.done <= trial.start for call in early if call.repeat == trial.repeat)
    summary = json.loads((out / "summary.json").read_text())
    [cell] = summary["cells"]
    assert cell["workflows"]["started"] == 6
    assert cell["calls"]["started"] == len(found.calls) - 4
    assert cell["attempts"]["total"] == len(found.attempts) - 4
    assert cell["tokens"]["output"] == sum(one.tokens.output or 0 for one in found.attempts)
    assert summary["cold_start"]["warmup_calls"] == 4
    [traces] = (out / "traces").glob(f"{mode}*")
    assert traces.read_text().count('"invoke_workflow warm-up"') == 2


def run_virtual(folder: Path, name: str, *settings: str) -> tuple[Records, dict[str, Any]]:
    file = folder / "virtual.toml"
    file.write_text(VIRTUAL)
    arguments = [f"--set={one}" for one in settings]
    out = folder / name
    code = main(["run", str(file), "--out", str(out), "--quiet", "--jobs", "1", *arguments])
    assert code in (0, 1, 3)  # 1: no workflow succeeded, 3: a budget
    return read_records(out), json.loads((out / "summary.json").read_text())


def test_in_virtual_time_they_change_no_figure(tmp_path: Path) -> None:
    _, without = run_virtual(tmp_path, "without")
    records, with_calls = run_virtual(tmp_path, "with", "load.warmup_calls=3")
    assert sum(call.phase == WARM_UP for call in records.calls) == 3 * len(records.trials)
    assert all(trial.start > 0 for trial in records.trials)
    same = ("calls", "attempts", "workflows", "success_rate")
    for one, other in zip(without["cells"], with_calls["cells"], strict=True):
        assert {name: one[name] for name in same} == {name: other[name] for name in same}
        assert one["makespan_s"]["value"] == pytest.approx(other["makespan_s"]["value"], rel=1e-6)


def test_the_budget_is_charged_for_them(tmp_path: Path) -> None:
    records, _ = run_virtual(tmp_path, "out", "load.warmup_calls=3", "budget.attempts=5")
    assert len(records.attempts) == 5
    assert sum(attempt.phase == WARM_UP for attempt in records.attempts) == 3


@pytest.mark.parametrize("mode", MODES)
def test_a_hopeless_first_warm_up_ends_the_run(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with refusing(401) as server:
        load = {"workflows": 1, "warmup_calls": 2}
        sweep = {"mode": [mode], "permits": [1]}
        file = scenario(tmp_path, server.base_url, load=load, sweep=sweep)
        out = tmp_path / "out"
        assert main(["run", str(file), "--out", str(out), "--quiet", "--yes"]) == 2
    assert "401 (unauthorized) on the first call" in capsys.readouterr().err
    assert len(read_records(out).attempts) == 1


def test_a_failed_warm_up_ends_nothing_and_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = 'endpoint.faults=[{kind="server_error", probability=1.0}]'
    records, summary = run_virtual(tmp_path, "out", "load.warmup_calls=2", faults)
    assert {one.attempts for one in records.calls if one.phase == WARM_UP} == {1}
    started = [cell["workflows"]["started"] for cell in summary["cells"]]
    assert len(records.workflows) == sum(started) == 8
    [(outcome, count)] = summary["cold_start"]["failed"].items()
    assert count == summary["cold_start"]["warmup_calls"]
    assert main(["report", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"warm-up calls failed, most often by {outcome}" in " ".join(page.split())
    capsys.readouterr()


def test_a_run_of_an_earlier_version_had_none() -> None:
    def run(**load: Any) -> Records:
        cell = "async_2_none_attempt"
        made = make_run([cell])
        made.scenario["load"] = {**made.scenario["load"], **load}
        if not load:
            del made.scenario["load"]["warmup_calls"]
        ended = [make_workflow(cell=cell)]
        return Records(made, [], [make_call(cell=cell)], ended, [make_trial(cell=cell)], None)

    assert not any("warmup" in text for text in compare_runs(run(), run(warmup_calls=0)).warnings)
    said = compare_runs(run(), run(warmup_calls=2)).warnings
    assert "load.warmup_calls differs: 0 and 2" in said
