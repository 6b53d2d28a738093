"""What summary and report of a long run cost: seconds and memory, by number of attempts. Simulated.

    python -m benchmarks.analysis [ATTEMPTS ...]

One trial is played in virtual time and written down again and again as further repeats, with gaps
between chunks as uneven as on a connection: some 30 buckets an attempt. The floor is a loop of
plain Python, before and after: `QUIET_FLOOR` seconds on a machine that does nothing else. Ends with
1 when a million attempts take 30 s of processor time, in proportion to the floor, or 1 GB, or when
an attempt among the most costs twice what it costs among the fewest.
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from harness.analysis.selection import Dataset
from harness.analysis.summary import write_summary
from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario_file import parse_scenario
from harness.bench.virtual import Task, opening, play
from harness.cli.report import draw
from harness.cli.views import Views
from harness.endpoints.simulated import SimulatedEndpoint
from harness.records.clock import Anchor
from harness.records.histogram import bucket
from harness.records.schema import Attempt, Call, Run, Workflow
from harness.simulator.profiles import load_profile
from harness.store import run_directory

SIZES = (10_000, 100_000, 1_000_000)
MOST_SECONDS = 30.0
MOST_BYTES = 1_000_000_000
QUIET_FLOOR = 0.2
JITTER = 0.04
"""The spread of gaps around their middle, as a share of it."""
SCENARIO = """
name = "long"
[workflow]
topics = TOPICS
sub_questions = 6
[endpoint]
profile = "deepseek-reasoner"
time = "virtual"
[load]
workflows = 64
in_flight = 16
[sweep]
mode = ["async"]
permits = [8, 32]
retry = ["patient"]
[retry.patient]
kind = "exponential"
attempts = 6
[[endpoint.faults]]
kind = "unavailable"
probability = 0.05
"""


class Cost(NamedTuple):
    """Seconds of processor time and the most bytes in memory."""

    attempts: int
    read: float
    summary: float
    report: float
    memory: int
    floor: float

    @property
    def seconds(self) -> float:
        """All of `harness report`."""
        return self.read + self.summary + self.report

    @property
    def quiet_seconds(self) -> float:
        """The same in proportion to the floor."""
        return self.seconds * QUIET_FLOOR / self.floor


def write(directory: Path, attempts: int) -> None:
    """Write a run of at least so many attempts."""
    text = SCENARIO.replace("TOPICS", str([f"topic {number}" for number in range(64)]))
    read = parse_scenario(text, "benchmark")
    endpoint = read.endpoint
    assert isinstance(endpoint, SimulatedEndpoint), "as written above"
    profile = load_profile(endpoint.profile, endpoint.overrides).as_dict()
    swept = cells.expand(read)
    run = Run(
        schema=1, run_id="0" * 32, name=read.name, status="complete",
        anchor=Anchor(unix_ns=0, monotonic_ns=0), seed=0, simulated=True, time_scale=1.0,
        cells=swept, repeats=1, order=(), scenario=read.as_dict(), profile=profile,
        versions={}, host={}, virtual=True,
    )  # fmt: skip
    setting = RunProgress(read, run)
    played = [
        play(setting, Task(number, cell, 0), opening(setting), lambda _: None)
        for number, cell in enumerate(swept)
    ]
    repeats = -(-attempts // sum(one.lines[Attempt].count(b"\n") for one in played))
    run_directory.write_whole(
        directory / run_directory.RUN_FILE, msgspec.structs.replace(run, repeats=repeats)
    )
    written = [
        (_uneven(one.lines[Attempt]), one.lines[Call], one.lines[Workflow]) for one in played
    ]
    with run_directory.Writer(directory) as writer:
        for repeat in range(repeats):
            for one, kinds in zip(played, written, strict=True):
                for kind, lines in zip((Attempt, Call, Workflow), kinds, strict=True):
                    writer.extend(kind, lines.replace(b'"repeat":0', b'"repeat":%d' % repeat))
                writer.append(msgspec.structs.replace(one.trial, repeat=repeat))


def _uneven(lines: bytes) -> bytes:
    """Return attempts with their gaps spread: in virtual time no wire disturbs them."""
    random = np.random.default_rng(0)
    found = [msgspec.json.decode(line, type=Attempt) for line in lines.splitlines()]
    spread = [
        msgspec.structs.replace(
            attempt,
            gaps=Counter(
                bucket(round(name * factor))
                for name, count in attempt.gaps.items()
                for factor in random.normal(1, JITTER, count)
            ),
        )
        for attempt in found
    ]
    return b"".join(msgspec.json.encode(attempt) + b"\n" for attempt in spread)


def measure(directory: Path) -> None:
    """Print what the records in `directory` cost: run in a process of its own."""
    gc.disable()  # as `harness report` does
    before = floor()
    moments = [time.process_time()]
    records = Dataset.read(directory)
    moments.append(time.process_time())
    summary = write_summary(directory, records)
    moments.append(time.process_time())
    draw(summary, records, directory, Views(directory))
    moments.append(time.process_time())
    seconds = [end - start for start, end in pairwise(moments)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    values = [len(records.attempts), *seconds, memory, (before + floor()) / 2]
    print(msgspec.json.encode(values).decode())


def floor() -> float:
    """Return the processor time of a loop that does always the same."""
    start, total = time.process_time(), 0
    for number in range(3_000_000):
        total += number * number % 7
    return time.process_time() - start


def costs(sizes: Sequence[int]) -> Iterator[Cost]:
    """Yield the cost of each size."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), size)
            command = [sys.executable, "-m", "benchmarks.analysis", "--measure", folder]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            values: Any = msgspec.json.decode(said)
            yield Cost(*values)


def main(arguments: Sequence[str]) -> int:
    """Print a line a size and return the exit code."""
    if arguments[:1] == ["--measure"]:
        measure(Path(arguments[1]))
        return 0
    sizes = [int(argument) for argument in arguments] or SIZES
    print("simulated; processor time in seconds, memory in MB")
    print(
        f"{'attempts':>10} {'read':>6} {'summary':>8} {'report':>7} {'memory':>7} {'us each':>8} "
        f"{'floor':>6}"
    )
    found = []
    for cost in costs(sizes):
        found.append(cost)
        print(
            f"{cost.attempts:>10,} {cost.read:6.1f} {cost.summary:8.1f} {cost.report:7.1f} "
            f"{cost.memory / 1e6:7.0f} {1e6 * cost.seconds / cost.attempts:8.1f} "
            f"{cost.floor:6.2f}",
            flush=True,
        )
    most = found[-1]
    fewest = found[0]
    grown = (most.quiet_seconds / most.attempts) / (fewest.quiet_seconds / fewest.attempts)
    too_much = most.quiet_seconds > MOST_SECONDS or most.memory > MOST_BYTES
    return int(too_much or grown > 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
