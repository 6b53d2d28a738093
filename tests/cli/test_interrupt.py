"""Ctrl-C, SIGTERM and SIGHUP in the middle of a fan-out, in every mode."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeAlias

import pytest

from harness.bench.modes import MODES
from harness.cli.end_signals import EndSignals
from harness.store.run_directory import read_records

Running: TypeAlias = "subprocess.Popen[str]"

SCENARIO = """
name = "long"
[workflow]
topics = ["tides"]
sub_questions = 6
[endpoint]
profile = "deepseek-reasoner"
override = { tokens_per_chunk = 20, phases.decompose = { reasoning_tokens = { median = 20 } } }
time_scale = 0.05
[sweep]
mode = ["MODE"]
permits = [3]
"""


def processes_that_name(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


def started(scenario: Path, out: Path, *options: str, ignoring: int | None = None) -> Running:
    """Start a run. Whoever runs the tests in the background has had Ctrl-C switched off."""

    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number == ignoring else signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(scenario), "--out", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=prepare,
    )


def wait_for_a_line(run: Running, path: Path) -> None:
    while run.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= 1):
        time.sleep(0.02)  # polls for the first record


ENDINGS = [
    *((mode, signal.SIGINT, 130) for mode in MODES),
    *((mode, signal.SIGTERM, 143) for mode in MODES),
    ("async", signal.SIGHUP, 129),
]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads processes from /proc")
@pytest.mark.parametrize(("mode", "number", "code"), ENDINGS)
def test_what_had_finished_is_saved_summarised_and_exported_and_nothing_is_left(
    mode: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    scenario, out = tmp_path / "long.toml", tmp_path / "out"
    scenario.write_text(SCENARIO.replace("MODE", mode))
    # SIGTERM goes to runs in the background, for which a shell ignores Ctrl-C.
    run = started(scenario, out, ignoring=signal.SIGINT if number == signal.SIGTERM else None)
    wait_for_a_line(run, out / "calls.jsonl")  # of the first call: the fan-out begins there
    run.send_signal(number)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == code, said
    assert "Traceback" not in said
    records = read_records(out)
    assert records.run.status == "partial"
    assert records.calls[0].phase == "decompose"
    assert len(records.calls) < 8
    assert json.loads((out / "summary.json").read_text())["status"] == "partial"
    assert (out / "traces" / "run.otlp.jsonl").exists()
    assert processes_that_name(str(out)) == []


def runs(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads processes from /proc")
def test_sigterm_ends_the_processes_that_play_trials(tmp_path: Path) -> None:
    scenario, out = tmp_path / "long.toml", tmp_path / "out"
    text = SCENARIO.replace("MODE", "async").replace("time_scale = 0.05", 'time = "virtual"')
    scenario.write_text(f"{text}repeats = 400\n[load]\nworkflows = 20\n")
    run = started(scenario, out, "--jobs", "2")
    wait_for_a_line(run, out / "trials.jsonl")
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    assert len(children) >= 2
    run.terminate()
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 143, said
    assert "Traceback" not in said
    assert read_records(out).run.status == "partial"
    while any(map(runs, children)):  # the last one ends when it sees that the run has ended
        time.sleep(0.02)


def test_the_handlers_are_as_before_afterwards_and_an_ignored_signal_stays_ignored() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    hung_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with EndSignals() as ended:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        assert ended.exit_code(130) == 143
    finally:
        signal.signal(signal.SIGHUP, hung_up)
    assert [signal.getsignal(number) for number in numbers] == before


def test_ctrl_c_stays_off_for_a_run_in_the_background_which_sigterm_ends() -> None:
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with EndSignals() as ended:
            signal.raise_signal(signal.SIGINT)
            assert ended.exit_code(0) == 0
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        assert ended.exit_code(130) == 143
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
