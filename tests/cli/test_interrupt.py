"""Ctrl-C in the middle of a fan-out, in every mode."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.bench.modes import MODES
from harness.store.run_directory import read_records

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


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads processes from /proc")
@pytest.mark.parametrize("mode", MODES)
def test_what_had_finished_is_saved_summarised_and_exported_and_nothing_is_left(
    mode: str, tmp_path: Path
) -> None:
    scenario = tmp_path / "long.toml"
    scenario.write_text(SCENARIO.replace("MODE", mode))
    out = tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(scenario), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Whoever runs the tests in the background has had the signal switched off.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    calls = out / "calls.jsonl"
    while run.poll() is None and not (calls.exists() and calls.read_bytes().count(b"\n") >= 1):
        time.sleep(0.02)  # polls for the first call's record: the fan-out begins there
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert "Traceback" not in said
    records = read_records(out)
    assert records.run.status == "partial"
    assert records.calls[0].phase == "decompose"
    assert len(records.calls) < 8
    assert json.loads((out / "summary.json").read_text())["status"] == "partial"
    assert (out / "traces" / "run.otlp.jsonl").exists()
    assert processes_that_name(str(out)) == []
