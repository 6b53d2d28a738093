"""Whole sweeps in virtual time, as the command runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.bench import runner
from harness.bench.cells import expand
from harness.bench.executors import ExecutorChoice
from harness.bench.resume import progress_of
from harness.bench.runner import Hooks
from harness.bench.scenario_file import load_scenario
from harness.bench.virtual import processes
from harness.cli.main import main
from harness.endpoints.simulated import SimulatedEndpoint
from harness.records.errors import StorageError
from harness.records.failures import OK
from harness.records.schema import Attempt, Call, Trial, Workflow
from harness.simulator.profiles import load_profile
from harness.store.run_directory import (
    ATTEMPTS_FILE,
    CALLS_FILE,
    WORKFLOWS_FILE,
    Records,
    Writer,
    read_records,
    read_spent,
)

SCENARIO = """
name = "jumps"
seed = 3
[workflow]
topics = ["tides", "seed banks"]
sub_questions = 3
[endpoint]
profile = "deepseek-reasoner"
override = { concurrency_cap = 3, retry_after = "2s", itl_b = "3ms" }
time = "virtual"
[load]
workflows = 6
in_flight = 2
[sweep]
mode = ["sync", "async"]
permits = [2, 6]
retry = ["patient"]
permit_scope = ["attempt", "call"]
repeats = 2
[retry.patient]
kind = "exponential"
attempts = 9
base = "1s"
cap = "20s"
"""
TRIALS = 2 * (2 + 4)


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "jumps.toml"
    path.write_text(SCENARIO)
    return path


def nothing(*_: object) -> None:
    """Do nothing."""


def play(scenario: Path, name: str, *settings: str, jobs: int = 1) -> Path:
    """Leave the records alone: nothing is made of them."""
    out = scenario.parent / name
    out.mkdir()
    read = load_scenario(scenario, settings)
    assert isinstance(read.endpoint, SimulatedEndpoint)
    profile = load_profile(read.endpoint.profile, read.endpoint.overrides).as_dict()
    profiles = {cell.id: profile for cell in expand(read)}
    hooks = Hooks(*[nothing] * len(Hooks._fields))
    runner.run(read, profiles, {}, out, hooks, ExecutorChoice(jobs))
    return out


def test_one_seed_leaves_the_same_bytes_in_one_process_and_in_two(scenario: Path) -> None:
    one, two = play(scenario, "one"), play(scenario, "two", jobs=2)
    for name in (ATTEMPTS_FILE, CALLS_FILE, WORKFLOWS_FILE, "trials.jsonl"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
        assert (one / name).read_bytes()
    other = play(scenario, "other", "seed=4")
    assert (other / ATTEMPTS_FILE).read_bytes() != (one / ATTEMPTS_FILE).read_bytes()


def test_without_a_word_on_its_cores_the_system_has_as_many_processes_as_cores(
    scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = load_scenario(scenario, ["load.workflows=100000"])
    monkeypatch.delattr("os.sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert processes(read, None) == 3


def check_times(records: Records) -> None:
    for attempt in records.attempts:
        assert attempt.ready <= attempt.permit_requested <= attempt.permit_granted
        assert attempt.client_wait == 0
        if attempt.outcome == OK:
            assert attempt.headers is not None
            assert attempt.headers == attempt.sent
            assert attempt.first_reasoning is not None
            assert attempt.first_answer is not None
            assert attempt.headers <= attempt.first_reasoning < attempt.first_answer
            assert attempt.first_answer < attempt.done == attempt.last_token
            assert sum(attempt.gaps.values()) == attempt.chunks - 1
            assert attempt.tokens.output == attempt.chunks
        else:
            assert (attempt.outcome, attempt.status) == ("rate_limited", 429)
            assert attempt.sent == attempt.done


def test_a_sweep_leaves_all_that_a_run_leaves_and_says_what_it_is(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = scenario.parent / "out"
    assert main(["run", str(scenario), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "SIMULATED (virtual time)" in said.out
    assert "virtual time" in said.err
    assert main(["report", str(out), "--verbose"]) == 0
    assert "Measurement: Time was virtual" in capsys.readouterr().out
    records = read_records(out)
    assert (records.run.status, records.run.virtual, records.run.simulated) == (
        "complete", True, True,
    )  # fmt: skip
    assert len(records.trials) == TRIALS
    assert len(records.workflows) == TRIALS * 6
    assert {workflow.outcome for workflow in records.workflows} >= {OK}
    assert len(records.calls) == TRIALS * 6 * 5
    assert any(attempt.status == 429 for attempt in records.attempts)
    check_times(records)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["virtual"]
    assert summary["verdict"]["client_cpu_share"] is None
    assert "virtual time" in (out / "report.html").read_text()
    assert len(list((out / "traces").glob("*.otlp.jsonl"))) == 7
    assert not (out / "provider.jsonl").exists()


def test_every_mode_meets_the_same_provider(scenario: Path) -> None:
    """A call that was alone and not refused takes as long in either mode."""
    free = ["endpoint.override={}", "load.in_flight=1", "sweep.permits=[1]", "sweep.repeats=1"]
    records = read_records(play(scenario, "free", *free))
    latest: dict[str, int] = {}
    for workflow in records.workflows:
        latest[workflow.cell] = max(workflow.done, latest.get(workflow.cell, 0))
    assert len(set(latest.values())) == 1
    assert len(latest) == 4


def test_watching_every_chunk_changes_no_moment(scenario: Path) -> None:
    """An idle deadline near the time between chunks has each of them followed; none passes it."""
    one = read_records(play(scenario, "far"))
    other = read_records(play(scenario, "near", 'timeouts.idle="65.7ms"'))
    assert one.workflows == other.workflows
    for far, close in zip(one.attempts, other.attempts, strict=True):
        assert far == close


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", 'sweep.mode=["threads"]'], ["threads", "no virtual time", "endpoint.time"]),
        (["--set", "endpoint.time=jumping"], ["endpoint.time", "'real' or 'virtual'"]),
        (["--jobs", "0"], ["--jobs 0"]),
        (["--jobs", "2", "--set", "endpoint.time=real"], ["--jobs 2", "endpoint.time"]),
        (["--jobs", "2", "--set", "budget.attempts=5"], ["--jobs 2", "budget.attempts"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    scenario: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: list[str]
) -> None:
    out = scenario.parent / "out"
    assert main(["run", str(scenario), "--out", str(out), *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(word in said for word in words)
    assert not out.exists()


def test_a_budget_ends_a_run_and_is_kept_over_all_trials(scenario: Path) -> None:
    out = scenario.parent / "out"
    options = ["--out", str(out), "--quiet", "--set", "budget.attempts=250"]
    assert main(["run", str(scenario), *options]) == 3
    records = read_records(out)
    assert len(records.attempts) == 250
    assert len({(attempt.cell, attempt.repeat) for attempt in records.attempts}) > 1


def test_a_budget_of_seconds_counts_virtual_ones(scenario: Path) -> None:
    records = read_records(play(scenario, "out", 'budget.seconds="1h"'))
    assert records.run.stopped is not None
    assert "budget.seconds = 3600 is used up" in records.run.stopped.because
    spent = sum(trial.end for trial in records.trials) / 1e9
    assert 0.9 * 3600 <= spent < 2 * 3600  # to the end of the last workflow that ended


def test_a_dry_run_says_that_nobody_waits(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(scenario), "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "SIMULATED provider deepseek-reasoner, virtual time" in said
    assert "of virtual time, which passes at once" in said


@pytest.mark.parametrize("kind", [Attempt, Call, Workflow, Trial])
def test_what_was_spent_is_written_down_before_its_records_are(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    """So a run that is killed between any two writes has not spent less than its records say."""
    extend = Writer.extend

    def killed(writer: Writer, what: type, lines: bytes) -> None:
        extend(writer, what, lines)
        if what is kind:
            raise StorageError("killed")

    monkeypatch.setattr(Writer, "extend", killed)
    with pytest.raises(StorageError, match="killed"):
        play(scenario, "out", "budget.attempts=100000")
    spent = read_spent(scenario.parent / "out")
    assert spent is not None
    assert spent.attempts == len(read_records(scenario.parent / "out").attempts) > 0


def test_the_wait_for_the_first_arrival_is_time_that_a_budget_has_spent(scenario: Path) -> None:
    arrivals = 'load.arrivals={process="poisson", per_second=0.001}'
    sweep = ["load.in_flight=1", 'objective.minimise="workflow_p95"', 'sweep.mode=["async"]']
    out = play(scenario, "out", arrivals, *sweep, "budget.seconds=80000")
    trials = read_records(out).trials
    assert min(trial.start for trial in trials) > 0
    assert progress_of(out).elapsed == sum(trial.end for trial in trials)
