"""The composite action, run step by step as a runner runs it, in a repository of somebody else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from tests.ci.runner import JobResult, read_action, run_action

ROOT = Path(__file__).parents[2]
ACTION = read_action(ROOT)

SCENARIO = """
name = "small"
seed = 5

[workflow]
topics = ["tides", "kelp"]
sub_questions = 3

[endpoint]
kind = "simulated"
time = "virtual"
override = { concurrency_cap = 6 }

[load]
workflows = 4
in_flight = 2

[sweep]
mode = ["async"]
permits = [2, 6]
retry = ["openai-sdk"]
repeats = 3
"""
SLOWER = "--set=endpoint.override.itl_a=70ms"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A repository with a scenario."""
    folder = tmp_path / "their project"
    (folder / "scenarios").mkdir(parents=True)
    (folder / "scenarios" / "small.toml").write_text(SCENARIO)
    return folder


class Jobs:
    """Runs jobs with the action. The harness of this environment is already installed in them."""

    def __init__(self, workspace: Path, temp: Path) -> None:
        self.workspace, self.temp = workspace, temp
        binaries = temp / "harness" / "venv" / "bin"
        binaries.mkdir(parents=True)
        command = binaries / "harness"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m harness "$@"\n')
        command.chmod(0o755)
        (binaries.parent / ".installed").touch()

    def run(self, **given: str) -> JobResult:
        """Run a job. Inputs have `_` for `-`."""
        inputs = {name.replace("_", "-"): value for name, value in given.items()}
        path = {"PYTHONPATH": str(ROOT)}
        wanted = {"scenario": "scenarios/small.toml"} | inputs
        return run_action(ROOT, self.workspace, self.temp, wanted, path)


@pytest.fixture
def jobs(workspace: Path, tmp_path: Path) -> Jobs:
    return Jobs(workspace, tmp_path / "job")


def test_the_first_run_becomes_the_baseline_the_same_passes_and_a_worse_one_fails(
    jobs: Jobs,
) -> None:
    first = jobs.run()
    assert first.code == 0, first.log
    assert first.outputs["verdict"] == "no-baseline"
    assert "### harness: no baseline, nothing was compared" in first.summary
    assert "::warning::" in first.log
    baseline = jobs.workspace / ".harness" / "baseline"
    assert {path.name for path in baseline.iterdir()} == {
        "run.json", "attempts.jsonl", "calls.jsonl", "workflows.jsonl", "trials.jsonl"
    }  # fmt: skip

    same = jobs.run(fail_on="uncertain", rules="makespan>+10%")
    assert same.code == 0, same.log
    assert same.outputs["verdict"] == "no-regression"
    assert same.summary.startswith("### small: no regression\n")
    assert "would have been found with a probability of 100 %" in same.summary
    assert "small: 2 settings, 3 repeats, 24 workflows. SIMULATED (virtual time)" in same.summary

    worse = jobs.run(arguments=SLOWER)
    assert worse.code == 1, worse.log
    assert worse.outputs["verdict"] == "regression"
    assert worse.summary.startswith("### small: regression\n")
    assert re.search(r"\*\*Regression: makespan \+\d+\.\d% in async", worse.summary)
    assert re.search(r"\| makespan&gt;\+10% \| async\S+ \| \+\d+\.\d% \| \+.* \| broken \|",
                     worse.summary)  # fmt: skip
    assert "::error::harness: regression" in worse.log
    assert (Path(worse.outputs["run"]) / "report.html").exists()


@pytest.mark.more
def test_a_worse_run_fails_nothing_where_the_baseline_is_renewed_or_results_are_only_reported(
    jobs: Jobs,
) -> None:
    assert jobs.run().code == 0
    reported = jobs.run(arguments=SLOWER, fail_on="never")
    assert (reported.code, reported.outputs["verdict"]) == (0, "regression")
    renewed = jobs.run(arguments=SLOWER, update_baseline="true")
    assert (renewed.code, renewed.outputs["verdict"]) == (0, "regression")
    assert renewed.summary.endswith("The baseline is this run now.\n")
    assert jobs.run(arguments=SLOWER).outputs["verdict"] == "no-regression"


@pytest.mark.more
def test_a_comparison_that_cannot_find_the_change_fails_if_that_is_asked_for(jobs: Jobs) -> None:
    first = jobs.run(fail_on="uncertain")
    assert (first.code, first.outputs["verdict"]) == (1, "no-baseline")
    few = jobs.run(fail_on="uncertain", rules="success_rate<-1%")
    assert (few.code, few.outputs["verdict"]) == (1, "too-little-power")
    assert "**Too little power: " in few.summary


@pytest.mark.more
def test_a_run_with_another_workload_is_refused_with_the_reason(jobs: Jobs) -> None:
    assert jobs.run().code == 0
    other = jobs.run(arguments="--set=load.workflows=5")
    assert (other.code, other.outputs["verdict"]) == (2, "not-comparable")
    assert "different workload: load.workflows is 4 in the first and 5 in" in other.summary


def test_a_run_that_fails_fails_the_job_and_the_summary_says_why(jobs: Jobs) -> None:
    failed = jobs.run(scenario="scenarios/smal.toml")
    assert failed.code == 2
    assert failed.summary.startswith("### harness: the run failed with exit code 2\n")
    assert "    harness: scenarios/smal.toml: no such file" in failed.summary
    assert failed.outputs["verdict"] == ""


@pytest.mark.parametrize(("name", "value"), [("fail_on", "regresion"), ("update_baseline", "yes")])
def test_an_input_with_an_unknown_value_is_refused(jobs: Jobs, name: str, value: str) -> None:
    refused = jobs.run(**{name: value})
    assert (refused.code, refused.outputs["run"]) == (2, "")
    assert f"::error::{name.replace('_', '-')} is" in refused.log


@pytest.mark.more
def test_no_input_is_part_of_a_script(jobs: Jobs) -> None:
    """An expression in a script would run what an input contains."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
    touched = jobs.workspace / "touched"
    value = f'"; touch "{touched}"; $(touch "{touched}") `touch "{touched}"`'
    assert jobs.run(scenario=value).code == 2
    assert jobs.run(arguments=value).code == 2
    assert jobs.run(install=value, fail_on=value).code == 2
    assert jobs.run(baseline=value, rules=value, update_baseline="true").code in (0, 4)
    assert not touched.exists()


def test_each_input_and_output_is_used_and_each_other_action_is_pinned() -> None:
    text = (ROOT / "action.yml").read_text()
    for name in ACTION["inputs"]:
        assert f"inputs.{name} " in text.partition("runs:")[2]
    for used in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", used)
    ids = {step.get("id") for step in ACTION["runs"]["steps"]}
    for output in ACTION["outputs"].values():
        assert re.search(r"steps\.(\w+)\.", output["value"])[1] in ids  # type: ignore[index]


@pytest.mark.more
def test_it_installs_itself_with_the_pinned_requirements_beside_the_checkout_of_the_user(
    workspace: Path, tmp_path: Path
) -> None:
    """The whole action from a clone, as a runner has it, with nothing of this environment."""
    clone = tmp_path / "actions" / "harness"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{ROOT}", clone], check=True)
    temp = tmp_path / "job"
    temp.mkdir()
    system = {"PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin"}
    # How a package index is reached from this machine.
    system |= {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "UV_"))}
    given = {"scenario": "scenarios/small.toml", "install": "tomli-w\n"}
    done = run_action(clone, workspace, temp, given, system)
    assert done.code == 0, done.log
    assert f"harness {harness.__version__}" in done.log
    listed = subprocess.run(
        [Path(done.outputs["command"]).parent / "uv", "pip", "freeze", "--python",
         Path(done.outputs["command"]).parent / "python"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    pinned = (ROOT / "requirements" / "run.txt").read_text()
    assert [one for one in listed if one.startswith("pydantic==") and f"{one} " in pinned]
    assert [one for one in listed if one.startswith("tomli-w")]
