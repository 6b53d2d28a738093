"""Processor time of a call of a user's program, against the built-in workflow. Simulated.

    python -m benchmarks.own_function [--http-rounds 8]

The research workflow with given questions is played as the built-in one and as a function with the
decorator `harness.workflow`, in turn: in virtual time, and over HTTP to the simulated provider in
a process of its own, whose processor time does not count. Prints microseconds a call, and the
median and the range of the ratios of pairs. Ends with 1 if a call of the program costs more than
1.4 times one of the built-in workflow in virtual time, or more than 1.1 times over HTTP.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import harness
from benchmarks.virtual import run_of
from harness.bench import cells, runner
from harness.bench.resume import RunProgress
from harness.bench.runner import Hooks
from harness.bench.scenario import Scenario
from harness.bench.virtual import Task, opening, play
from harness.config.request_settings import Secrets
from harness.simulator.profiles import load_profile
from harness.store.column_reader import read_columns

PROFILE = "plain-chat"
QUESTIONS = [f"What is part {number} of {{topic}}?" for number in range(8)]
ROUNDS = 15
MOST_VIRTUAL = 1.4
MOST_OVER_HTTP = 1.1
WORKFLOWS = 200
WORKFLOWS_OVER_HTTP = 40
SYSTEM = {"role": "system", "content": "You are a careful research assistant."}


@harness.workflow
async def research(ask: Any, topic: str) -> str:
    """Ask, ask eight times in parallel, and ask for a report."""

    def prompt(text: str) -> list[dict[str, str]]:
        return [SYSTEM, {"role": "user", "content": text}]

    await ask("decompose", prompt(f"Break the topic below into exactly 8 parts: {topic}"))
    questions = [question.format(topic=topic) for question in QUESTIONS]
    found = await harness.gather(
        *(ask("fan_out", prompt(f"Topic: {topic}\n\n{question}")) for question in questions),
        enough=1,
        wait_for_all=True,
    )
    findings = "\n\n".join(
        f"Sub-question: {question}\nFinding: {answer}"
        for question, answer in zip(questions, found, strict=True)
    )
    return str(await ask("synthesize", prompt(f"Topic: {topic}\n\n{findings}")))


KINDS: dict[str, dict[str, Any]] = {
    "built-in": {"sub_questions": QUESTIONS},
    "program": {"program": "benchmarks.own_function:research"},
}


def scenario(kind: str, virtual: bool = True) -> Scenario:
    """Return a scenario; a workflow makes ten calls."""
    at = {"time": "virtual"} if virtual else {"time": "real", "time_scale": 0.002}
    count = WORKFLOWS if virtual else WORKFLOWS_OVER_HTTP
    return Scenario.model_validate(
        {
            "name": "benchmark",
            "workflow": {"topics": ["tides", "deltas", "bogs", "rain"], **KINDS[kind]},
            "endpoint": {"profile": PROFILE, **at},
            "timeouts": {"call": "24h", "idle": "24h"},
            "load": {"workflows": count, "in_flight": count if virtual else 4},
            "sweep": {"permits": [64 if virtual else 16], "retry": ["openai-sdk"]},
        }
    )


def in_virtual_time(kind: str) -> float:
    """Play one trial; return microseconds of processor time a call."""
    read = scenario(kind)
    (cell,) = cells.expand(read)
    begun = RunProgress(read, run_of(read, load_profile(PROFILE).as_dict()))
    gc.collect()
    began = time.process_time()
    played = play(begun, Task(0, cell, 0), opening(begun), lambda _: None)
    return (time.process_time() - began) / len(played.records().calls) * 1e6


def over_http(kind: str) -> float:
    """Run one trial; return microseconds of processor time a call, as its record has them."""
    read = scenario(kind, virtual=False)
    (cell,) = cells.expand(read)
    hooks = Hooks(*[lambda *_: None] * len(Hooks._fields))
    profiles = {cell.id: load_profile(PROFILE).as_dict()}
    with tempfile.TemporaryDirectory() as folder:
        runner.run(read, profiles, {cell.id: Secrets("none")}, Path(folder), hooks)
        records = read_columns(Path(folder))
    return sum(trial.cpu for trial in records.trials) / len(records.calls) / 1000


def compare(what: str, cost: Callable[[str], float], rounds: int) -> float:
    """Print what a call costs in pairs of trials, and return the median of the ratios."""
    for kind in KINDS:
        cost(kind)  # what is made once is made
    pairs = []
    for number in range(rounds):
        order = list(KINDS) if number % 2 else list(KINDS)[::-1]
        costs = {kind: cost(kind) for kind in order}
        pairs.append([costs[kind] for kind in KINDS])
    ratios = sorted(own / built_in for built_in, own in pairs)
    built_in, own = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(ratios)
    print(
        f"{what:16}{built_in:8.0f} {own:8.0f} {ratio:6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )
    return ratio


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what a call costs and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http-rounds", type=int, default=8)
    options = parser.parse_args(arguments)
    print("simulated; microseconds of processor time a call, and ratios of pairs")
    print("                built-in  program  ratio (range)")
    virtual = compare("in virtual time", in_virtual_time, ROUNDS)
    http = compare("over HTTP", over_http, options.http_rounds)
    return 0 if virtual <= MOST_VIRTUAL and http <= MOST_OVER_HTTP else 1


if __name__ == "__main__":
    sys.exit(main())
