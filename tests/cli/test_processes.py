"""`harness run --processes N`: real HTTP on loopback, counted by the log of the provider."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.records.ids import attempt_span
from harness.records.provider_log import Served
from harness.records.schema import Spent
from harness.store.run_directory import Records, each, read_records

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="reads processes from /proc"
)

SCENARIO = """
name = "divided"
[workflow]
kind = "agent"
topics = ["tides", "rain", "wind"]
steps = 1
tools = 0
[endpoint]
profile = "streams"
time_scale = SCALE
[load]
workflows = 30
in_flight = 6
[sweep]
permits = [6]
repeats = 1
"""


def scenario_file(where: Path, more: str = "", scale: float = 0.01) -> Path:
    path = where / "divided.toml"
    path.write_text(SCENARIO.replace("SCALE", str(scale)) + more)
    return path


def started(*options: str) -> subprocess.Popen[str]:
    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "--quiet", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=prepare,
    )  # fmt: skip


def run(*options: str) -> tuple[int, str]:
    process = started(*options)
    _, said = process.communicate(timeout=120)
    assert "Traceback" not in said
    return process.returncode, said


def divided(scenario: Path, out: Path, processes: int, *options: str) -> tuple[int, str]:
    return run(str(scenario), "--out", str(out), "--processes", str(processes), *options)


def served(records: Records) -> list[Served]:
    assert records.provider is not None
    return records.provider[1]


def check_whole(records: Records, workflows: int) -> None:
    """Each workflow has ended once, and each request of the provider's log has its attempt."""
    ended = [flow for flow in records.workflows if flow.outcome != "cancelled"]
    each_trial = Counter((flow.cell, flow.repeat, flow.workflow) for flow in ended)
    trials = {(trial.cell, trial.repeat) for trial in records.trials}
    expected = {(*trial, number): 1 for trial in trials for number in range(workflows)}
    assert each_trial == expected
    sent = [
        attempt_span(records.run.run_id, attempt)
        for attempt in records.attempts
        if attempt.sent is not None
    ]
    assert Counter(sent) == Counter(one.span_id for one in served(records))


def test_records_are_whole_and_the_summary_has_the_same_form(tmp_path: Path) -> None:
    scenario = scenario_file(tmp_path)
    summaries = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        modes = 'sweep.mode=["async", "threads", "sync"]'
        code, said = divided(scenario, out, processes, "--set", modes, "--set", "load.workflows=12")
        assert (code, said) == (0, "")
        records = read_records(out)
        assert records.run.processes == processes
        assert records.run.status == "complete"
        check_whole(records, 12)
        of = {trial.cell.split("_")[0]: trial.processes for trial in records.trials}
        assert of == {"async": processes, "threads": processes, "sync": 1}
        assert all(trial.cpu > trial.recording > 0 for trial in records.trials)
        assert all(trial.late_timers is not None for trial in records.trials)
        summaries.append(json.loads((out / "summary.json").read_text()))
    one, two = summaries
    assert one.keys() == two.keys()
    assert one["cells"][0].keys() == two["cells"][0].keys()


def test_arrivals_of_all_processes_are_those_of_one(tmp_path: Path) -> None:
    loops = [
        "--set",
        "load.in_flight=1",
        "--set",
        'load.arrivals={per_second=2, process="poisson"}',
        "--set",
        "objective.minimise='workflow_p95'",
    ]
    scenario = scenario_file(tmp_path)
    due = []
    for processes in (1, 3):
        code, said = divided(scenario, tmp_path / str(processes), processes, *loops)
        assert (code, said) == (0, "")
        records = read_records(tmp_path / str(processes))
        check_whole(records, 30)
        flows = sorted(records.workflows, key=lambda flow: flow.workflow)
        due.append([flow.ready - flows[0].ready for flow in flows])
    assert due[0] == due[1]


def test_a_budget_holds_for_all_processes_also_when_the_run_is_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said = divided(scenario_file(tmp_path), out, 3, "--set", "budget.attempts=10")
    assert code == 3
    assert "budget.attempts = 10 leaves no room for another attempt; spent: 10 attempts" in said
    assert len(said.splitlines()) == 1
    records = read_records(out)
    assert len(served(records)) == len(records.attempts) == 10
    assert max(spent.attempts for spent in each(out, Spent)) == 10
    code, said = run("--resume", str(out), "--set", "budget.attempts=17")
    assert code == 3
    assert len(served(read_records(out))) == 17
    code, said = run("--resume", str(out), "--set", "budget.attempts=1000")
    assert (code, said) == (0, "")
    check_whole(read_records(out), 30)


LIMITED = ["--set", "workflow.max_tokens={step=400, tools=400}"]


def test_tokens_of_a_budget_hold_for_all_processes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said = divided(scenario_file(tmp_path), out, 3, "--set", "budget.tokens=3000", *LIMITED)
    assert code == 3, said
    used = sum(
        (one.tokens.input or 0) + (one.tokens.output or 0) for one in served(read_records(out))
    )
    assert 0 < used <= 3_000


BROKEN = """
[retry.parks]
kind = "stack"
layers = ["breaks", "again"]
[retry.again]
kind = "fixed"
attempts = 20
delay = "1s"
[retry.breaks]
kind = "breaker"
failures = 3
pause = "100m"
cap = "100m"
[timeouts]
call = "100s"
"""


def test_a_breaker_that_one_process_opens_stops_all_of_them(tmp_path: Path) -> None:
    scenario = scenario_file(tmp_path, BROKEN)
    fault = 'endpoint.faults=[{kind="unavailable", probability=1.0}]'
    out = tmp_path / "out"
    code, said = divided(
        scenario, out, 3, "--set", fault, "--set", 'sweep.retry=["parks"]',
        "--set", "load.workflows=6",
    )  # fmt: skip
    assert code == 1, said
    # The third failure opens it: of the six calls at once, or of the first retry. Three breakers
    # would open after three failures of each process, or nine.
    assert 3 <= len(served(read_records(out))) <= 8


def most_at_once(log: list[Served]) -> int:
    edges = [edge for one in log for edge in ((one.arrived, 1), (one.done, -1))]
    now = most = 0
    for _, change in sorted(edges):
        now += change
        most = max(most, now)
    return most


def test_a_limit_that_adapts_holds_for_the_sum_of_all_processes(tmp_path: Path) -> None:
    limit = '[permits.slow]\nkind = "aimd"\nstart = 2\nmax = 4\nsuccesses = 4\n'
    scenario, out = scenario_file(tmp_path, limit), tmp_path / "out"
    code, said = divided(scenario, out, 3, "--set", 'sweep.permits=["slow"]')
    assert (code, said) == (0, "")
    records = read_records(out)
    check_whole(records, 30)
    (trial,) = records.trials
    assert [change.limit for change in trial.limits] == [2, 3, 4]
    assert sorted(trial.limits, key=lambda change: change.at) == list(trial.limits)
    assert 2 <= most_at_once(served(records)) <= 4


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that run shares, as far as they can be told from others."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def begin_long(tmp_path: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a run that has many workflows before it, and wait until some have ended."""
    out = tmp_path / "out"
    process = started(
        str(scenario_file(tmp_path, scale=0.1)), "--out", str(out), "--processes", "2",
        "--set", "load.workflows=150",
    )  # fmt: skip
    while process.poll() is None and lines(out / "workflows.jsonl") < 6:
        time.sleep(0.02)  # polls for records
    return process, out


def resumed(out: Path) -> Records:
    code, said = run("--resume", str(out), "--set", "budget.seconds=1000")
    assert (code, said) == (0, "")
    records = read_records(out)
    assert records.run.status == "complete"
    assert records.run.processes == 2
    check_ended_once(records, 150)
    return records


def check_ended_once(records: Records, workflows: int) -> None:
    ended = [flow.workflow for flow in records.workflows if flow.outcome != "cancelled"]
    assert sorted(ended) == list(range(workflows))


def test_the_loss_of_a_process_ends_its_trial_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    process, out = begin_long(tmp_path)
    first, second = children(process)
    os.kill(second, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 4, said
    assert said == (
        "harness: stopped: process 2 of 2 was killed by SIGKILL in a trial; all records that had "
        f"ended are saved; `harness run --resume {out}` continues the run\n"
    )
    records = read_records(out)
    assert records.run.status == "partial"
    assert records.run.stopped is not None
    assert records.run.stopped.by == "lost_process"
    (trial,) = records.trials
    assert trial.interrupted
    kept = {flow.workflow for flow in records.workflows if flow.outcome != "cancelled"}
    assert len(kept) >= 6
    assert not Path(f"/proc/{first}").exists()
    after = resumed(out)
    again = {flow.workflow for flow in after.workflows if flow.execution == 1}
    assert not again & kept


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_ends_all_processes(number: signal.Signals, code: int, tmp_path: Path) -> None:
    process, out = begin_long(tmp_path)
    pids = children(process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert said == f"harness: interrupted; `harness run --resume {out}` continues the run\n"
    records = read_records(out)
    assert records.run.status == "partial"
    assert [trial.interrupted for trial in records.trials] == [True]
    assert [trial.processes for trial in records.trials] == [2]
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.02)
    if number == signal.SIGINT:
        resumed(out)


def test_the_processes_of_a_run_that_is_killed_end(tmp_path: Path) -> None:
    process, out = begin_long(tmp_path)
    pids = children(process)
    assert len(pids) == 2
    process.kill()
    process.communicate()
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.02)
    resumed(out)


@pytest.mark.parametrize(
    ("settings", "processes", "why"),
    [
        (['endpoint.time="virtual"', "endpoint.time_scale="], "2", "virtual"),
        (['sweep.mode=["sync"]'], "2", "no setting has two calls"),
        (["sweep.permits=[1]"], "2", "no setting has two calls"),
        (["load.in_flight=1"], "3", "no setting has two calls"),
        ([], "0", "--processes"),
    ],
)
def test_where_it_has_no_meaning_it_is_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    processes: str,
    why: str,
) -> None:
    options: list[Any] = [word for value in settings for word in ("--set", value)]
    scenario = str(scenario_file(tmp_path))
    arguments = ["run", scenario, "--out", str(tmp_path / "out"), "--processes", processes]
    try:
        code = main([*arguments, *options, "--quiet"])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    told = capsys.readouterr().err.splitlines()
    assert why in told[-1]
    assert processes in told[-1]
    assert not (tmp_path / "out").exists()


def test_a_resumed_run_keeps_its_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    settings = ["--set", "budget.attempts=3", "--quiet"]
    assert main(["run", str(scenario_file(tmp_path)), "--out", str(out), *settings]) == 3
    capsys.readouterr()
    assert main(["run", "--resume", str(out), "--processes", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--processes 2: the run began with 1" in line
