"""How often the statistics are right, over many simulated runs of named scenarios. Virtual time.

    python -m benchmarks.coverage [RUNS [SCENARIO ...]]

Every run is a whole one: closed loop, permits, retries, five repeats of sync, of async and of async
against a provider that is 20 % slower. The truth is what all runs together say. Ends with 1 when an
interval covers, or a comparison is wrong, less often or more often than docs/statistics.md says.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.analysis.cells import makespan
from harness.analysis.model import Figure
from harness.analysis.selection import CellRecords, Dataset
from harness.analysis.significance import (
    LEVEL,
    Difference,
    Successes,
    by_repeats,
    by_workflows,
    is_called,
    of_shares,
)
from harness.analysis.statistics import describe, over_repeats, sample
from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario, parse_scenario
from harness.bench.virtual import Task, opening, play
from harness.records.clock import SECOND, Anchor
from harness.records.failures import OK
from harness.records.schema import Attempt, Call, Run
from harness.simulator.profiles import load_profile
from harness.store.run_directory import Records

REPEATS = 5
TOPICS = {"calm": 16, "few topics": 4, "faulty": 16}
"""So many different ones for 16 workflows."""
FEW = 3
SCENARIO = """
name = "NAME"
seed = SEED
[workflow]
topics = TOPICS
sub_questions = 3
[endpoint]
profile = "PROFILE"
time = "virtual"
OVERRIDE
[load]
workflows = 16
in_flight = 4
[sweep]
mode = ["MODE"]
permits = [8]
retry = ["patient"]
repeats = 5
[retry.patient]
kind = "exponential"
attempts = 6
base = "1s"
cap = "20s"
MORE
"""
FAULTS = """
[[endpoint.faults]]
kind = "unavailable"
probability = 0.1
"""
NAMED = {
    "calm": ("deepseek-reasoner", ""),
    "few topics": ("deepseek-reasoner", ""),
    "faulty": ("deepseek-reasoner", FAULTS),
}
"""Profile and what else the scenario says, by name.

A profile in which topics differ (`topic_sigma`) draws other topics for each seed: its runs are not
equal, and what they say together is the truth of none of them.
"""


class Seen(NamedTuple):
    """What one run of one cell says.

    `latencies`: of workflows, with repeat and cluster; `calls`: their latencies with the cluster.
    """

    makespans: dict[int, float]
    latencies: list[tuple[int, int, float]]
    calls: list[tuple[int, float]]
    good: int
    tried: int


class Judged(NamedTuple):
    """One claim: how often it held, in how many cases, and between which shares it must."""

    claim: str
    share: float
    cases: int
    least: float
    most: float

    @property
    def holds(self) -> bool:
        """Whether the share is where it should be; chance may take it three errors outside."""
        if not self.cases:
            return True  # nothing was claimed
        slack = 3 * math.sqrt(max(self.share * (1 - self.share), 1e-4) / max(self.cases, 1))
        return self.least - slack <= self.share <= self.most + slack


def scenario(name: str, mode: str, seed: int, override: str = "") -> Scenario:
    """Return a named scenario."""
    profile, more = NAMED[name]
    text = (
        SCENARIO.replace("NAME", name.replace(" ", "-"))
        .replace("SEED", str(seed))
        .replace("MODE", mode)
    )
    text = text.replace("PROFILE", profile).replace("OVERRIDE", override)
    text = text.replace("TOPICS", str([f"topic {number}" for number in range(TOPICS[name])]))
    return parse_scenario(text.replace("MORE", more), "coverage")


def slower(name: str) -> str:
    """Return the override that makes the provider of a scenario a fifth slower."""
    profile = load_profile(NAMED[name][0])
    times = {
        "itl_a": profile.itl_a, "itl_b": profile.itl_b, "itl_c": profile.itl_c,
        '"ttft.median"': profile.ttft.median,
    }  # fmt: skip
    return f"override = {{ {', '.join(f'{key} = {1.2 * at!r}' for key, at in times.items())} }}"


def run(read: Scenario) -> Seen:
    """Play all repeats of a scenario of one cell."""
    (found,) = Dataset.of(played(read)).cells.values()
    return _seen(found)


def played(read: Scenario) -> Records:
    """Return the records of a whole run in virtual time; nothing is written."""
    endpoint: Any = read.endpoint
    profile = load_profile(endpoint.profile, endpoint.overrides).as_dict()
    setting = RunProgress(read, _run(read, profile))
    attempts, calls = list[Attempt](), list[Call]()
    records = Records(setting.run, attempts, calls, [], [], None)
    for cell in setting.run.cells:
        for repeat in range(read.sweep.repeats):
            one = play(setting, Task(repeat, cell, repeat), opening(setting), lambda _: None)
            mine = one.records()
            records.trials.append(mine.trial)
            attempts += mine.attempts
            calls += mine.calls
            records.workflows.extend(mine.workflows)
    return records


def _seen(cell: CellRecords) -> Seen:
    clusters = cell.clusters
    return Seen(
        {trial.repeat: makespan(trial) for trial in cell.whole_trials()},
        [
            (w.repeat, clusters[w.repeat, w.workflow], (w.done - w.ready) / SECOND)
            for w in cell.workflows
        ],
        [(clusters[c.repeat, c.workflow], (c.done - c.ready) / SECOND) for c in cell.calls],
        sum(workflow.outcome == OK for workflow in cell.workflows),
        len(cell.workflows),
    )


def _run(read: Scenario, profile: dict[str, Any]) -> Run:
    return Run(
        schema=1, run_id="0" * 32, name=read.name, status="running",
        anchor=Anchor(unix_ns=0, monotonic_ns=0), seed=read.seed, simulated=True, time_scale=1.0,
        cells=cells.expand(read), repeats=read.sweep.repeats, order=(), scenario=read.as_dict(),
        profile=profile, versions={}, host={}, virtual=True,
    )  # fmt: skip


def _covered(
    claim: str, figures: Sequence[Figure | None], truth: float, least: float, most: float
) -> Judged:
    told = [
        figure.low <= truth <= figure.high
        for figure in figures
        if figure is not None and figure.low is not None and figure.high is not None
    ]
    return Judged(claim, sum(told) / max(len(told), 1), len(told), least, most)


def intervals(base: Sequence[Seen]) -> Iterator[Judged]:
    """Yield how often the intervals of latencies hold what all runs together say."""
    kinds: dict[str, Callable[[Seen], tuple[list[int], list[float]]]] = {
        "workflow latency": lambda s: (
            [c for _, c, _ in s.latencies],
            [v for *_, v in s.latencies],
        ),
        "call latency": lambda s: ([c for c, _ in s.calls], [value for _, value in s.calls]),
    }
    for what, of in kinds.items():
        every = np.concatenate([of(seen)[1] for seen in base])
        described = [describe(sample(values, clusters)) for clusters, values in map(of, base)]
        for name, p in (("p50", 0.5), ("p95", 0.95)):
            truth = float(np.quantile(every, p))
            figures = [getattr(one, name) for one in described]
            yield _covered(f"{what}, {name}", figures, truth, 0.94, 1.0)
        means = [one.mean for one in described]
        yield _covered(f"{what}, mean", means, float(every.mean()), 0.92, 0.98)


def speedups(sync: Sequence[Seen], base: Sequence[Seen]) -> Iterator[Judged]:
    """Yield how often the interval of the speed-up holds the true one."""
    ratios = [
        [one.makespans[r] / other.makespans[r] for r in range(REPEATS)]
        for one, other in zip(sync, base, strict=True)
    ]
    truth = math.exp(float(np.log(np.array(ratios)).mean()))
    for repeats in (FEW, REPEATS):
        figures = [over_repeats(row[:repeats]) for row in ratios]
        yield _covered(f"speed-up over {repeats} repeats", figures, truth, 0.92, 0.98)


def _first(values: Mapping[int, float], repeats: int) -> dict[int, float]:
    return {repeat: value for repeat, value in values.items() if repeat < repeats}


def _p50s(seen: Seen, repeats: int) -> dict[int, float]:
    parts: dict[int, list[float]] = {repeat: [] for repeat in range(repeats)}
    for repeat, _, value in seen.latencies:
        if repeat < repeats:
            parts[repeat].append(value)
    return {
        repeat: float(np.quantile(mine, 0.5, method="inverted_cdf"))
        for repeat, mine in parts.items()
    }


def _compared(
    one: Seen, other: Seen, repeats: int, *, paired: bool
) -> dict[str, Difference | None]:
    return {
        "makespan": by_repeats(
            _first(one.makespans, repeats), _first(other.makespans, repeats), paired=paired
        ),
        "workflow_p50": by_repeats(_p50s(one, repeats), _p50s(other, repeats), paired=paired),
    }


def comparisons(
    title: str,
    base: Sequence[Seen],
    new: Sequence[Seen],
    least: float,
    most: float,
    *,
    paired: bool,
) -> Iterator[Judged]:
    """Yield how often a change is called between runs of `base` and of `new`."""
    for repeats in (FEW, REPEATS):
        told: dict[str, list[bool]] = {}
        for one, other in zip(base, new, strict=True):
            for name, found in _compared(one, other, repeats, paired=paired).items():
                if found is not None and found.p is not None:
                    told.setdefault(name, []).append(is_called(found.p, found.ranks))
        for name, calls in told.items():
            claim = f"{title}, {name} over {repeats} repeats"
            yield Judged(claim, sum(calls) / len(calls), len(calls), least, most)


def pooled(title: str, base: Sequence[Seen], new: Sequence[Seen], most: float) -> Iterator[Judged]:
    """Yield how often a change is called by single repeats, workflows drawn again, and shares."""
    told: dict[str, list[bool]] = {"workflow_p50, one repeat": [], "success_rate": []}
    for one, other in zip(base, new, strict=True):
        mine, theirs = _of_one_repeat(one), _of_one_repeat(other)
        found = by_workflows(mine, theirs, 0.5, paired=False)
        if found is not None and found.p is not None:
            told["workflow_p50, one repeat"].append(is_called(found.p, None))
        shares = of_shares(
            Successes([one.good], [one.tried]), Successes([other.good], [other.tried])
        )
        if shares is not None and shares.p is not None:
            told["success_rate"].append(is_called(shares.p, None))
    for name, calls in told.items():
        yield Judged(f"{title}, {name}", sum(calls) / len(calls), len(calls), 0.0, most)


def _of_one_repeat(seen: Seen) -> dict[int, list[float]]:
    parts: dict[int, list[float]] = {}
    for repeat, cluster, value in seen.latencies:
        if repeat == 0:
            parts.setdefault(cluster, []).append(value)
    return parts


def judge(name: str, runs: int) -> Iterator[Judged]:
    """Yield every claim about a scenario."""
    base = [run(scenario(name, "async", seed)) for seed in range(runs)]
    sync = [run(scenario(name, "sync", seed)) for seed in range(runs)]
    slow = [run(scenario(name, "async", seed, slower(name))) for seed in range(runs)]
    again = base[1:] + base[:1]
    yield from intervals(base)
    yield from speedups(sync, base)
    yield from comparisons("A/A", base, again, 0.0, LEVEL, paired=False)
    yield from pooled("A/A", base, again, LEVEL)
    yield from comparisons("20 % slower, paired", base, slow, 0.0, 1.0, paired=True)
    yield from comparisons("20 % slower, not paired", again, slow, 0.0, 1.0, paired=False)


def main(arguments: Sequence[str]) -> int:
    """Print what was found and return the exit code."""
    runs = int(arguments[0]) if arguments else 1000
    code = 0
    for name in arguments[1:] or NAMED:
        print(f"{name}: {runs} runs, simulated, in virtual time", flush=True)
        for judged in judge(name, runs):
            code |= not judged.holds
            mark = "" if judged.holds else "  <- not as promised"
            share = f"{100 * judged.share:5.1f} %" if judged.cases else "no interval"
            print(f"  {judged.claim:<52} {share}{mark}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
