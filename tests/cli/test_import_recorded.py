"""`harness import` makes a scenario that runs, without the content of the record."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from harness.cli.main import main

_ORIGINAL = """
name = "original"
seed = 5
transcripts = true
[workflow]
topics = ["ocean tides", "river deltas"]
[endpoint]
time = "virtual"
[load]
workflows = 40
in_flight = 2
[sweep]
permits = [4]
"""


def test_a_run_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "original.toml").write_text(_ORIGINAL)
    first, second, scenario = tmp_path / "one", tmp_path / "two", tmp_path / "again.toml"
    assert main(["run", str(tmp_path / "original.toml"), "--out", str(first), "--quiet"]) == 0
    (spans,) = (first / "traces").glob("async*.jsonl")
    assert main(["import", str(spans), "-o", str(scenario)]) == 0
    assert "40 workflows, 240 calls, at most 3 one after another" in capsys.readouterr().out
    data = (tmp_path / "again.replay.jsonl").read_text()
    assert not any(word in data + scenario.read_text() for word in ("ocean", "river", "decompose"))
    permits = ["--set", "sweep.permits=[4]", "--set", "sweep.repeats=1"]
    assert main(["run", str(scenario), "--dry-run", *permits]) == 0
    assert main(["run", str(scenario), "--out", str(second), "--quiet", *permits]) == 0
    cells = [json.loads((run / "summary.json").read_text())["cells"][0] for run in (first, second)]
    assert cells[0]["tokens"] == cells[1]["tokens"]
    ratio = cells[1]["makespan_s"]["value"] / cells[0]["makespan_s"]["value"]
    assert ratio == pytest.approx(1, abs=0.05)


def test_few_workflows_are_repeated_and_can_be_tuned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"2023-11-16 18:17:{second:02}.0,100,50" for second in (0, 2, 3, 9)]
    trace, scenario = tmp_path / "azure.csv", tmp_path / "few.toml"
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows, ""]))
    assert main(["import", str(trace), "-o", str(scenario)]) == 0
    values = tomllib.loads(scenario.read_text())
    assert values["load"]["workflows"] == 16
    out = tmp_path / "run"
    assert main(["tune", str(scenario), "--out", str(out), "--set", "sweep.permits=[1,4]"]) == 0
    said = capsys.readouterr()
    assert "needs more workflows than a trial has" in said.err
    assert "misses the SLO" not in said.err
    assert json.loads((out / "summary.json").read_text())["recommendation"]["candidate"]


def test_a_missing_data_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.toml").write_text(
        'name = "bad"\n[workflow]\nkind = "replay"\ndata = "none.jsonl"\n'
    )
    assert main(["run", str(tmp_path / "bad.toml")]) == 2
    assert "workflow.data" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def observation(
    trace: int, name: str, start: float, end: float, **more: object
) -> dict[str, object]:
    return {
        "id": f"{trace}-{name}", "traceId": str(trace), "type": "GENERATION", "name": name,
        "startTime": f"2026-01-02T03:{trace:02}:{start:09.6f}Z",
        "endTime": f"2026-01-02T03:{trace:02}:{end:09.6f}Z",
        "usageDetails": {"input": 10, "output": 20}, **more,
    }  # fmt: skip


def plan_and_report(trace: int) -> list[dict[str, object]]:
    """Return the calls of a plan, three answers at once, and a report."""
    first = 1 + trace / 50
    answers = [observation(trace, f"answer {at}", first, first + 2 + at / 7) for at in range(3)]
    return [
        observation(trace, "plan", 0, first), *answers, observation(trace, "report", 7, 9)
    ]  # fmt: skip


@pytest.mark.parametrize("traces", [3, 16, 20])
def test_an_export_with_many_runs_of_a_program_is_read(
    traces: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = [call for trace in range(traces) for call in plan_and_report(trace)]
    (tmp_path / "export.json").write_text(json.dumps(calls))
    assert main(["import", str(tmp_path / "export.json"), "-o", str(tmp_path / "x.toml")]) == 0
    said = capsys.readouterr().out
    assert f"{traces} workflows, {5 * traces} calls, at most 3 one after another" in said


def test_calls_that_cannot_have_been_so_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [
        observation(1, "back", 5, 4),
        observation(2, "huge", 0, 4, usageDetails={"input": 1, "output": 10**12}),
    ]
    (tmp_path / "export.json").write_text(json.dumps([*plan_and_report(0), *odd]))
    assert main(["import", str(tmp_path / "export.json"), "-o", str(tmp_path / "x.toml")]) == 0
    said = capsys.readouterr().out
    assert "1 workflows, 5 calls" in said
    assert "Left out: 1 calls that end before they begin." in said
    assert "Left out: 1 calls with an impossible number of tokens." in said
    (tmp_path / "export.json").write_text(json.dumps(odd))
    assert main(["import", str(tmp_path / "export.json"), "-o", str(tmp_path / "x.toml")]) == 2
    assert "has no call with possible times" in capsys.readouterr().err


def test_a_file_is_not_replaced_by_what_is_made_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.replay.jsonl"
    file.write_text(json.dumps(plan_and_report(0)))
    before = file.read_bytes()
    assert main(["import", str(file), "-o", str(tmp_path / "x.toml")]) == 2
    assert "would replace" in capsys.readouterr().err
    assert file.read_bytes() == before
