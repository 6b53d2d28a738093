"""The code that the recommendation shows against the cells that it comes from, simulated.

    python -m benchmarks.pasted [--only CASE] [--mutants] [--jobs 3]

Each case of `pasted_mixes` has faults, a mode, a permit scope and some retry policies, which make
its cells. A cell is measured twice in real time. While the second measurement runs, the lines for
the cell run as a program against `harness serve`, with the same prompts, faults and draws. Success,
attempts a call, and the 95th percentile of the calls' latency must be equal: tests of the
differences of each call, at 1 % over all tests (Holm). A difference counts as far as it is larger
than that of the two measurements, which is the noise of the machine (for the percentile: the
largest of all cells of the case). A cell that differs is measured again, all of it, and differs
if both rounds do: the larger p counts. With `--mutants`, one rule of the lines is left out each
time, and a test has to notice. Ends with 1 if a test fails.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.pasted_mixes import CASES, MUTANTS, Case, Mutant
from benchmarks.pasted_program import Outcomes, Prompt, Server
from harness.analysis.code_snippet import failures_met, lines_to_paste
from harness.bench.runner import Hooks, run
from harness.bench.scenario_file import parse_scenario
from harness.cli.plan import profiles_of
from harness.config.request_settings import Secrets
from harness.records.clock import SECOND
from harness.records.schema import CellInfo
from harness.store.column_values import Words
from harness.store.columns import AttemptTable
from harness.store.run_directory import Records, read_records, read_transcripts

LEVEL = 0.01


class Difference(NamedTuple):
    """A test: what was compared, both values, and the probability of the difference."""

    case: str
    kind: str
    figure: str
    measured: float
    pasted: float
    probability: float

    def __str__(self) -> str:
        """Return a line of the table."""
        values = f"{self.measured:8.3f} {self.pasted:8.3f} {self.probability:9.2g}"
        return f"{self.case:<33} {self.kind:<13} {self.figure:<9} {values}"


class Measured(NamedTuple):
    """A measured case: its records, and the outcomes of each cell."""

    records: Records
    prompts: list[Prompt]
    outcomes: dict[str, Outcomes]


def _measure(toml: str, out: Path) -> None:
    """Run the scenario, without a report."""
    scenario = parse_scenario(toml, "pasted")
    profiles = {cell: one.as_dict() for cell, one in profiles_of(scenario, "pasted").items()}
    hooks = Hooks(*[lambda *_: None] * len(Hooks._fields))
    out.mkdir()
    run(scenario, profiles, dict.fromkeys(profiles, Secrets("")), out, hooks)


@contextlib.contextmanager
def measuring(toml: str, out: Path) -> Iterator[None]:
    """Run the scenario in a process of its own, from its first record to its end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_measure, args=(toml, out))
    process.start()
    while not (out / "attempts.jsonl").exists() and process.is_alive():
        time.sleep(0.01)  # the start takes processor time, which would disturb what runs beside
    yield
    process.join()
    assert process.exitcode == 0


def measured(out: Path) -> Measured:
    """Return the outcomes of the cells of a run."""
    records = read_records(out)
    prompts: dict[int, Prompt] = {}
    for one in read_transcripts(out)[0]:
        prompts[one.workflow] = tuple((said.role, said.content) for said in one.messages)
    outcomes = {}
    for cell in records.run.cells:
        calls = sorted((c for c in records.calls if c.cell == cell.id), key=lambda c: c.workflow)
        outcomes[cell.id] = Outcomes(
            np.array([call.outcome == "ok" for call in calls]),
            np.array([call.attempts for call in calls]),
            np.array([(call.done - call.ready) / SECOND for call in calls]),
        )
    return Measured(records, [prompts[number] for number in sorted(prompts)], outcomes)


def lines_of(records: Records, cell: CellInfo) -> list[str]:
    """Return the lines for a cell."""
    attempts = [one for one in records.attempts if one.cell == cell.id]
    met = failures_met(AttemptTable.of(attempts, Words()))
    return list(lines_to_paste(records.run, cell, met))


SMALLEST_NOISE, SMALLEST_SECONDS = 0.05, 0.1
"""Differences of the 95th percentile below this share, or this time, are never counted.

The processor takes about this time for all calls of a cell. Where a server refuses them at once,
they wait for it and for nothing else.
"""


def noise_of(first: Measured, second: Measured) -> float:
    """Return the largest difference of p95 of a cell between two measurements, of its logarithm."""
    found = [
        np.log(np.quantile(first.outcomes[cell].latency, 0.95))
        - np.log(np.quantile(second.outcomes[cell].latency, 0.95))
        for cell in first.outcomes
    ]
    return float(max(SMALLEST_NOISE, *map(abs, found)))


def compare(
    first: Outcomes, second: Outcomes, pasted: Outcomes, noise_of_p95: float
) -> Iterator[tuple[str, float, float, float]]:
    """Test whether a program did what was measured, first and second.

    Yield the figure, its value in `first` and in `pasted`, and the probability of the difference.
    """
    for figure in ("success", "attempts"):
        a, b, c = (getattr(one, figure).astype(float) for one in (first, second, pasted))
        change = c - a
        noise = abs(float(np.mean(b - a)))
        spread = max(float(np.std(change, ddof=1)), 1 / len(change)) / np.sqrt(len(change))
        excess = max(0.0, abs(float(change.mean())) - noise)
        yield figure, a.mean(), c.mean(), 2 * float(stats.norm.sf(excess / spread))
    rows = np.random.default_rng(1).integers(0, len(first.latency), (500, len(first.latency)))

    def p95(one: Outcomes) -> tuple[float, NDArray[np.float64]]:
        latency = np.log(one.latency)
        return float(np.quantile(latency, 0.95)), np.quantile(latency[rows], 0.95, axis=1)

    (a95, many_a), (b95, many_b), (c95, many_c) = map(p95, (first, second, pasted))
    spread = max(float(np.std(many_c - many_a)), float(np.std(many_b - many_a)), 0.02)
    least = float(np.log1p(SMALLEST_SECONDS / np.exp(a95)))
    excess = max(0.0, abs(c95 - (a95 + b95) / 2) - max(noise_of_p95, least))
    p = 2 * float(stats.norm.sf(excess / spread))
    yield "p95", float(np.exp(a95)), float(np.exp(c95)), p


def rejected(tests: Sequence[Difference]) -> list[Difference]:
    """Return the tests that fail at `LEVEL` over all of them (Holm)."""
    ranked = sorted(tests, key=lambda one: one.probability)
    for rank, one in enumerate(ranked):
        if one.probability > LEVEL / (len(ranked) - rank):
            return ranked[:rank]
    return ranked


class Found(NamedTuple):
    """The tests of a case; `clients`: the package whose client the lines of each kind create."""

    tests: list[Difference]
    clients: dict[str, str]


def try_case(name: str, case: Case, mutant: Mutant | None = None) -> Found:
    """Measure a case twice and run the lines of its cells, or those of a mutant."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        with measuring(case.scenario(), folder / "first"):
            pass
        first = measured(folder / "first")
        server = Server(case, folder)
        trials: dict[str, str] = {}
        clients: dict[str, str] = {}
        with server.running(), measuring(case.scenario(), folder / "second"):
            for cell in first.records.run.cells[:1]:
                server.run(lines_of(first.records, cell), first.prompts[:1])  # imports are slow
            for cell in first.records.run.cells:
                lines = lines_of(first.records, cell)
                clients[cell.retry] = "harness" if "import harness" in lines else "openai"
                if mutant is None:
                    trials[cell.id] = server.run(lines, first.prompts)
                else:
                    lines = mutant.of(lines)
                    trials[cell.id] = server.run(lines, first.prompts, mutant.prelude)
        second = measured(folder / "second")
    tests = [
        Difference(name, cell.retry, *values)
        for cell in first.records.run.cells
        for values in compare(
            first.outcomes[cell.id], second.outcomes[cell.id], server.outcomes[trials[cell.id]],
            noise_of(first, second),
        )
    ]  # fmt: skip
    return Found(tests, clients)


def try_mutant(mutant: Mutant) -> Found:
    """Return the tests of lines without one rule."""
    return try_case(mutant.rule, mutant.case, mutant)


def main() -> int:
    """Print the smallest p of each case, and what differs; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pasted")
    parser.add_argument("--only", choices=CASES, metavar="CASE", help="; ".join(CASES))
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--jobs", type=int, default=3, help="cases at once (default: 3)")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        if options.mutants:
            return _try_mutants(pool)
        return _try_cases(pool, {options.only: CASES[options.only]} if options.only else CASES)


def _try_cases(pool: ProcessPoolExecutor, cases: Mapping[str, Case]) -> int:
    tests = _try_once(pool, cases)
    suspects = rejected(tests)
    print(f"\n{len(tests)} tests, {len(suspects)} differ in one round", *suspects, sep="\n")
    kinds: dict[str, set[str]] = {}
    for one in suspects:
        kinds.setdefault(one.case, set()).add(one.kind)
    again = {name: cases[name]._replace(kinds=tuple(some)) for name, some in kinds.items()}
    second = {(one.case, one.kind, one.figure): one for one in _try_once(pool, again)}
    tests = [
        max(one, second.get((one.case, one.kind, one.figure), one), key=lambda one: one.probability)
        for one in tests
    ]
    failed = rejected(tests)
    print(f"{len(tests)} tests, {len(failed)} differ at {LEVEL:.0%} (Holm)", *failed, sep="\n")
    return 1 if failed else 0


def _try_once(pool: ProcessPoolExecutor, cases: Mapping[str, Case]) -> list[Difference]:
    found: list[Difference] = []
    for tests, clients in pool.map(try_case, cases, cases.values()):
        worst = min(tests, key=lambda one: one.probability)
        print(worst, dict(Counter(clients.values())), flush=True)
        found += tests
    return found


def _try_mutants(pool: ProcessPoolExecutor) -> int:
    missed = 0
    for tests, _ in pool.map(try_mutant, MUTANTS):
        noticed = rejected(tests)
        missed += not noticed
        worst = min(tests, key=lambda one: one.probability)
        print(worst, "" if noticed else " NOT NOTICED", flush=True)
    print(f"{len(MUTANTS)} mutants, {missed} not noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
