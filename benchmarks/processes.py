"""What a call costs when several processes run a trial together, beside one process.

    python -m benchmarks.processes [--rounds 5] [--calls 4096] [--client openai|wire]

A server in C (`verdict_server.c`, built with `cc`) sends whole bodies at once. In each round,
`harness run` measures the same work with one and with two processes, in turns, so a machine that
becomes slower changes both. The cost is the processor time of the trial over its calls: that of all
processes of the client, with the engine, the records and the workflow. The second trial counts.

Ends with 1 if, for a client, the median of the ratios of two processes to one is above 1.1, or if a
call has no record.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.known_loads import AT_ONCE, CLIENTS, SCENARIO
from benchmarks.verdict import HERE, built_server, known_server, raise_open_files
from harness.records.keys import WARM_UP

MOST_RATIO = 1.1


class Divided(NamedTuple):
    """A run: microseconds of processor time a call, and calls a second."""

    cost_us: float
    rate: float


def run_divided(client: str, port: int, calls: int, processes: int) -> Divided:
    """Measure one run. Raises AssertionError if a call is missing, failed or is there twice."""
    with tempfile.TemporaryDirectory() as name:
        scenario, out = Path(name) / "scenario.toml", Path(name) / "out"
        scenario.write_text(
            SCENARIO.format(
                port=port, client=client, stream="false", calls=calls, at_once=AT_ONCE, warm_up=2,
                repeats=2,
            )
        )  # fmt: skip
        command = [sys.executable, "-m", "harness", "run", str(scenario), "--out", str(out)]
        subprocess.run(
            [*command, "--quiet", "--processes", str(processes)],
            check=True, stdout=subprocess.DEVNULL,
            env={**os.environ, "NO_PROXY": "*", "PYTHONPATH": str(HERE.parent)},
        )  # fmt: skip
        lines = (out / "attempts.jsonl").read_text().splitlines()
        attempts = [one for one in map(json.loads, lines) if one["phase"] != WARM_UP]
        trials = map(json.loads, (out / "trials.jsonl").read_text().splitlines())
        trial = next(one for one in trials if one["repeat"] == 1)
    own = [one for one in attempts if one["repeat"] == 1]
    assert all(one["outcome"] == "ok" for one in own), "a call failed"
    assert sorted(one["workflow"] for one in own) == list(range(calls)), "a call is missing"
    assert trial.get("processes", 1) == processes, "it was not divided"
    return Divided(trial["cpu"] / 1000 / calls, calls / (trial["end"] - trial["start"]) * 1e9)


def compared(program: Path, client: str, calls: int, rounds: int) -> bool:
    """Print what a call costs with one and with two processes; return whether the limit holds."""
    ratios: list[float] = []
    found: dict[int, list[Divided]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            # Each is first in half of the rounds.
            for processes in sorted(found, reverse=number % 2 == 1):
                with known_server(program, 0, Path(name) / "log", 0, 0) as port:
                    found[processes].append(run_divided(client, port, calls, processes))
            one, two = (found[processes][-1].cost_us for processes in (1, 2))
            ratios.append(two / one)
    print(f"\n{client}: {calls} calls, {AT_ONCE} at once, median [least to most]")
    for processes, runs in found.items():
        costs, rates = [run.cost_us for run in runs], [run.rate for run in runs]
        print(
            f"  {processes} process{'es' if processes > 1 else ''}: {_middle(costs)} us a call, "
            f"{_middle(rates)} calls a second"
        )
    print(f"  ratio in pairs: {_middle(ratios, 3)}, limit {MOST_RATIO}", flush=True)
    return statistics.median(ratios) <= MOST_RATIO


def _middle(values: Sequence[float], digits: int = 0) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} [{least:.{digits}f} to {most:.{digits}f}]"


def main() -> int:
    """Measure each client and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4096)
    parser.add_argument("--client", choices=CLIENTS)
    options = parser.parse_args()
    raise_open_files()
    with tempfile.TemporaryDirectory() as name:
        program = built_server(Path(name))
        if program is None:
            return 2
        clients = [options.client] if options.client else CLIENTS
        held = [compared(program, client, options.calls, options.rounds) for client in clients]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
