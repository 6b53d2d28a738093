"""Processor time of a call of a user's program, against the built-in workflow. Simulated.

    python -m benchmarks.own_function

The research workflow with given questions is played as the built-in one and as a function with the
decorator `harness.workflow`, in turn, in virtual time. Prints microseconds a call and the median of
the ratios of pairs. Ends with 1 if a call of the program costs more than 1.4 times one of the
built-in workflow.
"""

from __future__ import annotations

import gc
import sys
import time
from statistics import median
from typing import Any

import harness
from benchmarks.virtual import run_of
from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.virtual import Task, opening, play
from harness.simulator.profiles import load_profile

PROFILE = "plain-chat"
QUESTIONS = [f"What is part {number} of {{topic}}?" for number in range(8)]
ROUNDS = 15
MOST = 1.4
WORKFLOWS = 200
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


def scenario(kind: str) -> Scenario:
    """Return a scenario; a workflow makes ten calls."""
    return Scenario.model_validate(
        {
            "name": "benchmark",
            "workflow": {"topics": ["tides", "deltas", "bogs", "rain"], **KINDS[kind]},
            "endpoint": {"profile": PROFILE, "time": "virtual"},
            "timeouts": {"call": "24h", "idle": "24h"},
            "load": {"workflows": WORKFLOWS, "in_flight": WORKFLOWS},
            "sweep": {"permits": [64], "retry": ["openai-sdk"]},
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


def main() -> int:
    """Print what a call costs and return the exit code."""
    for kind in KINDS:
        in_virtual_time(kind)  # what is made once is made
    pairs = [(in_virtual_time("built-in"), in_virtual_time("program")) for _ in range(ROUNDS)]
    ratio = median(own / built_in for built_in, own in pairs)
    built_in, own = (min(column) for column in zip(*pairs, strict=True))
    print("simulated, in virtual time; microseconds of processor time a call")
    print("built-in  program  ratio")
    print(f"{built_in:8.0f} {own:8.0f} {ratio:6.2f}")
    return 0 if ratio <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
