"""Trials in virtual time on the workers of a Dask cluster."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from distributed import LocalCluster

from harness.bench import dask_cluster, dask_executor, dask_worker
from harness.bench.cells import expand
from harness.bench.dask_executor import DaskExecutor
from harness.bench.dask_worker import PlayedOnWorker, SharedRun, loaded_progress, play_on_worker
from harness.bench.executors import ExecutorChoice, chosen_executor, play_in_order
from harness.bench.resume import RunProgress
from harness.bench.runner import Hooks, run
from harness.bench.same_versions import first_difference, version_facts
from harness.bench.scenario_file import parse_scenario
from harness.bench.virtual import Played, Task
from harness.cli.main import main
from harness.records.errors import HarnessError, InputError, PreflightError
from harness.simulator.profiles import load_profile
from harness.store.run_directory import read_run
from tests.cluster.local_clusters import kill_a_worker, three_workers

SCENARIO = """
name = "some"
seed = 3
[workflow]
topics = ["tides"]
[endpoint]
time = "virtual"
override = { concurrency_cap = 4 }
[load]
workflows = 4
[sweep]
permits = [1, 2, 8]
retry = ["none", "openai-sdk"]
repeats = 3
"""

FILES = ("attempts.jsonl", "calls.jsonl", "workflows.jsonl", "trials.jsonl")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with three_workers() as started:
        yield started


def nothing(*_: object) -> None:
    """Do nothing."""


def played(folder: Path, text: str, executor: ExecutorChoice, hooks: Hooks | None = None) -> Path:
    """Run a scenario without making anything of its records."""
    folder.mkdir()
    scenario = parse_scenario(text, "some.toml")
    profile = load_profile("deepseek-reasoner", {"concurrency_cap": 4}).as_dict()
    profiles = {cell.id: profile for cell in expand(scenario)}
    hooks = hooks or Hooks(*[nothing] * len(Hooks._fields))
    run(scenario, profiles, {}, folder, hooks, executor)
    return folder


def content(folder: Path, files: tuple[str, ...] = FILES) -> list[bytes]:
    return [(folder / name).read_bytes() for name in files]


def begun(tmp_path: Path) -> tuple[RunProgress, list[Task]]:
    """Return a run that is about to begin, and its trials."""
    once = SCENARIO.replace("repeats = 3", "repeats = 1")
    folder = played(tmp_path / "begun", once, ExecutorChoice())
    setting = RunProgress(parse_scenario(once, "some.toml"), read_run(folder))
    return setting, [Task(at, cell, 0) for at, cell in enumerate(setting.run.cells)]


def test_a_cluster_leaves_the_same_bytes_as_this_process(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    here = played(tmp_path / "here", SCENARIO, ExecutorChoice())
    there = ExecutorChoice(dask=cluster.scheduler_address)
    assert content(played(tmp_path / "there", SCENARIO, there)) == content(here)
    assert all(content(here))


def test_a_tune_on_a_cluster_decides_the_same_from_the_same_bytes(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    scenario = tmp_path / "some.toml"
    scenario.write_text(SCENARIO)
    limits = ["--set", "tune.max_blocks=3", "--set", "tune.permits=[2, 4, 8, 16]"]
    for name, option in (("here", "--jobs=1"), ("there", f"--dask={cluster.scheduler_address}")):
        out = str(tmp_path / name)
        assert main(["tune", str(scenario), *limits, "--out", out, "--quiet", option]) == 0
    files = (*FILES, "tune.jsonl")
    assert content(tmp_path / "there", files) == content(tmp_path / "here", files)


def test_a_worker_that_is_killed_changes_no_byte(cluster: LocalCluster, tmp_path: Path) -> None:
    killed: list[str] = []

    def kill_once(*_: object) -> None:
        if not killed:
            killed.append(kill_a_worker(cluster))

    hooks = Hooks(*[nothing] * len(Hooks._fields))._replace(after_trial=kill_once)
    there = ExecutorChoice(dask=cluster.scheduler_address)
    lost = played(tmp_path / "lost", SCENARIO, there, hooks)
    assert len(killed) == 1
    assert content(lost) == content(played(tmp_path / "here", SCENARIO, ExecutorChoice()))


def test_ctrl_c_ends_the_trials_in_progress_and_keeps_what_has_ended(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    setting, tasks = begun(tmp_path)
    long = parse_scenario(SCENARIO.replace("workflows = 4", "workflows = 20_000"), "some.toml")
    setting = setting._replace(scenario=long)
    kept: list[Played] = []
    executor = DaskExecutor(cluster.scheduler_address, setting)
    short = [tasks[0]]

    def batches() -> Iterator[list[Task]]:
        yield short
        yield tasks[1:]

    send = executor._send

    def send_and_interrupt() -> None:
        send()
        signal.raise_signal(signal.SIGINT)

    executor._send = send_and_interrupt  # type: ignore[method-assign]
    stopped = play_in_order(executor, batches(), kept.append, nothing)
    assert getattr(stopped, "by", None) == "interrupt"
    assert len(kept) <= 1  # it may have been interrupted before it had begun
    assert all(one.trial.interrupted for one in kept)
    assert not executor._running or all(one.cancelled() for one in executor._running)


def test_a_trial_in_progress_on_a_worker_ends_when_its_session_is_interrupted(
    tmp_path: Path,
) -> None:
    setting, tasks = begun(tmp_path)
    long = parse_scenario(SCENARIO.replace("workflows = 4", "workflows = 20_000"), "some.toml")
    shared = SharedRun("long", dict(version_facts()), pickle.dumps(setting._replace(scenario=long)))
    with ThreadPoolExecutor(1) as worker:
        answer = worker.submit(play_on_worker, shared, pickle.dumps(tasks[0]))
        while "long" not in dask_worker._playing:
            assert not answer.done()
        dask_worker.stop_playing("long")
        ended: PlayedOnWorker = pickle.loads(answer.result())
        assert ended.played.trial.interrupted
        assert ended.played.stopped is not None
        assert worker.submit(play_on_worker, shared, pickle.dumps(tasks[1])).result() == b""


_TRACED = """
import sys
from harness.bench.dask_worker import _Interruptible

def trace(frame, event, argument):
    frame.f_trace_opcodes = True
    return trace

def ends():
    return "ended"

with _Interruptible("one"):
    pass
sys.settrace(trace)
result = ends()
sys.settrace(None)
print(result)
"""


def test_no_interruption_is_looked_for_after_a_trial() -> None:
    """CPython 3.11 traces a function for ever while one is due in any thread."""
    command = [sys.executable, "-c", _TRACED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ended\n"


def test_a_cluster_without_workers_ends_the_run_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_executor, "_LOOK_EVERY", 0.0)
    monkeypatch.setattr(dask_executor, "_WITHOUT_WORKERS", 0.0)
    monkeypatch.setattr(dask_executor, "_FETCH", 0.1)
    setting, tasks = begun(tmp_path)
    with three_workers() as cluster:
        address = cluster.scheduler_address
        with DaskExecutor(address, setting) as executor:
            cluster.scale(0)
            while executor._client.nthreads():
                pass  # until the last worker has gone
            with pytest.raises(HarnessError, match="no worker is left") as raised:
                list(executor.play(tasks, nothing))
        assert str(raised.value).startswith(f"--dask {address}: ")
        assert "\n" not in str(raised.value)


def test_a_scheduler_that_does_not_answer_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dask_cluster, "_CONNECT", 0.1)
    with (
        pytest.raises(PreflightError, match="no scheduler answers") as raised,
        dask_cluster.dask_client("tcp://127.0.0.1:9"),
    ):
        pass
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("address", ["nowhere", "tcp://10.0.0.5", "some:where"])
def test_what_is_no_address_of_a_scheduler_is_refused_at_once(address: str) -> None:
    with pytest.raises(InputError, match="no address with a port"):
        dask_cluster.dask_client(address).__enter__()


def test_another_version_on_a_machine_of_the_cluster_is_refused_before_the_run(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    ours = {**version_facts(), "python": "CPython 3.99.0"}
    monkeypatch.setattr(dask_cluster, "_versions_here", lambda: ours)
    scenario = tmp_path / "some.toml"
    scenario.write_text(SCENARIO)
    out = tmp_path / "out"
    options = ["--out", str(out), "--dask", cluster.scheduler_address]
    assert main(["run", str(scenario), *options]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "and this process CPython 3.99.0; install the same on all machines" in said[-1]
    assert not out.exists()


def test_a_worker_that_came_later_refuses_a_run_of_another_version() -> None:
    other = {**version_facts(), "numpy": "1.0"}
    with pytest.raises(InputError, match=r"a Dask worker has numpy .*, and this process 1\.0"):
        play_on_worker(SharedRun("one", other, b""), b"")


def test_a_version_that_only_one_of_two_processes_has_is_a_difference() -> None:
    assert first_difference({"a": "1", "b": "2"}, {"a": "1"}) == (
        "has b of no version, and this process 2"
    )
    assert first_difference({"a": "1"}, {"a": "1", "b": "2"}) is None


PROGRAM = """
import harness

@harness.workflow
async def mine(ask, topic):
    await ask("write", topic)
"""


def test_a_program_that_is_another_on_a_worker_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "mine.py"
    program.write_text(PROGRAM)
    text = SCENARIO.replace('topics = ["tides"]', f'topics = ["tides"]\nprogram = "{program}:mine"')
    folder = played(tmp_path / "begun", text, ExecutorChoice())
    pickled = pickle.dumps(RunProgress(parse_scenario(text, "some.toml"), read_run(folder)))
    assert loaded_progress(pickled).run == read_run(folder)
    program.write_text(PROGRAM + "\n# of another version\n")
    with pytest.raises(InputError, match="put the same file at the same path on all machines"):
        loaded_progress(pickled)


@pytest.mark.parametrize(
    ("change", "jobs", "why"),
    [
        ("", 2, "--jobs 2 is for the processes of this machine"),
        ("[budget]\nattempts = 9", None, "budget.attempts limits all trials together"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused_in_one_line(
    change: str, jobs: int | None, why: str
) -> None:
    scenario = parse_scenario(SCENARIO + change, "some.toml")
    with pytest.raises(InputError, match=why):
        chosen_executor(scenario, jobs, "tcp://127.0.0.1:9")
