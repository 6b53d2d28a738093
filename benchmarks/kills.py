"""Real runs that are killed at random moments and resumed. Simulated.

    python -m benchmarks.kills [--kills 100] [--seed 0]

Five kinds of process are killed with SIGKILL in turn: a run over HTTP in three modes, a run in
virtual time, a run over HTTP whose budget ends it, `harness report`, and a resumed run over HTTP
that is killed again. Each run is then resumed until it is complete. Prints how many workflows or
records were lost or doubled, and how many requests the provider served beyond the budget; ends with
1 if there are any.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.survival_checks import check, lines_of
from harness.bench.scenario_file import load_scenario
from harness.store.run_directory import PROVIDER_FILE, RUN_FILE, SUMMARY_FILE, read_spent

SCENARIO = """
name = "kills"
seed = 7
[workflow]
topics = ["tides", "seed banks"]
sub_questions = 3
max_tokens = { decompose = 2000, research = 2000, synthesize = 2000 }
[endpoint]
profile = "deepseek-reasoner"
override = { tokens_per_chunk = 20 }
TIME
[load]
workflows = WORKFLOWS
in_flight = 4
[sweep]
mode = MODES
permits = [4]
repeats = REPEATS
[budget]
attempts = BUDGET
"""
HTTP = ("time_scale = 0.004", "3", '["sync", "threads", "async"]', "1")
VIRTUAL = ('time = "virtual"', "40", '["sync", "async"]', "6")
PLENTY, LITTLE = 100_000, 25
BUDGET_STOPPED, BUDGET_RAISED = 3, f"budget.attempts={PLENTY}"
COMMAND = (sys.executable, "-m", "harness")
WITHOUT_PLOTS = """
import sys, types
sys.modules["harness.cli.report"] = types.SimpleNamespace(draw=lambda *_: None)
from harness.cli.main import main
sys.exit(main())
"""
RUN_COMMAND = (sys.executable, "-c", WITHOUT_PLOTS)
"""Runs a scenario, and makes neither plots nor report.html, which would take most of the time."""


def scenario(folder: Path, values: tuple[str, str, str, str], budget: int) -> Path:
    """Write a scenario file."""
    text = SCENARIO.replace("BUDGET", str(budget))
    for name, value in zip(("TIME", "WORKFLOWS", "MODES", "REPEATS"), values, strict=True):
        text = text.replace(name, value)
    path = folder / "kills.toml"
    path.write_text(text)
    return path


def killed(random: Random, arguments: list[str], longest: float) -> None:
    """Start a command, and kill it after a random time unless it has ended."""
    command = RUN_COMMAND if arguments[0] == "run" else COMMAND
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL)
    try:
        process.wait(random.uniform(0.2, longest))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def resumed(run: Path, *options: str) -> int:
    """Resume a run to its end, and return the exit code."""
    arguments = ["run", "--resume", str(run), "--quiet", *options]
    command = [*RUN_COMMAND, *arguments]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode


def start(file: Path, run: Path) -> list[str]:
    """Return the arguments that begin a run."""
    return ["run", str(file), "--out", str(run), "--quiet"]


def finish(file: Path, run: Path, before: dict[str, list[bytes]]) -> None:
    """Complete a run, and check its records."""
    if not (run / RUN_FILE).exists():  # killed before it began
        return
    check(run, load_scenario(file), before)
    before = lines_of(run)
    code = resumed(run)
    assert code == 0, f"the run is complete (exit code {code})"
    check(run, load_scenario(file), before)


def kill_http(random: Random, folder: Path) -> None:
    """Kill a run over HTTP."""
    file, run = scenario(folder, HTTP, PLENTY), folder / "run"
    killed(random, start(file, run), 8)
    finish(file, run, {})


def kill_virtual(random: Random, folder: Path) -> None:
    """Kill a run in virtual time."""
    file, run = scenario(folder, VIRTUAL, PLENTY), folder / "run"
    killed(random, start(file, run), 5)
    finish(file, run, {})


def kill_budget(random: Random, folder: Path) -> None:
    """Kill a run that its budget will end; resume it until then, and then to its end."""
    file, run = scenario(folder, HTTP, LITTLE), folder / "run"
    killed(random, start(file, run), 8)
    if not (run / RUN_FILE).exists():
        return
    code = resumed(run)
    assert code == BUDGET_STOPPED, f"the budget ends the run (exit code {code})"
    spent = read_spent(run)
    assert spent is not None
    assert served(run) <= spent.attempts <= LITTLE, "the provider served no more than the budget"
    before = lines_of(run)
    assert resumed(run, "--set", BUDGET_RAISED) == 0
    check(run, load_scenario(file), before)


def kill_report(random: Random, folder: Path) -> None:
    """Kill `harness report`: the records stay, and the summary is whole or absent."""
    file, run = scenario(folder, VIRTUAL, PLENTY), folder / "run"
    subprocess.run([*RUN_COMMAND, *start(file, run)], check=True)
    before, summary = lines_of(run), (run / SUMMARY_FILE).read_bytes()
    killed(random, ["report", str(run)], 6)
    assert lines_of(run) == before, "a report changes no records"
    json.loads((run / SUMMARY_FILE).read_bytes())
    again = [*COMMAND, "report", str(run), "--only", "permits"]
    subprocess.run(again, check=True, stdout=subprocess.DEVNULL)
    assert (run / SUMMARY_FILE).read_bytes() == summary


def kill_resumed(random: Random, folder: Path) -> None:
    """Kill a run over HTTP, and the run that resumes it."""
    file, run = scenario(folder, HTTP, PLENTY), folder / "run"
    killed(random, start(file, run), 8)
    before = lines_of(run)
    if (run / RUN_FILE).exists():
        killed(random, ["run", "--resume", str(run), "--quiet"], 8)
    finish(file, run, before)


def served(run: Path) -> int:
    """Return how many requests the provider has logged in all sessions."""
    stem = PROVIDER_FILE.removesuffix(".jsonl")
    logs = (path.read_bytes() for path in run.glob(f"{stem}*.jsonl"))
    return sum(max(0, log.count(b"\n") - 1) for log in logs)  # the first line is the head


KINDS: tuple[Callable[[Random, Path], None], ...] = (
    kill_http, kill_virtual, kill_budget, kill_report, kill_resumed,
)  # fmt: skip


def main() -> int:
    """Kill processes, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed, began = 0, time.monotonic()
    for number in range(options.kills):
        kind = KINDS[number % len(KINDS)]
        with tempfile.TemporaryDirectory() as folder:
            try:
                kind(Random(options.seed * 1_000_003 + number), Path(folder))
            except (AssertionError, subprocess.CalledProcessError) as error:
                failed += 1
                print(f"kill {number} ({kind.__name__}): {error}", flush=True)
    seconds = time.monotonic() - began
    print(f"simulated: {options.kills} kills, {failed} with a fault, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
