"""A workflow kind of another package is as complete as a kind that is built in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from harness.bench.estimate import estimate
from harness.bench.scenario_file import parse_scenario
from harness.cli.main import main
from harness.endpoints.section import SecondsRange
from harness.records.errors import InputError
from harness.records.schema import Attempt, Call, Run, Workflow
from harness.workflows.registry import WORKFLOWS

SCENARIO = """
name = "debates"
[workflow]
kind = "debate"
topics = ["tides", "moss"]
drafts = 2
max_tokens = { draft = 9000, pick = 8000 }
[endpoint]
profile = "plain-chat"
time_scale = 0.01
[load]
workflows = 2
[sweep]
mode = ["sync", "threads", "async"]
permits = [2]
"""
VIRTUAL = SCENARIO.replace("time_scale = 0.01", 'time = "virtual"').replace('"threads", ', "")


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the package with the kind, in the folder of the test."""
    source = Path(__file__).parent / "debates" / "debates.py"
    (tmp_path / "debates.py").write_text(source.read_text())
    installed = tmp_path / "debates-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: debates\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[harness.workflows]\ndebate = debates:DEBATE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("debates", None)
    WORKFLOWS._loaded.pop("debate", None)


def run(text: str) -> Path:
    Path("debates.toml").write_text(text)
    assert main(["run", "debates.toml", "--out", "out", "--quiet", "--jobs", "1"]) == 0
    return Path("out")


@pytest.mark.parametrize(
    ("text", "modes"), [(SCENARIO, ["sync", "threads", "async"]), (VIRTUAL, ["sync", "async"])]
)
def test_it_runs_in_every_mode_and_its_records_are_complete(text: str, modes: list[str]) -> None:
    out = run(text)
    described = msgspec.json.decode((out / "run.json").read_bytes(), type=Run)
    assert [(one.name, one.setting, one.max_tokens) for one in described.phases] == [
        ("draft", "draft", 9000),
        ("pick", "pick", 8000),
    ]
    decode = msgspec.json.Decoder
    workflows = decode(Workflow).decode_lines((out / "workflows.jsonl").read_bytes())
    calls = decode(Call).decode_lines((out / "calls.jsonl").read_bytes())
    attempts = decode(Attempt).decode_lines((out / "attempts.jsonl").read_bytes())
    assert len(workflows) == 2 * len(modes)
    for workflow in workflows:
        assert workflow.outcome == "ok"
        assert [phase.name for phase in workflow.phases] == ["draft", "pick"]
        assert (workflow.branches.total, workflow.branches.ok) == (2, 2)
        own = [call for call in calls if call.cell == workflow.cell]
        assert sorted({(call.phase, call.branch, call.call) for call in own}, key=str) == [
            ("draft", 0, 1), ("draft", 1, 1), ("pick", None, 1),
        ]  # fmt: skip
    assert len(calls) == 3 * len(workflows) <= len(attempts)
    summary = json.loads((out / "summary.json").read_bytes())
    assert [cell["workflows"]["ok"] for cell in summary["cells"]] == [2] * len(modes)
    assert [cell["calls"]["succeeded"] for cell in summary["cells"]] == [6] * len(modes)
    assert {"import harness", "import openai"} & {*summary["recommendation"]["code"]}
    spans = "".join(file.read_text() for file in (out / "traces").glob("*.otlp.jsonl"))
    assert all(f'"phase {phase}"' in spans for phase in ("draft", "pick"))
    assert "draft" in (out / "report.html").read_text()


def test_a_dry_run_counts_its_calls_and_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    Path("debates.toml").write_text(SCENARIO)
    assert main(["run", "debates.toml", "--dry-run"]) == 0
    assert "18; at most 18 attempts" in " ".join(capsys.readouterr().out.split())
    read = parse_scenario(SCENARIO, "debates.toml", ["sweep.mode=async", "load.workflows=1"])
    expected = estimate(read, SecondsRange(1, 1))
    assert (expected.calls, expected.output_tokens) == (3, 2 * 9000 + 8000)
    assert expected.seconds.low == pytest.approx(0.02), "drafts at once, then the pick"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("workflow.draft=3", "workflow.draft: unknown key (did you mean 'drafts'?)"),
        ("workflow.max_tokens.research=3", "workflow.max_tokens.research: unknown key"),
        ("prompts.research=x.txt", "prompts.research: unknown key"),
        (
            "success.min_branches=3",
            "success.min_branches = 3: no workflow could succeed; a workflow has 2 branches",
        ),
    ],
)
def test_its_keys_are_known_and_no_others(override: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_scenario(SCENARIO, "debates.toml", [override])
    assert said in str(raised.value)
