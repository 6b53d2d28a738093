"""How often the quickstart gives the same, true answer, and how long it takes. Simulated.

    python -m benchmarks.quickstart [--seeds 100] [--jobs 2]

Runs the shipped scenario, whose time is virtual, with each seed and counts which cell is proven.
The true success rate of a cell is that of the workflows of all seeds together. Then runs the
scenario once as a user does, and prints the seconds from the start of the command to its end.

Ends with 1 when fewer than 95 % of the seeds prove the same cell, when the success rate of that
cell is below the SLO, or when the user's run recommends another cell.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.coverage import played
from harness.analysis.cells import MeasuredCell
from harness.analysis.recommend import Advice
from harness.analysis.selection import Dataset
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import load_scenario
from harness.config import shipped_scenarios

NAME = "quickstart"
LEAST_SAME = 0.95


class Done(NamedTuple):
    """What a cell did in one run; `seconds`: the sum of its makespans, in virtual time."""

    good: int
    tried: int
    seconds: float


class Answer(NamedTuple):
    """The proven cell of one run, None without one, and what each cell did."""

    proven: str | None
    cells: dict[str, Done]


def scenario(seed: int) -> Scenario:
    """Return the shipped scenario with a seed."""
    return load_scenario(shipped_scenarios.find(NAME), [f"seed={seed}"])


def answer(seed: int) -> Answer:
    """Run the scenario with a seed and decide as `harness run` does."""
    records = played(scenario(seed))
    cells = [MeasuredCell(cell) for cell in Dataset.of(records).cells.values()]
    done = {
        cell.records.info.id: Done(
            sum(map(cell.rules.is_good, cell.records.workflows)),
            len(cell.records.workflows),
            sum(cell.makespans.values()),
        )
        for cell in cells
    }
    return Answer(Advice(records.run, cells).decision.cell, done)


def true_answer(answers: Sequence[Answer], asked: float) -> str | None:
    """Print what the seeds say and return the cell that they prove, None if that is not true."""
    proven = Counter(one.proven for one in answers)
    totals = {
        name: Done(*map(sum, zip(*(one.cells[name] for one in answers), strict=True)))
        for name in answers[0].cells
    }
    print(f"{'cell':<28}{'proven':>10}{'success rate':>14}{'virtual s':>12}")
    for name, total in totals.items():
        rate, seconds = total.good / total.tried, total.seconds / len(answers)
        print(f"{name:<28}{proven[name]:>10}{rate:>14.4f}{seconds:>12.0f}")
    whole = sum(total.seconds for total in totals.values()) / len(answers)
    print(f"{'none':<28}{proven[None]:>10}{whole:>26.0f}", flush=True)
    best = max(totals, key=lambda name: proven[name])
    keeps = totals[best].good >= asked * totals[best].tried
    return best if keeps and proven[best] >= LEAST_SAME * len(answers) else None


def user_run() -> str | None:
    """Run the command of a user, print the seconds, and return the proven cell."""
    with tempfile.TemporaryDirectory() as folder:
        out, began = Path(folder) / "run", time.monotonic()
        command = ["-m", "harness", "run", NAME, "--out", str(out), "--quiet"]
        subprocess.run([sys.executable, *command], check=True)
        print(f"harness run {NAME}: {time.monotonic() - began:.1f} s", flush=True)
        summary = msgspec.json.decode((out / "summary.json").read_bytes())
    cell: str | None = summary["recommendation"]["cell"]
    print(f"proven: {cell or 'none'}")
    return cell


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the answers and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quickstart", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    asked = parser.parse_args(arguments)
    with ProcessPoolExecutor(asked.jobs) as pool:
        answers = list(pool.map(answer, range(asked.seeds)))
    rate = scenario(0).slo.success_rate
    true = true_answer(answers, 0.0 if rate is None else rate)
    return 0 if user_run() == true is not None else 1


if __name__ == "__main__":
    sys.exit(main())
