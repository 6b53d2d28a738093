"""Trials in real time that the workers of a Dask cluster run together."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from harness.bench import dask_cluster
from harness.bench.cluster_shares import ClusterShares
from harness.bench.dask_shares import Sealed, send_share
from harness.bench.share_child import RecordPiece
from harness.cli.main import main
from harness.records.schema import Workflow
from harness.records.trial_worker import TrialWorker
from harness.store.run_directory import Records, each, read_records
from tests.cluster.local_clusters import kill_a_worker, three_workers

SCENARIO = """
name = "shares"
[workflow]
topics = ["tides", "winds"]
sub_questions = 3
[endpoint]
profile = "plain-chat"
time_scale = 0.02
[load]
workflows = 24
in_flight = 9
[sweep]
permits = [6]
"""
CALLS = 24 * 5


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with three_workers() as started:
        yield started


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "shares.toml"
    path.write_text(SCENARIO)
    return path


def run(cluster: LocalCluster, out: Path, *arguments: str) -> int:
    return main(["run", *arguments, "--quiet", "--dask", cluster.scheduler_address])


def served(out: Path) -> int:
    """Return how many attempts the servers of all sessions have seen."""
    lines = [path.read_bytes().splitlines()[1:] for path in out.glob("provider*.jsonl")]
    return sum(map(len, lines))


def check_whole(records: Records) -> None:
    """Each workflow ended once, and each of its calls has its attempts."""
    ended = Counter(one.workflow for one in records.workflows if one.outcome != "cancelled")
    assert ended == Counter(range(24))
    for workflow in records.workflows:
        calls = [one for one in records.calls if one.workflow == workflow.workflow]
        mine = [one for one in calls if one.execution == workflow.execution]
        assert len(mine) == 5


def test_the_records_of_three_workers_are_whole(
    cluster: LocalCluster, scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(cluster, out, str(scenario), "--out", str(out)) == 0
    records = read_records(out)
    check_whole(records)
    assert len(records.attempts) == CALLS == served(out)
    assert records.run.on_cluster
    assert records.run.processes == 3
    assert [trial.processes for trial in records.trials] == [3]
    workers = list(each(out, TrialWorker))
    assert [one.rank for one in workers] == [0, 1, 2]
    assert len({one.worker for one in workers}) == 3
    assert all(one.of == 3 and one.round_trips for one in workers)
    for one in workers:  # their clocks are one clock
        assert abs(one.clock_offset) <= one.clock_uncertainty
    # No share has more attempts in flight than its permits: two of the six.
    for rank in range(3):
        assert most_at_once(records, rank) <= 2
    # What is sent comes later than what the clock of the run showed at the start of the trial.
    assert min(one.sent for one in records.attempts if one.sent is not None) > 0


def most_at_once(records: Records, rank: int) -> int:
    changes = []
    for one in records.attempts:
        if one.workflow % 3 == rank and one.sent is not None:
            changes += [(one.sent, 1), (one.done, -1)]
    most = now = 0
    for _, change in sorted(changes, key=lambda at: (at[0], at[1])):
        now += change
        most = max(most, now)
    return most


def test_a_budget_holds_by_the_count_of_the_server_and_a_larger_one_completes_the_run(
    cluster: LocalCluster, scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    limit = ["--set", "budget.attempts=50"]
    assert run(cluster, out, str(scenario), "--out", str(out), *limit) == 3
    assert served(out) <= 50
    partial = read_records(out)
    assert len(partial.attempts) == served(out)
    stopped = partial.run.stopped
    assert stopped is not None
    assert stopped.by == "budget"
    assert "each of 3 workers has a fixed share of it" in stopped.because
    assert run(cluster, out, "--resume", str(out), "--set", "budget.attempts=500") == 0
    check_whole(read_records(out))


def test_a_budget_of_two_attempts_needs_two_workers_only(
    cluster: LocalCluster, scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(cluster, out, str(scenario), "--out", str(out), "--set", "budget.attempts=2") == 3
    assert served(out) == 2
    assert [one.of for one in each(out, TrialWorker)] == [2, 2]


@pytest.mark.more
def test_a_run_that_lost_a_worker_is_partial_and_completes_when_it_is_resumed(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    killed: list[str] = []
    take = ClusterShares._take

    def take_and_kill(self: ClusterShares, running: Any, worker: str, messages: Any) -> None:
        take(self, running, worker, messages)
        has_ended = any(isinstance(one, RecordPiece) and Workflow in one.lines for one in messages)
        if not killed and has_ended:
            killed.append(kill_a_worker(mortal))

    monkeypatch.setattr(ClusterShares, "_take", take_and_kill)
    out = tmp_path / "out"
    with three_workers() as mortal:
        limit = ["--set", "budget.attempts=200"]
        assert run(mortal, out, str(scenario), "--out", str(out), *limit) == 4
        said = capsys.readouterr().err.splitlines()
        assert f"the Dask worker {killed[0]} was lost in a trial" in said[-1]
        assert "--resume" in said[-1]
        partial = read_records(out)
        assert partial.run.status == "partial"
        assert partial.run.stopped is not None
        assert partial.run.stopped.by == "lost_process"
        assert partial.workflows
        # All that the lost worker could spend counts as spent.
        spent = json.loads((out / "spending.jsonl").read_text().splitlines()[-1])
        assert spent["attempts"] >= served(out)
        assert served(out) >= len(partial.attempts)
        more = ["--set", "budget.attempts=900"]
        assert run(mortal, out, "--resume", str(out), *more) == 0
    check_whole(read_records(out))


def test_ctrl_c_ends_all_shares_and_keeps_their_records(
    cluster: LocalCluster, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted: list[str] = []
    take = ClusterShares._take

    def take_and_interrupt(self: ClusterShares, running: Any, worker: str, messages: Any) -> None:
        take(self, running, worker, messages)
        if not interrupted and any(isinstance(one, RecordPiece) and one.lines for one in messages):
            interrupted.append(worker)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ClusterShares, "_take", take_and_interrupt)
    out = tmp_path / "out"
    assert run(cluster, out, str(scenario), "--out", str(out)) == 130
    records = read_records(out)
    assert records.run.status == "partial"
    assert [trial.interrupted for trial in records.trials] == [True]
    # Of an attempt that was in flight there is no record, as without a cluster.
    assert len(records.attempts) >= served(out) - 6
    monkeypatch.undo()
    assert run(cluster, out, "--resume", str(out)) == 0
    check_whole(read_records(out))


def test_a_run_of_a_cluster_is_resumed_on_a_cluster(
    cluster: LocalCluster, scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(cluster, out, str(scenario), "--out", str(out), "--set", "budget.attempts=2") == 3
    assert main(["run", "--resume", str(out), "--quiet"]) == 2
    assert "add --dask SCHEDULER" in capsys.readouterr().err.splitlines()[-1]


def test_workers_on_other_machines_cannot_reach_a_server_of_this_one(
    cluster: LocalCluster, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(dask_cluster, "_machine_here", lambda: "another machine")
    assert run(cluster, tmp_path, str(scenario), "--out", str(tmp_path / "out")) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "on another machine cannot reach; serve it with `harness serve --host" in said


def test_a_worker_that_fails_logs_no_key(cluster: LocalCluster) -> None:
    """Dask logs the arguments of a function that fails, and keeps the last lines of the log."""
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        worker = next(iter(client.nthreads()))
        sent = {worker: Sealed(b"sk-planted")}
        answer = client.run(send_share, "no session", sent, workers=[worker], on_error="return")
        assert isinstance(answer[worker], KeyError)
        lines = [text for _, text in client.get_worker_logs()[worker]]
    assert any("Sealed(10 bytes)" in line for line in lines)
    assert not any("sk-planted" in line for line in lines)


def test_a_limit_that_adapts_is_refused(
    cluster: LocalCluster, scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapts = ["--set", 'sweep.permits=["elastic"]']
    assert run(cluster, tmp_path, str(scenario), "--out", str(tmp_path / "o"), *adapts) == 2
    assert "the limit 'elastic' adapts to a whole trial" in capsys.readouterr().err
