"""Virtual time against real time over HTTP: the same scenario, both ways, simulated.

    python -m benchmarks.agreement

Makespan and the calls' latency, median and 95th percentile, in sync and in async at 1, 8 and 32
permits. Real time is slowed down by `time_scale`, so that what the machine adds stays small beside
what the scenario is about; it still adds something, which is what this measures. Ends with 1 when
any of the figures is more than 5 % apart.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.cli.main import main as harness
from harness.records.clock import SECOND
from harness.store.run_directory import Records, read_records

LIMIT = 0.05
SCENARIO = """
name = "agreement"
seed = 5
[workflow]
topics = ["ocean tides", "battery recycling", "seed banks", "cold chains"]
sub_questions = 8
[endpoint]
profile = "plain-chat"
override = { tokens_per_chunk = 16 }
time_scale = SCALE
time = "TIME"
[load]
workflows = 8
in_flight = 4
[sweep]
mode = ["sync", "async"]
permits = [1, 8, 32]
"""


def run(time: str, scale: float, folder: Path) -> Records:
    """Run the scenario in real or virtual time and return its records."""
    path, out = folder / f"{time}.toml", folder / time
    path.write_text(SCENARIO.replace("TIME", time).replace("SCALE", repr(scale)))
    with contextlib.redirect_stdout(io.StringIO()):
        code = harness(["run", str(path), "--quiet", "--out", str(out)])
    assert code == 0, f"exit code {code}"
    return read_records(out)


def figures(records: Records, cell: str) -> Iterator[tuple[str, float]]:
    """Yield the cell's makespan and the quantiles of its calls' latency, in real seconds."""
    trial = next(trial for trial in records.trials if trial.cell == cell)
    yield "makespan", (trial.end - trial.start) / SECOND
    latency = [call.done - call.ready for call in records.calls if call.cell == cell]
    for name, q in (("call p50", 0.5), ("call p95", 0.95)):
        yield name, float(np.quantile(latency, q)) / SECOND


def main() -> int:
    """Print what each figure is both ways and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--time-scale", type=float, default=0.25)
    scale = parser.parse_args().time_scale
    with tempfile.TemporaryDirectory() as folder:
        virtual = run("virtual", scale, Path(folder))
        real = run("real", scale, Path(folder))
    worst = 0.0
    print(f"simulated, time scale {scale:g}; scenario seconds")
    print(f"{'cell':<22} {'figure':<9} {'real':>8} {'virtual':>8} {'apart':>7}")
    for cell in real.run.cells:
        pairs = zip(figures(real, cell.id), figures(virtual, cell.id), strict=True)
        for (name, measured), (_, predicted) in pairs:
            apart = measured / predicted - 1
            worst = max(worst, abs(apart))
            print(
                f"{cell.id:<22} {name:<9} {measured / scale:8.2f} {predicted / scale:8.2f} "
                f"{apart:+7.2%}"
            )
    print(f"at most {worst:.2%} apart, {'within' if worst <= LIMIT else 'above'} {LIMIT:.0%}")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
