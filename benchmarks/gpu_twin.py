"""Predictions of a twin of a real server, beside what was recorded there.

    python -m benchmarks.gpu_twin RUN_LOW RUN_HIGH

Both are run directories of the same server; RUN_HIGH sweeps permits, at two counts or more. A twin
is fitted to RUN_LOW and one cell of RUN_HIGH, and plays every other cell of RUN_HIGH in virtual
time, with its workflows, prompts and load; so each cell of RUN_HIGH is predicted from each other
one. Prints the output tokens a second and the median time to first token (ttft), beside those of
the recorded trials. Limits, as the difference from the mean of the trials: with a higher cell
among those fitted to, 10 % of the tokens a second and 15 % of the ttft; without, 15 % of the tokens
a second, and no limit for the ttft, which is extrapolated. Ends with 1 if a prediction is outside.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from harness.bench import runner
from harness.bench.cells import expand
from harness.bench.runner import Hooks
from harness.bench.scenario_file import validated
from harness.simulator.profiles import load_profile
from harness.store.column_reader import read_columns
from harness.store.columns import AttemptTable
from harness.store.run_directory import Records
from harness.twin.fit import fit_provider
from harness.twin.fitted_parts import fitted_parts
from harness.twin.observations import observe
from harness.twin.profile_text import TwinHead, twin_text

WITHIN = 0.10
BEYOND = 0.15
FIRST_TOKEN = 0.15
REPEATS = 4
OF_RUN = ("workflow", "prompts", "load", "retry")
"""The tables of the recorded scenario that the twin's scenario has."""


class Served(NamedTuple):
    """What one trial made: output tokens a second, and the median seconds to the first token."""

    rate: float
    first_token: float


class Prediction(NamedTuple):
    """One cell as predicted from another one. `is_beyond`: no cell as high was fitted to."""

    permits: int
    source: int
    is_beyond: bool
    recorded: list[Served]
    predicted: list[Served]

    def off(self) -> Served:
        """Return the relative differences of the means."""
        means = [
            Served(fmean(one.rate for one in each), fmean(one.first_token for one in each))
            for each in (self.recorded, self.predicted)
        ]
        return Served(*(mine / theirs - 1 for theirs, mine in zip(*means, strict=True)))

    def is_within(self) -> bool:
        """Return whether it is within the limits."""
        off = self.off()
        if self.is_beyond:
            return abs(off.rate) <= BEYOND
        return abs(off.rate) <= WITHIN and abs(off.first_token) <= FIRST_TOKEN


def served(records: Records) -> list[Served]:
    """Return what each trial made, in order of time."""
    seen, trials = observe([records]), []
    for number in range(int(seen.trial.max()) + 1):
        mine = seen.trial == number
        ok = mine & seen.ok
        seconds = float(np.nanmax(seen.done[mine]) - seen.sent[mine].min())
        waits = (seen.first_text - seen.sent)[ok]
        trials.append(Served(float(seen.output[ok].sum()) / seconds, float(np.nanmedian(waits))))
    return trials


def only_cell(records: Records, name: str) -> Records:
    """Return the records with the attempts of one cell."""
    table = records.attempts
    assert isinstance(table, AttemptTable), "records are read in columns"
    return records._replace(attempts=table.take(table.where("cell", name.__eq__)))


def played(profile: Path, recorded: Records, permits: int) -> list[Served]:
    """Return what the twin makes of the workflows of a run with so many permits."""
    theirs = recorded.run.scenario
    values: dict[str, Any] = {key: theirs[key] for key in OF_RUN}
    values |= {
        "name": "twin", "seed": theirs["seed"],
        "endpoint": {
            "kind": "simulated", "time": "virtual", "profile": str(profile),
            "stream": theirs["endpoint"]["stream"],
        },
        "sweep": theirs["sweep"] | {"permits": [permits], "repeats": REPEATS},
    }  # fmt: skip
    values["workflow"].pop("topics_file", None)
    scenario = validated(values, "the scenario of the run", ())
    plain = load_profile(str(profile)).as_dict()
    profiles = {cell.id: plain for cell in expand(scenario)}
    with tempfile.TemporaryDirectory() as folder:
        runner.run(scenario, profiles, {}, Path(folder), Hooks(*[_nothing] * len(Hooks._fields)))
        return served(read_columns(Path(folder)))


def predictions(low: Records, high: Records) -> list[Prediction]:
    """Return a prediction for each ordered pair of cells of the high run."""
    cells = {cell.permits: only_cell(high, cell.id) for cell in high.run.cells}
    found = []
    for source, fitted_to in sorted(cells.items()):
        parts = fitted_parts(fit_provider([low, fitted_to]))
        head = TwinHead("twin", "a fit", "records", "2026-11-27")
        with tempfile.TemporaryDirectory() as folder:
            profile = Path(folder) / "twin.toml"
            profile.write_text(twin_text(parts, head))
            for permits, recorded in sorted(cells.items()):
                if permits != source:
                    mine = played(profile, high, permits)
                    beyond = permits > source
                    found.append(Prediction(permits, source, beyond, served(recorded), mine))
    return found


def _nothing(*_: object) -> None:
    """Do nothing."""


def _line(one: Prediction) -> str:
    off = one.off()
    rates = ", ".join(f"{trial.rate:,.0f}" for trial in one.recorded)
    waits = ", ".join(f"{trial.first_token * 1e3:.0f}" for trial in one.recorded)
    rate = fmean(trial.rate for trial in one.predicted)
    wait = fmean(trial.first_token for trial in one.predicted) * 1e3
    return (
        f"{one.permits:>7} {one.source:>10}  {rate:>7,.0f} {rates:>14} {off.rate:>+6.1%}  "
        f"{wait:>7.0f} {waits:>10} {off.first_token:>+6.1%}"
        f"{' beyond' if one.is_beyond else '       '}  {'yes' if one.is_within() else 'NO'}"
    )


def main(arguments: Sequence[str]) -> int:
    """Print the predictions and return the exit code."""
    if len(arguments) != 2:
        print("usage: python -m benchmarks.gpu_twin RUN_LOW RUN_HIGH", file=sys.stderr)
        return 2
    found = predictions(*(read_columns(Path(name)) for name in arguments))
    print("              low and       tokens a second                ttft, ms")
    print("permits fitted to     predicted       recorded   off  predicted  recorded   off  within")
    print(*map(_line, found), sep="\n")
    return 0 if all(one.is_within() for one in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
