"""A run that was killed, interrupted or out of disk goes on: nothing lost, nothing done twice."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.analysis.summary import summarise
from harness.bench.modes import MODES
from harness.cli.main import main
from harness.store import run_directory
from harness.store.run_directory import read_records, read_run, write_whole
from harness.store.run_lock import locked
from tests.cli.answering import scenario, working
from tests.store.schema_1 import write_in_schema_1

SCENARIO = """
name = "survives"
seed = 3
[workflow]
topics = ["tides", "soil", "wind"]
sub_questions = 2
max_tokens = { decompose = 4000, research = 4000, synthesize = 4000 }
[endpoint]
profile = "deepseek-reasoner"
override = { tokens_per_chunk = 100 }
time_scale = 0.001
[load]
workflows = WORKFLOWS
in_flight = 3
[timeouts]
idle = "1h"
call = "5h"
[sweep]
mode = MODE
permits = [4]
repeats = REPEATS
"""


def written(folder: Path, mode: str = '["async"]', workflows: int = 6, repeats: int = 2,
            extra: str = "") -> Path:  # fmt: skip
    path = folder / "survives.toml"
    text = SCENARIO.replace("MODE", mode).replace("WORKFLOWS", str(workflows))
    path.write_text(text.replace("REPEATS", str(repeats)) + extra)
    return path


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "run", *arguments, "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def complete_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of one workflow a trial. Tests change a copy of it."""
    folder = tmp_path_factory.mktemp("complete")
    out = folder / "out"
    assert main(["run", str(written(folder, workflows=1)), "--out", str(out), "--quiet"]) == 0
    return out


@pytest.fixture
def complete(complete_run: Path, tmp_path: Path) -> Path:
    """A copy of the complete run."""
    return Path(shutil.copytree(complete_run, tmp_path / "out"))


def lines(out: Path) -> int:
    path = out / run_directory.ATTEMPTS_FILE
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed_after(out: Path, more: int, *arguments: str) -> bool:
    """Run in a process of its own, and kill that after so many more attempts.

    False when it ended before. It is forked, because starting Python twenty times would take most
    of the time.
    """
    first = lines(out)
    child = os.fork()
    if child == 0:
        code = 4
        try:
            code = main(["run", *arguments, "--quiet", "--no-preflight"])
        finally:
            os._exit(code)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if lines(out) >= first + more:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.004)  # polls for the records that say how far the run is
    return False


def ended_once(out: Path, workflows: int, repeats: int, cells: int = 1) -> None:
    """Every workflow ended exactly once, in the records and in the summary."""
    records = read_records(out)
    assert records.run.status == "complete"
    counted = Counter(
        (w.cell, w.repeat, w.workflow) for w in records.workflows if w.outcome != "cancelled"
    )
    assert set(counted.values()) == {1}
    assert len(counted) == workflows * repeats * cells
    summary = json.loads((out / "summary.json").read_text())
    for cell in summary["cells"]:
        assert cell["workflows"]["started"] == cell["workflows"]["ok"] == workflows * repeats


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("kills", "workflows"), [(4, 8), pytest.param(20, 25, marks=pytest.mark.more)]
)
def test_killed_at_random_moments_every_workflow_ends_exactly_once(
    kills: int, workflows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, out = random.Random(5), tmp_path / "out"
    monkeypatch.setenv("OWN_KEY", "none")
    killed = 0
    with working(tmp_path) as base_url:
        load = {"workflows": workflows, "in_flight": 3}
        sweep = {"mode": ["async"], "permits": [4], "repeats": 3}
        path = scenario(tmp_path, base_url, load=load, sweep=sweep)
        arguments = [str(path), "--out", str(out)]
        while killed < kills:
            if killed_after(out, chance.randrange(0, 16), *arguments):
                killed += 1
            elif (out / run_directory.RUN_FILE).exists() and read_run(out).status == "complete":
                break
            if (
                out / run_directory.RUN_FILE
            ).exists():  # else it was killed before there was anything
                arguments = ["--resume", str(out)]
        assert killed == kills
        assert main(["run", "--resume", str(out), "--quiet"]) == 0
    ended_once(out, workflows=workflows, repeats=3)
    records = read_records(out)
    ended = {(w.repeat, w.workflow, w.execution) for w in records.workflows}
    abandoned = [
        attempt
        for attempt in records.attempts
        if (attempt.repeat, attempt.workflow, attempt.execution) not in ended
    ]
    (cell,) = json.loads((out / "summary.json").read_text())["cells"]
    assert abandoned, "a kill cut something short"
    assert cell["attempts"]["total"] == len(records.attempts) - len(abandoned)
    spent = sum((a.tokens.output or 0) for a in records.attempts)
    assert cell["tokens"]["output"] == spent, "what was abandoned was paid for"


@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk_is_one_line_and_the_run_can_be_read_and_gone_on_with(
    mode: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    limit = 20_000

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    path = str(written(tmp_path, f'["{mode}"]', workflows=8))
    # Python checks no write of compiled code: it would save code that is cut off at the limit.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    process = start(path, "--out", str(out), preexec_fn=small_disk, env=environment)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 4, said
    (line,) = said.splitlines()
    assert line.startswith(f"harness: {out / run_directory.ATTEMPTS_FILE}: cannot be written (")
    assert line.endswith(f"make room and go on with `harness run --resume {out}`")
    assert (out / run_directory.ATTEMPTS_FILE).read_bytes().endswith(b"\n")
    assert summarise(read_records(out)).cells[0].workflows.ok > 0, "what there is can be read"
    assert main(["run", "--resume", str(out), "--quiet"]) == 0
    ended_once(out, workflows=8, repeats=2)


def test_an_interrupted_run_goes_on_and_a_complete_one_has_nothing_left_to_do(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    process = start(
        str(written(tmp_path, workflows=12)), "--out", str(out),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while lines(out) < 20 and process.poll() is None:
        time.sleep(0.005)  # polls for the records that say how far the run is
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"`harness run --resume {out}` continues the run" in said
    assert main(["run", "--resume", str(out), "--quiet"]) == 0
    ended_once(out, workflows=12, repeats=2)
    before = (out / run_directory.ATTEMPTS_FILE).read_bytes()
    (out / "report.html").unlink()
    assert main(["run", "--resume", str(out), "--quiet"]) == 0
    assert (out / run_directory.ATTEMPTS_FILE).read_bytes() == before
    assert (out / "report.html").exists(), "what was missing is made"


def test_a_complete_run_is_said_to_be_complete(
    complete: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--resume", str(complete)]) == 0
    assert "the run is complete, so nothing is left to run" in capsys.readouterr().err
    assert main(["run", "--resume", str(complete), "--quiet"]) == 0
    assert not capsys.readouterr().err


def test_an_interrupt_while_the_provider_starts_leaves_a_run_that_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def readline(self) -> str:
            raise KeyboardInterrupt

        def close(self) -> None:
            """Do nothing."""

    real, started = subprocess.Popen, list[subprocess.Popen[str]]()

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
        process = real(*arguments, **options)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = Interrupted()  # type: ignore[assignment]
        started.append(process)
        return process

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr("harness.endpoints.subprocess_server.subprocess.Popen", popen)
        assert main(["run", str(written(tmp_path, workflows=1)), "--out", str(out)]) == 130
    assert [process.returncode is None for process in started] == [False], "it has ended"
    assert read_run(out).status == "partial"
    assert f"harness run --resume {out}" in capfd.readouterr().out
    assert main(["run", "--resume", str(out), "--quiet"]) == 0
    ended_once(out, workflows=1, repeats=2)


def test_virtual_time_goes_on_too_from_the_last_trial_that_was_written(tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    path = str(written(tmp_path, workflows=4, repeats=3))
    virtual = ["--set", 'endpoint.time="virtual"', "--set", "endpoint.time_scale=1.0", "--quiet"]
    assert main(["run", path, "--out", str(whole), *virtual]) == 0
    assert main(["run", path, "--out", str(out), *virtual]) == 0
    for name in (
        run_directory.ATTEMPTS_FILE,
        run_directory.CALLS_FILE,
        run_directory.WORKFLOWS_FILE,
        run_directory.TRIALS_FILE,
    ):
        kept = (out / name).read_bytes().splitlines(keepends=True)
        keep = len(kept) * 2 // 3  # killed while the second trial's workflows were written
        torn = kept[keep][: len(kept[keep]) // 2] if name == run_directory.WORKFLOWS_FILE else b""
        (out / name).write_bytes(
            b"".join(kept[: keep - 1 if name == run_directory.WORKFLOWS_FILE else keep]) + torn
        )
    (out / run_directory.TRIALS_FILE).write_bytes(
        (out / run_directory.TRIALS_FILE).read_bytes().splitlines(keepends=True)[0]
    )
    write_whole(
        out / run_directory.RUN_FILE, msgspec.structs.replace(read_run(out), status="running")
    )
    assert main(["run", "--resume", str(out), "--quiet"]) == 0
    ended_once(out, workflows=4, repeats=3)
    # The trial that was pieced together has no makespan; the others have theirs.
    cells = [json.loads((run / "summary.json").read_text())["cells"][0] for run in (whole, out)]
    assert cells[0]["workflow_latency_s"]["n"] == cells[1]["workflow_latency_s"]["n"] == 12


def test_a_run_of_schema_1_goes_on_in_schema_2(tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = str(written(tmp_path, workflows=2, repeats=2))
    virtual = ["--set", 'endpoint.time="virtual"', "--set", "endpoint.time_scale=1.0", "--quiet"]
    assert main(["run", path, "--out", str(out), *virtual]) == 0
    trials = out / run_directory.TRIALS_FILE
    trials.write_bytes(trials.read_bytes().splitlines(keepends=True)[0])
    workflows = out / run_directory.WORKFLOWS_FILE
    workflows.write_bytes(b"".join(workflows.read_bytes().splitlines(keepends=True)[:3]))
    write_in_schema_1(out)
    old = (out / run_directory.ATTEMPTS_FILE).read_bytes()
    assert main(["run", "--resume", str(out), "--quiet"]) == 0
    ended_once(out, workflows=2, repeats=2)
    assert json.loads((out / run_directory.RUN_FILE).read_bytes())["schema"] == 2
    new = (out / run_directory.ATTEMPTS_FILE).read_bytes()
    assert new.startswith(old)
    assert b"null" in old
    assert b"null" not in new[len(old) :]


def test_two_runs_cannot_write_into_one_directory(
    complete: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(complete):
        assert main(["run", "--resume", str(complete), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"harness: {complete}: another run is writing into it; wait for its end")


def test_what_a_killed_run_had_let_out_counts_against_the_budget_when_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    path = written(tmp_path, workflows=4, extra="[budget]\nattempts = 20\n")
    assert main(["run", str(path), "--out", str(out), "--quiet"]) == 3
    sent = lines(out)
    assert sent == 20
    # Killed: the last attempts were on their way and have no record.
    kept = (out / run_directory.ATTEMPTS_FILE).read_bytes().splitlines(keepends=True)
    (out / run_directory.ATTEMPTS_FILE).write_bytes(b"".join(kept[:15]))
    assert main(["run", "--resume", str(out), "--quiet"]) == 3
    assert lines(out) == 15, "nothing was left to spend"
    capsys.readouterr()
    assert main(["run", "--resume", str(out), "--quiet", "--set", "budget.attempts=1000"]) == 0
    ended_once(out, workflows=4, repeats=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--resume", "OUT", "--set", "load.workflows=2"], "only budget.* can change"),
        (
            ["--resume", "OUT", "--set", "sweep.max_repeats=9"],
            "because each look has used a part of the probability of error that",
        ),
        (["quickstart", "--resume", "OUT"], "scenario cannot be given with it"),
        (["--resume", "NOWHERE"], "contains no run.json"),
        (
            ["--resume", "OUT", "--set", "budget.usd=-1"],
            "--set budget.usd = -1: must",
        ),
        (["--resume", "OUT", "--set", "budget.euros=1"], "--set budget.euros: unk"),
        (
            ["--resume", "OUT", "--set", "budget.tokens=9"],
            "it is not known what it has used; leave",
        ),
        ([], "no scenario; give one"),
    ],
)
def test_what_cannot_be_gone_on_with_is_one_line(
    arguments: list[str],
    said: str,
    complete: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = {"OUT": str(complete), "NOWHERE": str(tmp_path / "nowhere")}
    assert main(["run", *(named.get(word, word) for word in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_provider_that_is_not_what_it_was_is_refused(
    complete: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = msgspec.structs.replace(read_run(complete), profile={"name": "another"})
    write_whole(complete / run_directory.RUN_FILE, other)
    assert main(["run", "--resume", str(complete), "--quiet"]) == 2
    assert "profile has changed" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_every_session_s_provider_log_is_joined(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert killed_after(out, 15, str(written(tmp_path, workflows=6)), "--out", str(out))
    assert main(["run", "--resume", str(out), "--quiet"]) == 0
    assert (out / "provider-1.jsonl").exists()
    oracle = json.loads((out / "summary.json").read_text())["oracle"]
    assert oracle["attempts"] == lines(out)
    assert oracle["outcome_mismatches"] == 0
    assert abs(oracle["first_text_s"]["p50"]) < 0.5, "both sessions' clocks were brought together"
    assert (out / "traces" / "run.otlp.jsonl").stat().st_size > 0
