"""The library does what docs/library.md shows, also inside a running event loop."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.bench.scenario_file import load_scenario, parse_scenario
from harness.cli.plan import confirm, estimate_run
from harness.config import shipped_scenarios
from harness.config.toml_text import toml_document
from harness.library import _plain, worded_for_callers
from harness.records.errors import InputError, PreflightError

TEXT = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
CELLS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
CODE = "\n".join(CELLS)

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


def refused(call: Callable[..., object], *arguments: Any, **named: Any) -> str:
    """Return the text, one line, of the error that a call of the library raises."""
    with pytest.raises(harness.HarnessError) as raised:
        call(*arguments, **named)
    (line,) = str(raised.value).splitlines()
    return line


@pytest.mark.parametrize("settings", ["sweep.repeats=2", ["a=b"], 3, ""])
def test_settings_that_are_no_dictionary_are_refused(settings: Any) -> None:
    said = "must be a dictionary of dotted keys"
    assert said in refused(harness.load_scenario, "quickstart", settings)
    assert said in refused(harness.run, "quickstart", settings, out="out")
    assert said in refused(harness.run, harness.load_scenario("quickstart"), settings, out="out")
    assert not Path("out").exists()


@pytest.mark.parametrize("fail_on", [[3], None, 3, ["makespan>+10%", None]])
def test_rules_that_are_no_texts_are_refused(fail_on: Any) -> None:
    said = refused(harness.compare, "a", "b", fail_on=fail_on)
    assert "must be a rule or a list of rules" in said


def test_a_single_text_is_one_rule() -> None:
    assert refused(harness.compare, "a", "b", "nonsense").startswith("fail_on = nonsense: not a")
    assert "contains no run.json" in refused(harness.compare, "a", "b", "makespan>+10%")


@pytest.mark.parametrize("yes", ["no", 1, None])
def test_a_confirmation_is_true_or_false(yes: Any) -> None:
    assert "must be True or False" in refused(harness.run, "quickstart", yes=yes, out="out")


@pytest.mark.parametrize("path", ["a\0b", "a\ud800b"])
def test_a_path_that_no_file_can_have_is_refused(path: str) -> None:
    assert "cannot be written" in refused(harness.run, "quickstart", out=path)
    assert "run.json" in refused(harness.read_run, path)
    assert "no such file" in refused(harness.load_scenario, path)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: harness.load_scenario("quickstart", {"sweep.permits": 0}),
            "settings: sweep.permits = 0: must be at least 1",
        ),
        (
            lambda: harness.load_scenario("until-settled", {"sweep.repeats": 2}),
            'the setting {"sweep.max_repeats": None} removes it',
        ),
        (
            lambda: harness.run("quickstart", jobs=0, out="out"),
            "jobs = 0: give a whole number, at least 1",
        ),
        (lambda: harness.run("quickstart", out="."), "not empty; name a new directory with out="),
        (lambda: harness.load_scenario("quikstart"), "`harness scenarios` lists"),
    ],
)
def test_an_error_names_the_argument_and_not_the_option(
    call: Callable[[], object], said: str
) -> None:
    Path("file").touch()
    text = refused(call)
    assert said in text
    assert " --" not in f" {text}"


def test_a_run_that_may_cost_money_asks_for_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = {"kind": "openai", "base_url": "https://api.example.com/v1", "model": "m"}
    scenario = parse_scenario(toml_document({"name": "x", **SMALL, "endpoint": endpoint}), "x")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(PreflightError) as raised:
        confirm(scenario, estimate_run(scenario, {}), yes=False, quiet=True)
    assert worded_for_callers(str(raised.value)).endswith("; give yes=True to run it")


def test_a_setting_of_none_removes_the_key() -> None:
    settings = {"sweep.repeats": 2, "sweep.max_repeats": None}
    assert harness.load_scenario("until-settled", settings).sweep.max_repeats is None


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
