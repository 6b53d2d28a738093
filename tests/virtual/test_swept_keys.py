"""Whole runs in which dotted keys of the scenario are swept, in virtual time and over HTTP."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.oracle import compare_logs, join
from harness.cli.main import main
from harness.store.run_directory import read_records
from tests.cli.answering import copied

SCENARIO = """
name = "axes"
[workflow]
topics = ["tides"]
[endpoint]
kind = "simulated"
profile = "plain-chat"
time = "virtual"
time_scale = 0.01
[load]
workflows = 2
[sweep]
mode = ["sync", "async"]
permits = [4]
"endpoint.profile" = ["plain-chat", "deepseek-flash"]
"workflow.sub_questions" = [2, 3]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "axes.toml"
    path.write_text(SCENARIO)
    return path


def run(scenario: Path, *settings: str) -> Path:
    out = scenario.parent / "out"
    options = [part for setting in settings for part in ("--set", setting)]
    assert main(["run", str(scenario), "--quiet", "--jobs", "1", "--out", str(out), *options]) == 0
    return out


def cells(out: Path) -> dict[str, dict[str, Any]]:
    summary = json.loads((out / "summary.json").read_text())
    return {cell["id"]: cell for cell in summary["cells"]}


def test_each_cell_has_its_own_scenario_and_every_view_names_its_settings(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(scenario)
    found = cells(out)
    assert len(found) == 8
    few, many = (found[f"async_4_none_attempt_plain-chat_sub-questions-{n}"] for n in (2, 3))
    assert (few["calls"]["started"], many["calls"]["started"]) == (8, 10)
    slow = found["async_4_none_attempt_deepseek-flash_sub-questions-2"]
    assert slow["makespan_s"]["value"] > 2 * few["makespan_s"]["value"]
    assert few["speedup_over_sync"]["value"] != slow["speedup_over_sync"]["value"]
    assert main(["export", str(out)]) == 0
    with (out / "export" / "attempts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["workflow.sub_questions"] for row in rows} == {"2", "3"}
    traces = (out / "traces" / f"{slow['id']}.otlp.jsonl").read_text()
    assert "harness.setting.endpoint.profile" in traces
    assert "sub_questions" in (out / "report.html").read_text()
    capsys.readouterr()
    assert main(["compare", str(out), copied(out)]) == 0
    said = capsys.readouterr().out
    assert "8 settings in both runs" in said
    assert "deepseek-flash" in said
    assert main(["run", str(scenario), "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "calls    72;" in plan
    assert "sub_questions" in plan


def test_over_http_each_provider_has_a_server_and_a_log(scenario: Path) -> None:
    # On a busy machine, 0.3 seconds can pass between two chunks.
    patient = 'timeouts={first_token = "10m", idle = "10m", call = "1h"}'
    out = run(scenario, "endpoint.time=real", 'sweep.mode=["async"]', patient)
    logs = {path.name for path in out.glob("provider*.jsonl")}
    assert logs == {"provider.jsonl", "provider-0.1.jsonl"}
    joined = join(read_records(out))
    assert joined is not None
    oracle = compare_logs(joined)
    assert (oracle.attempts, oracle.unmatched) == (36, 0)
    assert oracle.outcome_mismatches == oracle.token_mismatches == 0


def test_each_cell_is_charged_its_own_price(scenario: Path) -> None:
    out = run(
        scenario,
        'sweep={mode = "async", "endpoint.price.output" = [1.0, 2.0]}',
        "endpoint.price.input=0.0",
    )
    one, two = (cell["cost_usd"] for cell in cells(out).values())
    assert two == pytest.approx(2 * one)


def test_a_budget_and_a_resumed_run_span_all_cells(scenario: Path) -> None:
    out = scenario.parent / "out"
    command = ["run", str(scenario), "--quiet", "--jobs", "1", "--out", str(out)]
    assert main([*command, "--set", "budget.attempts=40"]) == 3
    resume = ["run", "--resume", str(out), "--quiet", "--set", "budget.attempts=1000"]
    assert main(resume) == 0
    assert {cell["workflows"]["ok"] for cell in cells(out).values()} == {2}


def test_cells_are_compared_by_their_settings_whatever_their_ids(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run(scenario)
    only = scenario.with_name("new.toml")
    only.write_text(SCENARIO.replace('["plain-chat", "deepseek-flash"]', '"deepseek-flash"'))
    new = scenario.parent / "new"
    assert main(["run", str(only), "--quiet", "--jobs", "1", "--out", str(new)]) == 0
    capsys.readouterr()
    assert main(["compare", str(base), str(new)]) == 0
    said = capsys.readouterr().out
    assert "4 settings in both runs" in said
    assert "endpoint.profile differs" not in said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('sweep."endpoint.model"=["a", 5]', 'sweep."endpoint.model"[1] = 5: must be text'),
        ('sweep."endpoint.modle"=["a"]', "did you mean 'model'?"),
        ('sweep."endpoint.kind"=["openai"]', "cannot vary within a run"),
        ('sweep."slo.success_rate"=[0.5, 0.9]', "keys of these sections can: endpoint, load"),
        ("sweep.seed=[1, 2]", "sweep.seed: cannot vary within a run"),
        ("sweep.endpoint.model=[1]", "write the whole dotted key in quotes"),
        (
            'sweep."retry.fast.attempts"=[1]',
            "sweep.\"retry.fast.attempts\": no policy 'fast' is described; write [retry.fast]",
        ),
        ('sweep."retry.fast.kind"=["fixed"]', "describe one policy for each kind"),
        ("repeats=1", "repeats: unknown key (did you mean sweep.repeats?)"),
        ("success.min_branches=3", 'with sweep."workflow.sub_questions"[0]'),
        ('sweep."endpoint.override.ttft.median"=["1s", "x"]', "[1] = 'x'"),
    ],
)
def test_what_cannot_be_swept_is_one_line(
    scenario: Path, capsys: pytest.CaptureFixture[str], setting: str, said: str
) -> None:
    scenario.write_text(SCENARIO.replace("[2, 3]", "[3, 2]"))
    said = said.replace('sub_questions"[0]', 'sub_questions"[1]')
    assert main(["run", str(scenario), "--dry-run", "--set", setting]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_spans_name_the_model_of_their_cell(scenario: Path) -> None:
    out = run(scenario, 'sweep={"endpoint.model" = ["one", "two"]}')
    for model in ("one", "two"):
        spans = (out / "traces" / f"async_1_none_attempt_{model}.otlp.jsonl").read_text()
        assert f"chat {model}" in spans
