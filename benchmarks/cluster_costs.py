"""What a cluster costs at its one scheduler and its one collecting process. Simulated.

    python -m benchmarks.cluster_costs

Starts a Dask scheduler and two workers on this machine, and prints the unit costs from which
docs/cluster.md computes how far one scheduler and one collecting process go: processor time of the
scheduler for a task, for a question to a worker and for a megabyte that passes through it; bytes of
records for an attempt; processor time of the collecting process for an attempt, while a trial runs
and after it; and the memory of a summary.
"""

from __future__ import annotations

import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from harness.bench.cells import expand
from harness.bench.runner import Hooks, run
from harness.bench.scenario_file import parse_scenario
from harness.bench.share_child import RecordPiece
from harness.bench.trial import Tally
from harness.engine.ledger import Amount
from harness.records.schema import Attempt, Call, Record, Workflow
from harness.simulator.profiles import load_profile
from harness.store.run_directory import FILES, Writer, each

TASKS = 2000
QUESTIONS = 400
MEGABYTES = 64
SCENARIO = """
name = "costs"
[workflow]
topics = ["tides", "winds", "rivers"]
[endpoint]
time = "virtual"
[load]
workflows = 3000
in_flight = 32
[sweep]
permits = [32]
"""


@contextmanager
def two_workers(folder: Path) -> Iterator[Client]:
    """Start a scheduler and two workers as processes of their own."""
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    dask = [sys.executable, "-m", "dask"]
    commands = [
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *common],
        [*dask, "worker", "--nworkers", "2", "--nthreads", "1", *common],
    ]
    started = [
        subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folder) for command in commands
    ]
    try:
        while not file.exists():
            time.sleep(0.1)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2)
            yield client
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def clock_costs(client: Client) -> None:
    """Print how long a question to a worker takes, in real time."""
    worker = next(iter(client.nthreads()))
    took = []
    for _ in range(QUESTIONS):
        began = time.perf_counter()
        client.run(time.monotonic_ns, workers=[worker])
        took.append(time.perf_counter() - began)
    print(f"round trip to a worker        {statistics.median(took) * 1e6:8.0f} us (median)")


def cpu_of_scheduler(client: Client) -> float:
    """Return the processor seconds of the scheduler so far."""
    seconds: float = client.run_on_scheduler(time.process_time)
    return seconds


def nothing(number: int) -> bytes:
    """Do nothing, as a task."""
    return b""


def megabyte(number: int) -> bytes:
    """Return a megabyte."""
    return os.urandom(1 << 20)


def scheduler_costs(client: Client) -> None:
    """Print what the scheduler takes."""
    client.gather([client.submit(nothing, -1, pure=False)])
    before = cpu_of_scheduler(client)
    client.gather([client.submit(nothing, number, pure=False) for number in range(TASKS)])
    each_us = (cpu_of_scheduler(client) - before) / TASKS * 1e6
    print(f"scheduler, a task             {each_us:8.0f} us")
    worker = next(iter(client.nthreads()))
    before, mine = cpu_of_scheduler(client), time.process_time()
    for _ in range(QUESTIONS):
        client.run(time.monotonic_ns, workers=[worker])
    mine = (time.process_time() - mine) / QUESTIONS * 1e6
    each_us = (cpu_of_scheduler(client) - before) / QUESTIONS * 1e6
    print(f"scheduler, a question         {each_us:8.0f} us")
    print(f"collector, a question         {mine:8.0f} us")
    before = cpu_of_scheduler(client)
    for number in range(MEGABYTES):
        client.submit(megabyte, number, pure=False).result()
    each_us = (cpu_of_scheduler(client) - before) / MEGABYTES * 1e6
    print(f"scheduler, a megabyte         {each_us:8.0f} us")


def recorded(folder: Path) -> int:
    """Play a run into `folder`, and return the number of its attempts."""
    scenario = parse_scenario(SCENARIO, "costs")
    profile = load_profile("deepseek-reasoner").as_dict()
    profiles = {cell.id: profile for cell in expand(scenario)}
    run(scenario, profiles, {}, folder, Hooks(*[lambda *_: None] * len(Hooks._fields)))
    return sum(1 for _ in each(folder, Attempt))


def collector_costs(folder: Path) -> None:
    """Print what the collecting process takes for the attempts of a run."""
    whole, copy = folder / "whole", folder / "copy"
    whole.mkdir()
    copy.mkdir()
    before = time.process_time()
    attempts = recorded(whole)
    played = (time.process_time() - before) / attempts * 1e6
    print(f"played, an attempt            {played:8.0f} us")
    kinds: tuple[type[Record], ...] = (Attempt, Call, Workflow)
    lines = {kind: (whole / FILES[kind]).read_bytes() for kind in kinds}
    size = sum(map(len, lines.values()))
    print(f"records of an attempt         {size / attempts:8.0f} bytes")
    pieces = [
        pickle.dumps(RecordPiece({kind: part}, Tally(), 0, Amount()))
        for kind, text in lines.items()
        for part in _parts(text, 64 * 1024)
    ]
    with Writer(copy) as writer:
        before = time.process_time()
        for piece in pieces:
            taken: RecordPiece = pickle.loads(piece)
            for kind, part in taken.lines.items():
                writer.extend(kind, part)
        after = time.process_time()
    print(f"collector, an attempt         {(after - before) / attempts * 1e6:8.1f} us")
    before = time.process_time()
    read = [list(each(copy, kind)) for kind in kinds]
    after = time.process_time()
    print(f"after a trial, an attempt     {(after - before) / attempts * 1e6:8.1f} us")
    read.clear()
    command = [sys.executable, "-c", _SUMMARY, str(whole)]
    seconds, base, peak = subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.split()
    print(f"summary, an attempt           {float(seconds) / attempts * 1e6:8.1f} us")
    memory = (int(peak) - int(base)) * 1024 / attempts
    print(f"summary, memory of an attempt {memory:8.0f} bytes")


_SUMMARY = """
import sys, time
from pathlib import Path
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("VmHWM"))

base, before = peak(), time.process_time()
summarise(Dataset.read(Path(sys.argv[1])))
print(time.process_time() - before, base, peak())
"""
"""Runs in a process of its own, whose peak of memory it prints in KiB (Linux)."""


def _parts(text: bytes, size: int) -> Iterator[bytes]:
    """Yield whole lines, about `size` bytes at once."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", start + size) + 1 or len(text)
        yield text[start:end]
        start = end


def main() -> None:
    """Print all costs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with two_workers(folder) as client:
            scheduler_costs(client)
            clock_costs(client)
        collector_costs(folder)


if __name__ == "__main__":
    main()
