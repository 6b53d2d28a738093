"""Calls a second of processor time in virtual time, beside the bare model as the floor. Simulated.

    python -m benchmarks.virtual

The whole is the real program, policy, permits and interpreter (async), records made and encoded;
the floor is the provider's model alone, served a request as soon as another has ended. Both at 10,
100, 1,000 and 10,000 in flight. Ends with 1 when a call among 10,000 costs more than log n allows:
four times what it costs among 10.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import NamedTuple

from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario, parse_scenario
from harness.bench.virtual import Task, opening, play
from harness.records.clock import Anchor
from harness.records.schema import Call, Run
from harness.simulator.profiles import load_profile
from harness.simulator.request_parser import make_request
from harness.simulator.simulation import Simulation

IN_FLIGHT = (10, 100, 1_000, 10_000)
LEAST_CALLS = 16_000
BRANCHES = 8
SCENARIO = """
name = "speed"
[workflow]
topics = ["ocean tides", "battery recycling", "seed banks", "cold chains"]
sub_questions = BRANCHES
[endpoint]
profile = "PROFILE"
time = "virtual"
[timeouts]
call = "24h"
idle = "24h"
[load]
workflows = WORKFLOWS
in_flight = WORKFLOWS
[sweep]
permits = [PERMITS]
retry = ["openai-sdk"]
"""
PROFILE = "plain-chat"


class Cost(NamedTuple):
    """Calls, and the processor time that they took in seconds."""

    calls: int
    seconds: float

    @property
    def each(self) -> float:
        """Microseconds a call."""
        return self.seconds / self.calls * 1e6


def scenario(permits: int) -> Scenario:
    """Return one in which `permits` calls are in flight most of the time."""
    workflows = max(permits // 4, LEAST_CALLS // (BRANCHES + 2))
    text = SCENARIO.replace("PROFILE", PROFILE).replace("WORKFLOWS", str(workflows))
    return parse_scenario(
        text.replace("PERMITS", str(permits)).replace("BRANCHES", str(BRANCHES)), "benchmark"
    )


def whole(permits: int) -> Cost:
    """Play one trial as a run does."""
    read = scenario(permits)
    (cell,) = cells.expand(read)
    profile = load_profile(PROFILE).as_dict()
    setting = RunProgress(read, _run(read, profile))
    gc.collect()
    began = time.process_time()
    played = play(setting, Task(0, cell, 0), opening(setting), lambda _: None)
    seconds = time.process_time() - began
    return Cost(played.lines[Call].count(b"\n"), seconds)


def floor(at_once: int, calls: int) -> Cost:
    """Serve as many requests with the model alone, `at_once` in flight."""
    simulation = Simulation(load_profile(PROFILE), 1, 1.0, "cell")
    text = "Topic: ocean tides\n\nAnswer this sub-question thoroughly and concisely: {}"
    asks = [
        make_request(
            [("user", text.format(number))], model="m", phase=None, wants_json=False,
            max_tokens=None, stream=True, include_usage=True,
        )
        for number in range(calls)
    ]  # fmt: skip
    left = list(reversed(asks))
    gc.collect()
    began, now = time.process_time(), 0
    for _ in range(min(at_once, calls)):
        simulation.arrive(now, left.pop(), 0, every_chunk=False)
    while (due := simulation.next_due()) is not None:
        now = due
        for job in simulation.pop_due(now):
            if job.gone and left:
                simulation.arrive(now, left.pop(), 0, every_chunk=False)
    return Cost(calls, time.process_time() - began)


def _run(read: Scenario, profile: dict[str, object]) -> Run:
    return Run(
        schema=1, run_id="0" * 32, name=read.name, status="running",
        anchor=Anchor(unix_ns=0, monotonic_ns=0), seed=0, simulated=True, time_scale=1.0,
        cells=cells.expand(read), repeats=1, order=(), scenario=read.as_dict(), profile=profile,
        versions={}, host={}, virtual=True,
    )  # fmt: skip


def main() -> int:
    """Print what a call costs and return the exit code."""
    whole(10)  # what is made once is made
    print("simulated, in virtual time; microseconds of processor time a call")
    print(f"{'in flight':>9} {'whole':>7} {'model alone':>12} {'ratio':>6} {'calls/s':>8}")
    costs = []
    for permits in IN_FLIGHT:
        cost = whole(permits)
        bare = floor(permits, cost.calls)
        costs.append(cost.each)
        print(
            f"{permits:>9,} {cost.each:7.0f} {bare.each:12.0f} {cost.each / bare.each:6.1f} "
            f"{1e6 / cost.each:8,.0f}"
        )
    growth = costs[-1] / costs[0]
    print(f"a call among {IN_FLIGHT[-1]:,} costs {growth:.2f} times one among {IN_FLIGHT[0]}")
    return 0 if growth <= 4 else 1


if __name__ == "__main__":
    sys.exit(main())
