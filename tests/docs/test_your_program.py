"""What docs/your-program.md shows runs as it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import harness
from harness.bench.scenario_file import parse_scenario
from harness.cli.main import main
from harness.endpoints.simulated import start_simulator
from harness.workflows.command.section import CommandSection

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "your-program.md").read_text()
PLAIN, PHASES, DECORATED, FROM_PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
MINE, OWN, SHIPPED, BREADTH, COMMAND, VARIABLES = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
[OUTPUT] = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
RUN = "results/20260101T000000Z-mine"
BASE_URL = tomllib.loads(OWN)["endpoint"]["base_url"]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the files of the document, where it says."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "mine.py": PLAIN, "mine.toml": MINE, "own.toml": OWN, "with_phases.py": PHASES,
        "own_program.py": DECORATED, "breadth.toml": BREADTH, "from_python.py": FROM_PYTHON,
        "command.toml": COMMAND,
    }.items():  # fmt: skip
        Path(name).write_text(text)


def test_the_scenario_prints_what_the_document_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mine.toml", "--jobs", "1", "--out", RUN]) == 0
    printed = capsys.readouterr()
    assert printed.out == OUTPUT
    assert "mine.py:research (sha256 " in printed.err


def test_the_program_runs_against_an_endpoint_within_its_budget(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with start_simulator("plain-chat", {}, 0, 0.005, tmp_path / "log.jsonl") as provider:
        Path("own.toml").write_text(OWN.replace(BASE_URL, provider.base_url))
        assert main(["run", "own.toml", "--out", "own", "--yes"]) == 0
    assert "own: 3 settings, 2 repeats, 36 workflows. SIMULATED" in capsys.readouterr().out
    run = harness.read_run("own").records
    assert run.run.status == "complete"
    assert len([call for call in run.calls if call.phase == "chat"]) == 6 * 36
    assert {call.outcome for call in run.calls} == {"ok"}


def test_the_phases_that_a_program_names_are_in_its_records() -> None:
    few = ["--set", "sweep.permits=6", "--set", "sweep.mode=async", "--set", "sweep.repeats=1"]
    assert main(["run", "mine.toml", "--set", "workflow.program=with_phases.py:research", *few,
                 "--set", "load.workflows=1", "--out", "run", "--quiet"]) == 0  # fmt: skip
    found = [call.phase for call in harness.read_run("run").records.calls]
    assert sorted(found) == ["outline", "report", *["sections"] * 4]


def test_the_decorated_program_is_the_shipped_scenario() -> None:
    assert (ROOT / "scenarios" / "own_program.py").read_text() == DECORATED
    shipped = tomllib.loads((ROOT / "scenarios" / "own-program.toml").read_text())
    shipped.pop("description")
    assert tomllib.loads(SHIPPED) == shipped


def test_an_argument_of_the_program_is_swept(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "breadth.toml", "--out", "run"]) == 0
    assert "async 4 · breadth 8" in capsys.readouterr().out
    calls = harness.read_run("run").records.calls
    counts = {cell: sum(call.cell == cell for call in calls) for cell in {c.cell for c in calls}}
    assert sorted(counts.values()) == [12 * 4, 12 * 6, 12 * 10]


def test_a_command_runs_in_the_folder_of_the_scenario() -> None:
    example = (ROOT / "examples" / "node_research.mjs").read_text()
    Path("app.mjs").write_text(example)
    if shutil.which("node") is None:
        pytest.skip("needs Node.js")
    few = ["--set", "load.workflows=1", "--set", "sweep.permits=2", "--set",
           "endpoint.time_scale=0.01"]  # fmt: skip
    assert main(["run", "command.toml", *few, "--out", "run", "--quiet"]) == 0
    records = harness.read_run("run").records
    assert [call.outcome for call in records.calls] == ["ok"] * 5
    assert {call.phase for call in records.calls} == set(
        tomllib.loads(COMMAND)["workflow"]["calls"]
    )


def test_the_variables_of_a_command_are_accepted() -> None:
    text = COMMAND.replace("topics =", f"{VARIABLES}topics =")
    scenario = parse_scenario(text, "command.toml")
    assert isinstance(scenario.workflow, CommandSection)
    assert len(scenario.workflow.env) == 3


def test_the_function_is_run_from_python() -> None:
    done = subprocess.run(
        [sys.executable, "from_python.py"], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "async_2_none_attempt", "async_8_none_attempt",
    ]  # fmt: skip


FORMS = [
    ("async def main(topic)", "topic", "tides"),
    ("async def main(client, topic)", "topic", "tides"),
    ("async def main()", "'no topic'", "no topic"),
    ("async def main(topic, depth)", "f'{topic} {depth}'", "tides 3"),
]
"""The forms of functions, what they ask, and what is then asked."""


@pytest.mark.parametrize(("form", "asks", "asked"), FORMS)
def test_a_function_gets_what_its_parameters_ask_for(form: str, asks: str, asked: str) -> None:
    assert f"`{form}`" in TEXT
    client = "client" if "client" in form else "openai.AsyncOpenAI()"
    Path("form.py").write_text(
        f"import openai\n\n\n{form}:\n"
        f"    asked = [{{'role': 'user', 'content': {asks}}}]\n"
        f"    await {client}.chat.completions.create(model='mine', messages=asked)\n"
    )
    arguments = "arguments = { depth = 3 }" if "depth" in form else ""
    Path("form.toml").write_text(
        f"name = 'form'\ntranscripts = true\n[workflow]\nprogram = 'form.py:main'\n"
        f"topics = ['tides']\n{arguments}\n[endpoint]\ntime = 'virtual'\n"
    )
    assert main(["run", "form.toml", "--out", "run", "--quiet"]) == 0
    assert f'"content":"{asked}"' in Path("run/transcripts.jsonl").read_text()


def test_every_name_that_a_program_can_use_is_explained() -> None:
    names = {"gather", "phase", "sleep", "now", "Scored", "CallFailedError", "GatherFailedError"}
    assert names <= set(harness.__all__)
    assert sorted(name for name in names if f"harness.{name}" not in TEXT) == []
