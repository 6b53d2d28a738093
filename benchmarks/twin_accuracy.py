"""How near a twin's predictions come, on simulated providers. Simulated.

    python -m benchmarks.twin_accuracy [--fits 40] [--first 1] [--only NAME] [--jobs 2]

From one run of at most 300 calls, at two permit counts between its smallest and its largest, with
two retry policies that are not in it, a twin predicts makespan and time to first token. The truth
is the mean of 200 runs at the provider itself, with the same topics and the lengths of the run. The
mechanisms of five providers are in a twin; those of the others are not, and their errors are shown
beside. Prints, for each provider, the median and the 90th percentile of the relative errors, and
how often the intervals cover the truth. Ends with 1 if one of the five has a median error of the
makespan above 5 %, a 90th percentile above 10 %, a median error of the time to first token above
10 %, or intervals that cover the truth in less than 90 % or more than 98 %.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.unmodelled_providers import UNMODELLED
from harness.bench import runner
from harness.bench.cells import expand
from harness.bench.runner import Hooks
from harness.bench.scenario_file import parse_scenario
from harness.simulator.profiles import Profile
from harness.store.column_reader import read_columns
from harness.store.run_directory import Records
from harness.twin.observations import observe
from harness.twin.predict import predict
from harness.twin.predicted_metrics import PREDICTED, values_of
from harness.twin.recorded_lengths import recorded_lengths
from harness.twin.twin_trials import at_twin, play_at_twin, twin_scenario

RUNS = 200
BASE: dict[str, Any] = {
    "name": "known", "description": "a provider", "source": "made up",
    "date": datetime.date(2026, 11, 27),
    "ttft": {"median": "600ms", "sigma": 0.35},
    "itl_a": "20ms",
    "reasoning_tokens": {"median": 120, "sigma": 0.5},
    "answer_tokens": {"median": 100, "sigma": 0.4},
}  # fmt: skip
_KNEE = [(1, "12ms"), (6, "14ms"), (12, "22ms"), (24, "48ms")]
_GROWTH = [(1, 1), (6, 1.5), (16, 4)]
MODELLED: dict[str, dict[str, Any]] = {
    "knee": {
        "itl_a": 0.0,
        "itl_points": [{"requests": n, "itl": itl} for n, itl in _KNEE],
        "ttft": {"median": "400ms", "sigma": 0.3,
                 "growth": [{"requests": n, "factor": by} for n, by in _GROWTH]},
    },
    "cap": {"concurrency_cap": 10},
    "requests a minute": {"requests_per_minute": 100, "burst": "10s", "retry_after": "exact"},
    "slots": {"slots": 8, "itl_a": "5ms", "itl_b": "2ms"},
    "faults": {
        "itl_a": "8ms", "itl_b": "1ms",
        "faults": [{"kind": "server_error", "probability": 0.08},
                   {"kind": "reset_in_body", "probability": 0.04, "at": 0.5}],
    },
}  # fmt: skip
SCENARIO = """
name = "accuracy"
seed = {seed}
[workflow]
topics = {topics}
sub_questions = 4
[endpoint]
kind = "simulated"
time = "virtual"
[load]
workflows = 8
in_flight = 8
[timeouts]
first_token = "2h"
idle = "1h"
call = "3h"
[sweep]
mode = "async"
permits = [2, 8, 24]
retry = ["patient"]
repeats = 2
[retry.patient]
kind = "exponential"
attempts = 6
base = "2s"
cap = "30s"
"""
CHANGES = (
    "sweep.permits=[5, 16]",
    "sweep.retry=['openai-sdk', 'quick']",
    "retry.quick={kind = 'exponential', attempts = 5, base = '500ms', cap = '20s'}",
)
COMPARED = ("makespan", "ttft_p50")


@dataclass(frozen=True)
class Provider:
    """A provider; `playing`: makes virtual time use its mechanism."""

    profile: Mapping[str, Any]
    playing: Callable[[], AbstractContextManager[object]] = nullcontext


def providers() -> dict[str, Provider]:
    """Return all providers, those whose mechanism a twin has first."""
    found = {name: Provider({**BASE, **keys}) for name, keys in MODELLED.items()}
    for name, other in UNMODELLED.items():
        found[name] = Provider(other.profile, other.playing)
    return found


@dataclass(frozen=True)
class Outcome:
    """A prediction and the truth; errors are relative."""

    metric: str
    cell: str
    error: float
    width: float
    is_covered: bool


def run_at(profile: dict[str, Any], seed: int) -> Records:
    """Return the records of a run at a provider."""
    topics = [f"question {seed} about topic {number}" for number in range(8)]
    scenario = parse_scenario(SCENARIO.format(seed=seed, topics=topics), "accuracy")
    profiles = {cell.id: profile for cell in expand(scenario)}
    with tempfile.TemporaryDirectory() as folder:
        hooks = Hooks(*[lambda *_: None] * len(Hooks._fields))
        runner.run(scenario, profiles, {}, Path(folder), hooks)
        return read_columns(Path(folder))


def one_fit(task: tuple[str, int]) -> list[Outcome]:
    """Return what was predicted from one run, and what is true."""
    name, seed = task
    provider = providers()[name]
    profile = Profile.model_validate(dict(provider.profile)).as_dict()
    with provider.playing():
        records = run_at(profile, seed)
    assert len(records.calls) <= 300, "the run is small"
    found = predict([records], CHANGES, seed=seed)
    scenario = at_twin(records.run.scenario, CHANGES, "run.json")
    lengths = recorded_lengths(observe([records])).of_trial
    with provider.playing():
        played = play_at_twin(
            twin_scenario(scenario, profile, records.run), RUNS, 10_000 + seed, lengths
        )
    truth = values_of(played, [one for one in PREDICTED if one.name in COMPARED])
    outcomes = []
    for cell in found.cells:
        for metric in COMPARED:
            value = cell.values[metric]
            real = float(np.mean(list(truth[metric][cell.info.id].values())))
            outcomes.append(Outcome(
                metric, cell.info.id, value.value / real - 1, (value.high - value.low) / real,
                value.low <= real <= value.high,
            ))  # fmt: skip
    return outcomes


def show(name: str, outcomes: Sequence[Outcome]) -> bool:
    """Print one line for each metric; return whether the limits hold."""
    holds = True
    for metric in COMPARED:
        mine = [one for one in outcomes if one.metric == metric]
        errors = np.abs([one.error for one in mine])
        middle, high = np.percentile(errors, [50, 90])
        covered = float(np.mean([one.is_covered for one in mine]))
        bias = float(np.mean([one.error for one in mine]))
        width = float(np.median([one.width for one in mine])) / 2
        print(
            f"{name:24}{metric:10}{len(mine):6}{middle:8.1%}{high:8.1%}{bias:+8.1%}"
            f"{covered:9.1%}{width:8.1%}",
            flush=True,
        )
        most = (0.05, 0.10) if metric == "makespan" else (0.10, 1.0)
        holds &= middle <= most[0] and high <= most[1] and 0.90 <= covered <= 0.98
    return holds


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=40)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--only", action="append", choices=list(providers()))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    print("simulated; relative errors of predictions, and the half width of their intervals")
    print(f"{'provider':24}{'metric':10}{'n':>6}{'median':>8}{'p90':>8}{'bias':>8}"
          f"{'covered':>9}{'width':>8}")  # fmt: skip
    holds = True
    with ProcessPoolExecutor(options.jobs) as pool:
        for name in options.only or providers():
            tasks = [(name, seed) for seed in range(options.first, options.first + options.fits)]
            found = [one for fit in pool.map(one_fit, tasks) for one in fit]
            within = show(name, found)
            holds &= within or name not in MODELLED
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
