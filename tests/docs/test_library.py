"""The library does what docs/library.md shows, also inside a running event loop."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.bench.scenario import load_scenario, parse_scenario
from harness.config import shipped_scenarios
from harness.config.toml_text import toml_document
from harness.library import _plain
from harness.records.errors import InputError, PreflightError

TEXT = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
CODE = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))

SMALL: dict[str, Any] = {
    "workflow": {"topics": ["tides"], "sub_questions": 2},
    "endpoint": {"time": "virtual"},
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.more
async def test_the_example_runs_inside_a_running_loop(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(CODE, names)  # as a cell of a notebook, whose kernel has a loop
    await names["main"]()
    said = capsys.readouterr().out
    assert "async_8_none_attempt" in said
    assert names["before"].report().name == "report.html"
    assert names["comparison"].paired
    assert said.splitlines()[-1] == "complete"


@pytest.mark.parametrize("name", shipped_scenarios.described())
def test_a_scenario_survives_being_written_as_toml(name: str) -> None:
    scenario = load_scenario(shipped_scenarios.find(name))
    again = parse_scenario(toml_document(_plain(scenario)), "again")
    expected, found = scenario.as_dict(), again.as_dict()
    expected["workflow"].pop("topics_file", None)
    found["workflow"].pop("topics_file", None)
    assert found == expected


def test_a_scenario_or_its_sections_are_required() -> None:
    for arguments in ((), ("quickstart",)):
        sections = SMALL if arguments else {}
        with pytest.raises(InputError, match="give either a scenario, or its sections"):
            harness.run(*arguments, **sections)


def test_a_wrong_key_is_an_error_with_the_way_out_and_makes_no_directory() -> None:
    with pytest.raises(harness.HarnessError, match=r"load.worfklows: unknown key"):
        harness.run(**SMALL, load={"worfklows": 2}, out="out")
    assert not Path("out").exists()


def test_the_error_of_the_command_is_raised() -> None:
    faults = [{"kind": "unauthorized", "probability": 1.0}]
    endpoint = {**SMALL["endpoint"], "faults": faults}
    with pytest.raises(PreflightError, match=r"401 \(unauthorized\) on the first call"):
        harness.run(workflow=SMALL["workflow"], endpoint=endpoint, out="out")


async def test_a_budget_that_ends_a_run_is_no_error_and_a_running_loop_none_either() -> None:
    result = harness.run(**SMALL, budget={"attempts": 2}, out="out")
    assert result.summary.status == "partial"
    assert len(result.records.attempts) == 2
    assert result.scenario.budget.attempts == 2


INTERRUPTED = """
import harness
try:
    harness.run("quickstart", {"endpoint.time": "real", "sweep.mode": "async"}, out="out")
except KeyboardInterrupt:
    print(harness.read_run("out").records.run.status)
"""


def test_an_interruption_reaches_the_run_which_saves_its_records(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    attempts, waited = tmp_path / "out" / "attempts.jsonl", threading.Event()
    for _ in range(2000):
        if attempts.exists() and attempts.stat().st_size:
            break
        waited.wait(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=100)
    assert said.strip() == "partial"
