"""How often the recommendation is right, over many seeds of scenarios whose best cell is known.

    python -m benchmarks.advice [SEEDS]

Virtual time. What is best is what all seeds together say. Ends with 1 when a recommendation that
is proven is more than 2 % from the best in more than one seed of twenty, or when fewer than
four of five claim evidence where the best cell leads by 10 % or more.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.coverage import played
from harness.analysis.cells import MeasuredCell
from harness.analysis.metrics import compared_metrics
from harness.analysis.recommend import Advice
from harness.analysis.selection import Dataset
from harness.bench.scenario import Scenario, parse_scenario

SCENARIO = """
name = "advice"
seed = SEED
[workflow]
topics = TOPICS
sub_questions = 4
[endpoint]
profile = "retrograde"
time = "virtual"
FAULTS
[load]
workflows = 24
in_flight = 24
[sweep]
mode = ["async"]
permits = PERMITS
retry = ["patient"]
repeats = 5
[retry.patient]
kind = "exponential"
attempts = 6
base = "1s"
cap = "20s"
"""
FAULTS = """
[[endpoint.faults]]
kind = "unavailable"
probability = 0.05
"""
NAMED = {
    "clear lead": ([8, 30, 67], ""),
    "close race": ([24, 32, 40], ""),
    "with faults": ([8, 30, 67], FAULTS),
}
"""Permits that are swept and faults that strike, by name."""


class Advised(NamedTuple):
    """What one seed recommended, whether it claimed evidence, and each cell's log makespans."""

    cell: str | None
    enough: bool
    logs: dict[str, float]


def scenario(name: str, seed: int) -> Scenario:
    """Return a named scenario."""
    permits, faults = NAMED[name]
    text = SCENARIO.replace("SEED", str(seed)).replace("PERMITS", str(permits))
    topics = str([f"topic {number}" for number in range(24)])
    return parse_scenario(text.replace("FAULTS", faults).replace("TOPICS", topics), "advice")


def advise(read: Scenario) -> Advised:
    """Play a scenario and return what is recommended."""
    records = played(read)
    found = [MeasuredCell(cell) for cell in Dataset.of(records).cells.values()]
    said = Advice(records.run, found).recommendation()
    makespans = {
        cell.records.info.id: compared_metrics()["makespan"].by_repeat(cell).values()
        for cell in found
    }
    logs = {cell: float(np.log(list(values)).mean()) for cell, values in makespans.items()}
    return Advised(said.cell, said.state == "proven", logs)


def judge(name: str, seeds: int) -> bool:
    """Print how often a scenario's recommendation was right; return whether it was often enough."""
    told = [advise(scenario(name, seed)) for seed in range(seeds)]
    typical = {cell: math.exp(np.mean([one.logs[cell] for one in told])) for cell in told[0].logs}
    best, after = sorted(typical.values())[:2]
    lead = after / best
    sure = [one for one in told if one.enough]
    right = [one for one in sure if one.cell and typical[one.cell] <= 1.02 * best]
    claims, rightly = len(sure) / seeds, len(right) / len(sure) if sure else 1.0
    print(
        f"  {name:<12} true lead {100 * (lead - 1):4.1f} %; is proven in "
        f"{100 * claims:3.0f} %, right or within 2 % in {100 * rightly:3.0f} % of these",
        flush=True,
    )
    return rightly >= 0.95 and (lead < 1.1 or claims >= 0.8)


def main(arguments: Sequence[str]) -> int:
    """Judge every scenario and return the exit code."""
    seeds = int(arguments[0]) if arguments else 100
    print(f"{seeds} seeds each, simulated, in virtual time")
    right = [judge(name, seeds) for name in NAMED]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
