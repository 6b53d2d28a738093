"""Processor time of a call of a program that uses the openai package: alone, and in a run.

    python -m benchmarks.program [--rounds 5]

The program asks 8 calls at once. Alone, it has the package's AsyncOpenAI on aiohttp and a semaphore
of its own, in uvloop; in a run, the harness takes over its requests. Both take turns, each in a
process of its own, against one simulated provider. The first of three repeats is left out, because
it loads modules. Simulated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import uvloop

from harness.endpoints.subprocess_server import serving

CALLS = 200
AT_ONCE = 8
REPEATS = 3
PROGRAM = "benchmarks.program:main"
SCENARIO = """
name = "program"
[workflow]
kind = "program"
program = "{program}"
topics = ["ocean tides"]
[load]
warmup_calls = 0
[sweep]
mode = ["async"]
permits = [{permits}]
repeats = {repeats}
[endpoint]
kind = "openai"
model = "simulated"
cache = "keep"
settle = "0s"
base_url = "{base_url}"
"""


async def main(client: openai.AsyncOpenAI, topic: str) -> None:
    """Ask the model as often as it is measured: the program."""

    async def ask() -> None:
        await client.chat.completions.create(
            model="simulated", messages=[{"role": "user", "content": f"Topic: {topic}"}]
        )

    await asyncio.gather(*(ask() for _ in range(CALLS)))


async def _alone(base_url: str) -> None:
    http = openai.DefaultAioHttpClient(trust_env=False)
    limit = asyncio.Semaphore(AT_ONCE)

    async def limited(request: Any) -> None:
        await limit.acquire()

    async def ended(response: Any) -> None:
        await response.aread()
        limit.release()

    http.event_hooks = {"request": [limited], "response": [ended]}
    async with openai.AsyncOpenAI(
        api_key="none", base_url=base_url, max_retries=0, http_client=http
    ) as client:
        await main(client, "ocean tides")


def alone(base_url: str) -> Iterator[float]:
    """Yield microseconds a call of each repeat but the first, without the harness."""
    for number in range(REPEATS):
        before = time.process_time_ns()
        uvloop.run(_alone(base_url))
        if number > 0:
            yield (time.process_time_ns() - before) / CALLS / 1000


def _alone_in_process(base_url: str) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.program", "--alone", base_url]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=_environment())
    values: list[float] = json.loads(found.stdout)
    return values


def in_run(base_url: str) -> list[float]:
    """Return microseconds a call of each repeat but the first, in a run."""
    with tempfile.TemporaryDirectory() as folder:
        scenario, out = Path(folder) / "scenario.toml", Path(folder) / "out"
        scenario.write_text(
            SCENARIO.format(program=PROGRAM, permits=AT_ONCE, repeats=REPEATS, base_url=base_url)
        )
        command = [sys.executable, "-m", "harness", "run", str(scenario), "--out", str(out)]
        subprocess.run(
            [*command, "--quiet", "--yes"],
            check=True,
            stdout=subprocess.DEVNULL,
            env=_environment(),
        )
        attempts = (out / "attempts.jsonl").read_text().splitlines()
        assert len(attempts) == CALLS * REPEATS, f"{len(attempts)} attempts"
        trials = map(json.loads, (out / "trials.jsonl").read_text().splitlines())
        return [trial["cpu"] / CALLS / 1000 for trial in trials if trial["repeat"] > 0]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "NO_PROXY": "*"}


def measure() -> int:
    """Measure in rounds and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone is not None:
        print(json.dumps(list(alone(options.alone))))
        return 0
    plain: list[float] = []
    hosted: list[float] = []
    provider = ["serve", "streams", "--json", "--until-stdin-closes", "--port", "0"]
    provider += ["--time-scale", "0.1", "--set", 'ttft.median = "10ms"']
    with serving("the simulated provider", "harness", provider) as base_url:
        for _ in range(options.rounds):
            plain += _alone_in_process(base_url)
            hosted += in_run(base_url)
    more = [one - other for one, other in zip(hosted, plain, strict=True)]
    ratio = [one / other for one, other in zip(hosted, plain, strict=True)]
    print(f"{options.rounds} rounds of 2 repeats of {CALLS} calls, simulated provider")
    for name, values in (("alone", plain), ("in a run", hosted), ("difference", more)):
        print(f"{name:>12}: {statistics.median(values):6.0f} us a call")
    print(f"{'ratio':>12}: {statistics.median(ratio):6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(measure())
