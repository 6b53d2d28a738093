"""The programs in examples/ run as workflows, and nothing of them connects elsewhere."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import harness
from harness.cli.main import main

pytestmark = pytest.mark.more

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted((ROOT / "examples").glob("*.toml"))
NEEDS = {
    "langgraph_research": "langgraph", "openai_agents_research": "agents",
    "pydantic_ai_research": "pydantic_ai",
}  # fmt: skip
PHASES = {"openai_agents_research": "responses"}

PROGRAMS = (".py", ".mjs", ".go", ".sh")
CALLS = {"node_research": 5, "go_research": 5, "shell_research": 3}
"""How many calls a workflow of a command makes."""

WATCHED = """
import sys
from harness.cli.main import main

def note(event, arguments):
    if event == "socket.getaddrinfo":
        log.write(f"{arguments[0]}\\n")
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        log.write(f"{arguments[1][0]}\\n")

if __name__ == "__main__":
    log = open(sys.argv[1], "w", buffering=1)
    sys.addaudithook(note)
    sys.exit(main(sys.argv[2:]))
"""
"""A command of the harness that writes to a file where the process connects to."""
FEW = (
    "load.workflows=3", "load.in_flight=3", "sweep.permits=[2, 6]", "sweep.repeats=2",
)  # fmt: skip


def test_each_program_has_a_scenario_and_a_command_in_the_readme() -> None:
    text = (ROOT / "examples" / "README.md").read_text()
    programs = [file for file in (ROOT / "examples").iterdir() if file.suffix in PROGRAMS]
    assert sorted(file.stem for file in programs) == [scenario.stem for scenario in SCENARIOS]
    assert [file.name for file in programs if f"`{file.name}`" not in text] == []
    for scenario in SCENARIOS:
        assert f"harness run examples/{scenario.name}\n" in text


@pytest.mark.parametrize("name", CALLS)
def test_a_command_makes_its_calls_through_the_gateway(name: str, tmp_path: Path) -> None:
    needed = {"node_research": "node", "go_research": "go", "shell_research": "curl"}[name]
    if shutil.which(needed) is None:
        pytest.skip(f"needs {needed}")
    few = ["--set", "load.workflows=2", "--set", "sweep.permits=2", "--set",
           "endpoint.time_scale=0.01"]  # fmt: skip
    scenario = ROOT / "examples" / f"{name}.toml"
    assert main(["run", str(scenario), "--out", str(tmp_path / "run"), "--quiet", *few]) == 0
    run = harness.read_run(tmp_path / "run").records
    assert {(one.outcome, one.exit_code) for one in run.workflows} == {("ok", 0)}
    assert [call.outcome for call in run.calls] == ["ok"] * 2 * 2 * CALLS[name]
    assert all(attempt.tokens.output or name == "shell_research" for attempt in run.attempts)


@pytest.mark.parametrize(
    "scenario",
    [one for one in SCENARIOS if one.stem not in CALLS],
    ids=lambda scenario: scenario.stem,
)
def test_an_example_ends_with_a_verdict_and_connects_nowhere_else(
    scenario: Path, tmp_path: Path
) -> None:
    package = NEEDS.get(scenario.stem, "openai")
    if importlib.util.find_spec(package) is None:
        pytest.skip("the frameworks are not installed: make examples")
    settings = [part for setting in FEW for part in ("--set", setting)]
    (tmp_path / "watched.py").write_text(WATCHED)
    environment = {name: value for name, value in os.environ.items() if "OPENAI" not in name}
    done = subprocess.run(
        [sys.executable, "watched.py", "log", "run", scenario, "--out", "run", "--jobs", "1",
         *settings],
        cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "calls at once" in done.stdout.partition("\n\n")[0]
    run = harness.read_run(tmp_path / "run")
    assert run.summary.status == "complete"
    assert len(run.summary.cells) == 4
    assert {workflow.outcome for workflow in run.records.workflows} == {"ok"}
    assert all(workflow.error is None for workflow in run.records.workflows)
    phase = PHASES.get(scenario.stem, "chat")
    made = Counter(call.phase for call in run.records.calls)
    assert made == {phase: 4 * 2 * 3 * 5}
    assert {call.outcome for call in run.records.calls} == {"ok"}
    is_virtual = tomllib.loads(scenario.read_text())["endpoint"].get("time") == "virtual"
    places = set((tmp_path / "log").read_text().split())
    assert places <= (set() if is_virtual else {"127.0.0.1"}), places
