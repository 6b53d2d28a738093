"""What it costs that the records of a trial are on the disk before the trial is. Simulated.

    python -m benchmarks.durability [--rounds 20] [--folder .]

Writes the records of a trial of 500 calls one by one, as a run in real time does, and then the
trial: once with fsync before and after it, and once without, in turns, into the same folder. Prints
the medians of the time after the last record, which is outside of the measured time of a run, and
of the whole.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario_file import parse_scenario
from harness.bench.virtual import Task, opening, play
from harness.records.clock import Anchor
from harness.records.schema import SCHEMA, Run
from harness.simulator.profiles import load_profile
from harness.store.run_directory import TrialRecords, Writer

SCENARIO = """
name = "durability"
[workflow]
topics = ["tides", "seed banks", "tram depots", "mosses"]
sub_questions = 8
[endpoint]
profile = "deepseek-reasoner"
time = "virtual"
[load]
workflows = 50
in_flight = 8
[sweep]
permits = [16]
"""


class Times(NamedTuple):
    """Seconds: of the whole, and after the last record."""

    whole: float
    end: float


def played() -> TrialRecords:
    """Return the records of one trial."""
    scenario = parse_scenario(SCENARIO, "durability")
    (cell,) = cells.expand(scenario)
    run = Run(
        schema=SCHEMA, run_id="0" * 32, name="", status="running",
        anchor=Anchor(unix_ns=0, monotonic_ns=0), seed=scenario.seed, simulated=True, virtual=True,
        time_scale=1.0, cells=(cell,), repeats=1, order=((cell.id,),),
        scenario=scenario.as_dict(), profile=load_profile("deepseek-reasoner", {}).as_dict(),
        versions={}, host={},
    )  # fmt: skip
    begun = RunProgress(scenario, run)
    return play(begun, Task(0, cell, 0), opening(begun), lambda _: None).records()


def written(records: TrialRecords, folder: Path, *, is_synced: bool) -> Times:
    """Write a trial into a directory of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        writer = Writer(Path(directory))
        with writer:
            began = time.perf_counter()
            for kind in (records.attempts, records.calls, records.workflows):
                for record in kind:
                    writer.append(record)
            last = time.perf_counter()
            if is_synced:
                writer.sync()
            writer.append(records.trial)
            if is_synced:
                writer.sync()
            ended = time.perf_counter()
    return Times(ended - began, ended - last)


def main() -> int:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durability")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    records = played()
    found: dict[bool, list[Times]] = {True: [], False: []}
    for _ in range(options.rounds):
        for is_synced in random.sample((True, False), 2):
            found[is_synced].append(written(records, options.folder, is_synced=is_synced))
    print(f"simulated: {len(records.calls)} calls, {len(records.attempts)} attempts a trial")
    for is_synced, name in ((True, "with fsync"), (False, "without")):
        whole, end = (median(times) * 1000 for times in zip(*found[is_synced], strict=True))
        print(f"{name:10}  {end:7.2f} ms after the last record  {whole:7.1f} ms in all")
    pairs = zip(found[True], found[False], strict=True)
    cost = median(one.end - other.end for one, other in pairs) * 1000
    print(f"fsync costs {cost:.1f} ms a trial (median of {options.rounds} pairs)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
