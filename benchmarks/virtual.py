"""Processor time of a call in virtual time, beside the bare model as the floor. Simulated.

    python -m benchmarks.virtual

The whole is the real program, policy, permits and scheduler, with records made and encoded. The
floor is the provider's model alone: it serves a request as soon as another has ended. A provider's
simulation keeps what it has computed for a prompt, and most scenarios ask the same prompts again
and again, so the whole is measured with four topics and with a topic for each workflow, and with
four topics also with `records = "summary"`. Prints medians of alternating rounds, and the calls of
a CPU-second on the reference core: the figures with four topics, scaled by the median floor. Ends
with 1 if these are less than 13,500 with full records or 20,000 with summaries, or if a call among
10,000 costs more than 1.5 times a call among 64.
"""

from __future__ import annotations

import gc
import sys
import time
from statistics import median
from typing import NamedTuple, get_args

from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.bench.virtual import Task, opening, play
from harness.records.clock import Anchor
from harness.records.schema import SCHEMA, RecordsKept, Run
from harness.simulator.profiles import load_profile
from harness.simulator.request_parser import make_request
from harness.simulator.simulation import Simulation

IN_FLIGHT = (8, 64, 512, 10_000)
LEAST_CALLS = 16_000
ROUNDS = 3
REFERENCE_FLOOR = 12.5
"""Microseconds of a call of the bare model on the reference core.

The first version of the model took 17 to 21 there. In paired runs it took 1.5 times as long as this
one.
"""
LEAST_PER_SECOND: dict[RecordsKept, int] = {"full": 13_500, "summary": 20_000}
MOST_GROWTH = 1.5
BRANCHES = 8
SCENARIO = """
name = "speed"
[workflow]
topics = TOPICS
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


def scenario(permits: int, distinct: bool) -> Scenario:
    """Return one in which `permits` calls are in flight most of the time.

    `distinct`: each workflow has a topic of its own.
    """
    workflows = max(permits // 4, LEAST_CALLS // (BRANCHES + 2))
    topics = [f"topic number {number}" for number in range(workflows if distinct else 4)]
    text = SCENARIO.replace("PROFILE", PROFILE).replace("WORKFLOWS", str(workflows))
    text = text.replace("TOPICS", str(topics))
    return parse_scenario(
        text.replace("PERMITS", str(permits)).replace("BRANCHES", str(BRANCHES)), "benchmark"
    )


def whole(permits: int, distinct: bool = False, records: RecordsKept = "full") -> Cost:
    """Play one trial as a run does."""
    read = scenario(permits, distinct).model_copy(update={"records": records})
    (cell,) = cells.expand(read)
    profile = load_profile(PROFILE).as_dict()
    setting = RunProgress(read, run_of(read, profile))
    gc.collect()
    began = time.process_time()
    played = play(setting, Task(0, cell, 0), opening(setting), lambda _: None)
    seconds = time.process_time() - began
    return Cost(len(played.records().calls), seconds)


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


def run_of(read: Scenario, profile: dict[str, object]) -> Run:
    """Return a run of a scenario that has just begun."""
    return Run(
        schema=SCHEMA, run_id="0" * 32, name=read.name, status="running",
        anchor=Anchor(unix_ns=0, monotonic_ns=0), seed=0, simulated=True, time_scale=1.0,
        cells=cells.expand(read), repeats=1, order=(), scenario=read.as_dict(), profile=profile,
        versions={}, host={}, virtual=True,
    )  # fmt: skip


def main() -> int:
    """Print what a call costs and return the exit code."""
    for kept in get_args(RecordsKept):
        whole(8, records=kept)  # what is made once is made
    print("simulated, in virtual time; microseconds of processor time a call")
    print("in flight  floor  full records  summary  own topics")
    costs = {permits: _costs(permits) for permits in IN_FLIGHT}
    scale = REFERENCE_FLOOR / median(cost["floor"] for cost in costs.values())
    print(f"calls a CPU-second on a core where the floor is {REFERENCE_FLOOR}:")
    print("in flight  full records  summary")
    is_fast = True
    for permits, cost in costs.items():
        scaled = {kept: 1e6 / (cost[kept] * scale) for kept in LEAST_PER_SECOND}
        is_fast &= all(scaled[kept] >= least for kept, least in LEAST_PER_SECOND.items())
        print(f"{permits:>9,} {scaled['full']:13,.0f} {scaled['summary']:8,.0f}")
    growth = costs[10_000]["full"] / costs[64]["full"]
    print(f"a call among 10,000 costs {growth:.2f} times one among 64")
    return 0 if is_fast and growth <= MOST_GROWTH else 1


def _costs(permits: int) -> dict[str, float]:
    """Measure and print the microseconds of a call."""
    rounds = [
        {
            "floor": floor(permits, LEAST_CALLS).each,
            "full": whole(permits).each,
            "summary": whole(permits, records="summary").each,
            "own": whole(permits, distinct=True).each,
        }
        for _ in range(ROUNDS)
    ]
    cost = {name: median(one[name] for one in rounds) for name in rounds[0]}
    print(
        f"{permits:>9,} {cost['floor']:6.0f} {cost['full']:13.0f} {cost['summary']:8.0f} "
        f"{cost['own']:11.0f}",
        flush=True,
    )
    return cost


if __name__ == "__main__":
    sys.exit(main())
