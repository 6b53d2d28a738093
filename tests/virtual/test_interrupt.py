"""Ctrl-C in the middle of a sweep in virtual time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.store.run_directory import read_records

SCENARIO = """
name = "long"
[workflow]
topics = ["tides"]
sub_questions = 4
[endpoint]
time = "virtual"
[load]
workflows = 300
in_flight = 4
[sweep]
permits = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
repeats = 100
"""


def of_session(leader: int) -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state = path.read_text()
        except OSError:
            continue
        fields = state.rpartition(")")[2].split()
        if int(fields[3]) == leader and fields[0] != "Z":  # a zombie is nobody's any more
            yield state


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processes from /proc")
@pytest.mark.parametrize(("jobs", "kept"), [("1", "full"), ("2", "full"), ("2", "summary")])
def test_what_had_ended_by_then_is_saved_and_summarised(
    jobs: str, kept: str, tmp_path: Path
) -> None:
    scenario = tmp_path / "long.toml"
    scenario.write_text(SCENARIO)
    out = tmp_path / "out"
    command = ["run", str(scenario), "--out", str(out), "--jobs", jobs, "--set", f"records={kept}"]
    run = subprocess.Popen(
        [sys.executable, "-m", "harness", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background has had the signal switched off.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    trials = out / "trials.jsonl"
    while run.poll() is None and not (
        any(out.glob("trials/*.trial")) or (trials.exists() and trials.read_bytes())
    ):
        time.sleep(0.02)  # polls for the first trial's record
    os.killpg(run.pid, signal.SIGINT)  # a terminal tells all of its processes
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert "Traceback" not in said
    records = read_records(out)
    assert records.run.status == "partial"
    assert not records.trials[0].interrupted
    whole = [trial for trial in records.trials if not trial.interrupted]
    assert len(records.workflows) >= 300 * len(whole)
    assert 1 <= len(records.trials) < 100
    give_up = time.monotonic() + 20
    while (left := list(of_session(run.pid))) and time.monotonic() < give_up:
        time.sleep(0.02)  # the tracker of multiprocessing ends when its parent has ended
    assert left == []
