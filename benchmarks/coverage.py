"""How often intervals cover the truth and comparisons err, over many whole runs in virtual time.

    python -m benchmarks.coverage [LOAD ...] [--runs N] [--jobs N]

Every run has five repeats and is analysed as `harness run` does it. Every figure of a cell that has
an interval is counted. The truth of a figure is what independent runs of the same length and
warm-up rule say on average: the mean of the estimates of all runs, geometric where they are.
Each run is compared with the run of the next seed (A/A), and with itself played again.

A figure fails if the 99.9 % upper bound of its coverage is below 93 %; a load fails if the 99.9 %
lower bound of the share of comparisons that call anything changed is above 5 %. Loads in `SHOWN`
must show each interval in 90 % of the runs that have the figure. Ends with 1 if anything fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
from scipy import special

from harness.analysis.cells import MeasuredCell
from harness.analysis.compare import compare_runs
from harness.analysis.metrics import summarise_cell
from harness.analysis.model import Figure
from harness.analysis.selection import Dataset
from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.bench.virtual import Task, opening, play
from harness.records.clock import Anchor
from harness.records.schema import Attempt, Call, Run
from harness.simulator.profiles import load_profile
from harness.store.run_directory import Records

LEAST_COVERAGE, LEAST_SHOWN, MOST_CALLED = 0.93, 0.90, 0.05
CHUNK = 50
"""The number of runs that a process plays at a time; it plays two more for the comparisons."""

SCENARIO = """
name = "coverage"
seed = SEED
[workflow]
topics = TOPICS
sub_questions = 1
[endpoint]
profile = "deepseek-reasoner"
time = "virtual"
[endpoint.override]
tokens_per_chunk = 20
itl_b = "PER_REQUEST"
reasoning_tokens = { median = 60, sigma = 0.6 }
answer_tokens = { median = 60, sigma = 0.4 }
phases.decompose.reasoning_tokens = { median = 60, sigma = 0.6 }
phases.synthesize.reasoning_tokens = { median = 60, sigma = 0.6 }
phases.synthesize.answer_tokens = { median = 100, sigma = 0.4 }
[[endpoint.faults]]
kind = "unavailable"
FAULT
[load]
workflows = WORKFLOWS
LOAD
[sweep]
mode = MODES
permits = [8]
retry = ["patient"]
repeats = 5
[objective]
minimise = "OBJECTIVE"
[retry.patient]
kind = "exponential"
attempts = ATTEMPTS
base = "1s"
cap = "20s"
"""
PER_SECOND = 8 / 21.2
"""Workflows a second that keep eight permits busy: each holds one for 21.2 s on average."""


class Load(NamedTuple):
    """What the runs of a load have in common. `arrivals`: as a share of `PER_SECOND`.

    `per_request`: how much longer a token takes for each other request.
    """

    workflows: int
    arrivals: float | None = None
    fault: str = "probability = 0.1"
    attempts: int = 2
    per_request: str = "0ms"


LOADS = {
    "closed": Load(24, per_request="1ms"),
    "open 50 %": Load(100, 0.5),
    "open 85 %": Load(100, 0.85),
    "open 95 %": Load(100, 0.95),
    "bursts": Load(80, fault='burst = { on = "5s", off = "25s" }', attempts=4),
}
SHOWN = ("closed", "open 50 %", "open 85 %")
SELDOM = ("permit_wait_s", "client_wait_s", "success_latency_p50_s")
"""Figures that often have no bounds: waits that are 0 for most attempts, and a latency that has
them only where all workflows succeeded, and then those of `workflow_latency_s.p50`.
"""
ARITHMETIC = (".mean", "success_rate", "calls_lost")
"""The figures that are not geometric means."""


class Bounds(NamedTuple):
    """A figure of one run; None where it has no interval."""

    value: float
    low: float | None
    high: float | None


class Observed(NamedTuple):
    """What one run says: its figures by name, and what each comparison called changed."""

    figures: dict[str, Bounds]
    other_seed: tuple[str, ...]
    same_seed: tuple[str, ...]


class Coverage(NamedTuple):
    """How often the interval of a figure covers `truth`; `width`: relative to the estimate."""

    name: str
    truth: float
    runs: int
    shown: int
    covered: int
    width: float

    def fails(self, load: str) -> str:
        """Return why the figure fails, nothing if it holds."""
        if self.shown and upper_bound(self.covered, self.shown) < LEAST_COVERAGE:
            return "covers too seldom"
        must = load in SHOWN and not self.name.startswith(SELDOM)
        if must and self.shown < LEAST_SHOWN * self.runs:
            return "shown too seldom"
        return ""


def upper_bound(good: int, tried: int) -> float:
    """Return the one-sided 99.9 % upper bound of a share (Clopper and Pearson)."""
    return 1.0 if good == tried else float(special.betaincinv(good + 1, tried - good, 0.999))


def lower_bound(good: int, tried: int) -> float:
    """Return the one-sided 99.9 % lower bound of a share."""
    return 1 - upper_bound(tried - good, tried)


def scenario(name: str, seed: int) -> Scenario:
    """Return the scenario of a load."""
    load = LOADS[name]
    rate = f"per_second = {(load.arrivals or 0) * PER_SECOND:.4f}"
    values = {
        "SEED": seed,
        "TOPICS": [f"topic {number}" for number in range(load.workflows)],
        "WORKFLOWS": load.workflows,
        "FAULT": load.fault,
        "PER_REQUEST": load.per_request,
        "ATTEMPTS": load.attempts,
        "LOAD": f'arrivals = {{ process = "poisson", {rate} }}'
        if load.arrivals
        else "in_flight = 12",
        "MODES": '["sync", "async"]' if name == "closed" else '["async"]',
        "OBJECTIVE": "workflow_p95" if load.arrivals else "makespan",
    }  # fmt: skip
    text = SCENARIO
    for key, value in values.items():
        text = text.replace(f"= {key}\n", f"= {value}\n").replace(f'"{key}"', f'"{value}"')
        text = text.replace(f"\n{key}\n", f"\n{value}\n")
    return parse_scenario(text, "coverage")


def played(read: Scenario) -> Records:
    """Return the records of a whole run in virtual time; nothing is written."""
    endpoint: Any = read.endpoint
    profile = load_profile(endpoint.profile, endpoint.overrides).as_dict()
    setting = RunProgress(read, _run(read, profile))
    attempts, calls = list[Attempt](), list[Call]()
    records = Records(setting.run, attempts, calls, [], [], None)
    for cell in setting.run.cells:
        for repeat in range(read.sweep.most_repeats):
            one = play(setting, Task(repeat, cell, repeat), opening(setting), lambda _: None)
            mine = one.records()
            records.trials.append(mine.trial)
            attempts += mine.attempts
            calls += mine.calls
            records.workflows.extend(mine.workflows)
    return records


def _run(read: Scenario, profile: dict[str, Any]) -> Run:
    return Run(
        schema=1, run_id="0" * 32, name=read.name, status="complete",
        anchor=Anchor(unix_ns=0, monotonic_ns=0), seed=read.seed, simulated=True, time_scale=1.0,
        cells=cells.expand(read), repeats=read.sweep.most_repeats, order=(),
        scenario=read.as_dict(),
        profile=profile, versions={}, host={}, virtual=True,
    )  # fmt: skip


def figures(value: Any, name: str) -> Iterator[tuple[str, Bounds]]:
    """Yield every figure below a value of the summary, by its dotted name."""
    if isinstance(value, Figure):
        yield name, Bounds(value.value, value.low, value.high)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from figures(inner, f"{name}.{key}")
    elif isinstance(value, msgspec.Struct):
        for key in value.__struct_fields__:
            yield from figures(getattr(value, key), f"{name}.{key}" if name else key)


def called(base: Records, new: Records) -> tuple[str, ...]:
    """Return the quantities that a comparison calls changed."""
    found = compare_runs(base, new).cells
    return tuple(name for cell in found for name, one in cell.changes.items() if one.called)


def observe(task: tuple[str, int]) -> list[Observed]:
    """Return what some runs of a load say, from this seed on."""
    load, first = task
    runs = [Dataset.of(played(scenario(load, first + at))) for at in range(CHUNK + 1)]
    again = called(runs[0], Dataset.of(played(scenario(load, first))))
    seen = []
    for one, other in pairwise(runs):
        *sync, cell = one.cells.values()
        summary = summarise_cell(MeasuredCell(cell, sync=sync[0] if sync else None))
        seen.append(Observed(dict(figures(summary, "")), called(one, other), again))
    return seen


def coverage(seen: Sequence[Observed]) -> Iterator[Coverage]:
    """Yield the coverage of each figure that any run has."""
    for name in dict.fromkeys(name for one in seen for name in one.figures):
        found = [one.figures[name] for one in seen if name in one.figures]
        values = np.array([one.value for one in found])
        is_geometric = values.min() > 0 and not name.endswith(ARITHMETIC)
        truth = float(np.exp(np.log(values).mean()) if is_geometric else values.mean())
        shown = [(low, high) for _, low, high in found if low is not None and high is not None]
        # What all runs say differs in the last digits from equal values.
        covered = sum(
            low <= truth * (1 + 1e-9) and truth * (1 - 1e-9) <= high for low, high in shown
        )
        widths = [high - low for low, high in shown]
        width = float(np.median(widths)) / truth if widths and truth else 0.0
        yield Coverage(name, truth, len(found), len(shown), covered, width)


def judge(load: str, seen: Sequence[Observed]) -> bool:
    """Print what the runs of a load say and return whether all of it holds."""
    print(f"{load}: {len(seen)} runs, all in percent")
    print(f"  {'figure':<42}{'covers':>8}{'bound':>8}{'shown':>8}{'width':>8}")
    holds = True
    for one in coverage(seen):
        why = one.fails(load)
        holds &= not why
        share = f"{100 * one.covered / one.shown:8.1f}" if one.shown else f"{'-':>8}"
        bound = f"{100 * upper_bound(one.covered, one.shown):8.1f}" if one.shown else f"{'-':>8}"
        shown = f"{100 * one.shown / one.runs:8.1f}"
        print(f"  {one.name:<42}{share}{bound}{shown}{100 * one.width:8.1f}  {why}".rstrip())
    for what, lists in (
        ("another seed", [one.other_seed for one in seen]),
        ("the same seed", [one.same_seed for one in seen[::CHUNK]]),
    ):
        any_called = sum(map(bool, lists))
        wrong = lower_bound(any_called, len(lists)) > MOST_CALLED
        holds &= not wrong
        count = len(lists)
        names = dict.fromkeys(name for found in lists for name in found)
        each = ", ".join(f"{n} {100 * sum(n in x for x in lists) / count:.1f}" for n in names)
        print(
            f"  A/A, {what}: {100 * any_called / count:.1f} % of {count} comparisons call a change"
            f" ({each or 'none'}){'  called too often' if wrong else ''}",
            flush=True,
        )
    return holds


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the coverage under each load and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("loads", nargs="*", metavar="LOAD", help=f"of {', '.join(LOADS)}")
    parser.add_argument("--runs", type=int, default=2000, help="of each load (default 2000)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.loads) - set(LOADS):
        parser.error(f"unknown load: {', '.join(unknown)}; known: {', '.join(LOADS)}")
    holds = True
    with ProcessPoolExecutor(asked.jobs) as pool:
        for load in asked.loads or LOADS:
            tasks = [(load, first) for first in range(0, asked.runs, CHUNK)]
            seen = list[Observed]()
            for chunk in pool.map(observe, tasks):
                seen += chunk
                print(f"{load}: {len(seen)} of {asked.runs} runs", file=sys.stderr, flush=True)
            holds &= judge(load, seen)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
