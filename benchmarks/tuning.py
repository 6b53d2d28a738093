"""How good the setting is that `harness tune` finds, where the best one is known. Simulated.

    python -m benchmarks.tuning [--seeds 60] [--rival-seeds 30] [--truth-blocks 400] [--jobs 2]
                                [--folder FOLDER] [NAME ...]

The nine providers of `benchmarks.advice`, with 12 permit counts and its 3 retry policies: 36 cells,
each trial with 20 workflows of ten calls in virtual time, SLO 90 %. A bank of blocks of each
provider, which is kept in FOLDER, says what is true. Each seed runs one tune as `harness tune` does
it, with a budget of 15 % of the requests of the full grid: five repeats of all cells. FOLDER has a
line for each seed that has ended, so a run that was killed goes on where it was.

The regret of a cell is how much longer its makespan is, in truth, than that of the best cell that
meets the SLO; it is 100 % if the cell is in truth below the SLO, or if there is none. The
recommendation is the leading cell of the last decision made with at most 6 % of the grid's
requests. `wrong` counts proven cells that are below the SLO, or more than 2 % slower than the best.
A provider has a winner if its best cell is, in truth, four standard errors above the SLO and ahead
of the next cell that is not equal, with as many blocks as 15 % of the grid buys for these two. The
speed of the provider that wanders takes another path in each trial of a run, so its trials are not
taken as pairs there, and the rivals draw theirs from different blocks.

The second table compares other methods, on the first seeds: see `benchmarks.tuning_rivals`.

Ends with 1 when one of these does not hold for a provider: the mean regret of the recommendation is
at most 2 % and its 95th percentile 5 % (not for outages and the speed that wanders), it takes at
most 6 % of the grid's requests, at most 3 of 60 seeds prove a wrong cell, and 70 % of them prove
one if there is a winner.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import advice
from benchmarks.tuning_rivals import RivalSeed, code_of_rivals, grid_requests, rivals
from benchmarks.tuning_runs import (
    ASKED,
    PERMITS,
    TunedSeed,
    digest,
    in_processes,
    sources_of,
    tunes_of,
    versioned,
)

RECOMMENDED, BUDGET = 0.06, 0.15
"""Requests at the recommendation and at the end of a tune, in parts of the grid's."""
MEAN_REGRET, P95_REGRET = 0.02, 0.05
MOST_WRONG, LEAST_PROVEN = 3 / 60, 0.7
WANDERING = "wandering speed"
WITHOUT_REGRET_LIMITS = ("outages", WANDERING)
PROVIDERS = tuple(name for name in advice.PROVIDERS if name != advice.OWN_PATHS)


def regret(truth: advice.Truth, cell: str | None) -> float:
    """Return how much slower a cell is, in truth, than the best; 1 if it is not able or None."""
    if cell is None or truth.best is None:
        return 1.0
    at = truth.names.index(cell)
    if truth.broken[at]:
        return 1.0
    return math.expm1(float(truth.logs[at] - truth.logs[truth.best]))


class Winner(NamedTuple):
    """The best cell, and whether it should be proven.

    `blocks`: as many as the budget buys for it and the next cell that is not equal. `above` and
    `ahead`: standard errors of so many blocks above the SLO, and ahead of that cell.
    """

    cell: str
    blocks: float
    above: float
    ahead: float
    is_clear: bool

    def __str__(self) -> str:
        above, ahead = (f"{min(one, 99):.1f}" for one in (self.above, self.ahead))
        found = "" if self.is_clear else "none: "
        return f"{found}{self.cell}, {above} / {ahead} in {self.blocks:.1f} blocks"


def winner(truth: advice.Truth, requests: Sequence[float], budget: float) -> Winner | None:
    """Return the best cell; None if no cell meets the SLO. `requests`: of a trial of each cell."""
    if truth.best is None:
        return None
    block = requests[truth.best] + (0.0 if truth.after is None else requests[truth.after])
    blocks = budget / block
    above, ahead, _ = truth.leads_of(blocks)
    return Winner(truth.names[truth.best], blocks, above, ahead, truth.is_clear(blocks))


class Known(NamedTuple):
    """A provider, its bank, and what the bank says."""

    provider: str
    bank: advice.Bank
    truth: advice.Truth
    grid: float

    @property
    def winner(self) -> Winner | None:
        """See `winner`."""
        requests = self.bank[:, :, advice.COLUMNS.index("attempts")].mean(0).tolist()
        return winner(self.truth, requests, BUDGET * self.grid)


def known_of(provider: str, blocks: int, jobs: int, folder: Path) -> Known:
    """Return what is true of a provider; play the blocks that the folder does not have."""
    bank = advice.bank_of(provider, blocks, jobs, folder / "truth", PERMITS)
    truth = advice.truth_of(bank, ASKED, PERMITS, paired=provider != WANDERING)
    return Known(provider, bank, truth, grid_requests(bank))


class Result(NamedTuple):
    """How the tunes of a provider compare with the truth. Lists have a value for each seed.

    `early`, `late`: regrets at the recommendation and at the end. `early_requests`,
    `late_requests`: in parts of the grid's; a seed without a recommendation has 0 of them.
    """

    provider: str
    winner: Winner | None
    early: Sequence[float]
    early_requests: Sequence[float]
    late: Sequence[float]
    late_requests: Sequence[float]
    states: Sequence[str]
    wrong: int
    cpu_s: float

    def share(self, state: str) -> float:
        """Return the share of the seeds that end in a state."""
        return self.states.count(state) / len(self.states)

    def text(self) -> str:
        """Return a row of the table."""
        late = [100 * each for each in self.late_requests]
        proven, leading, undecided = map(self.share, ("proven", "leading", "open"))
        wrong = f"{self.wrong} of {self.states.count('proven')}"
        return (
            f"| {self.provider} | {_regrets(self.early)} | {_percent(self.early_requests)} | "
            f"{_regrets(self.late)} | {np.mean(late):.1f} / {max(late):.1f} % | "
            f"{proven:.0%} | {wrong} | {leading:.0%} | {undecided:.0%} | {self.cpu_s:.0f} | "
            f"{self.winner or 'none'} |"
        )

    def failures(self) -> Iterator[str]:
        """Yield the limits that do not hold."""
        seeds, mean = len(self.states), float(np.mean(self.early))
        p95 = float(np.percentile(self.early, 95))
        if self.provider not in WITHOUT_REGRET_LIMITS:
            if mean > MEAN_REGRET:
                yield f"mean regret at the recommendation {mean:.1%}, at most {MEAN_REGRET:.0%}"
            if p95 > P95_REGRET:
                yield f"95th percentile of that regret {p95:.1%}, at most {P95_REGRET:.0%}"
        if max(self.early_requests) > RECOMMENDED:
            most = max(self.early_requests)
            yield f"requests of the recommendation {most:.1%}, at most {RECOMMENDED:.0%}"
        if self.wrong > MOST_WRONG * seeds:
            yield f"{self.wrong} of {seeds} seeds prove a wrong cell, at most {MOST_WRONG:.0%}"
        if self.winner is not None and self.winner.is_clear and self.share("proven") < LEAST_PROVEN:
            yield f"{self.share('proven'):.0%} of the seeds are proven, at least {LEAST_PROVEN:.0%}"


HEAD = """\
| provider (simulated) | regret at the recommendation, mean / p95 | requests, % of the grid | \
regret at the end, mean / p95 | requests, mean / max | proven | of these wrong | leading | open | \
CPU s a seed | winner: errors above the SLO / ahead |
|---|---|---|---|---|---|---|---|---|---|---|"""
RIVALS_HEAD = """\
| provider (simulated) | method | regret at 6 %, mean / p95 | requests | regret at its end, \
mean / p95 | requests |
|---|---|---|---|---|---|"""


def result_of(known: Known, seeds: Sequence[TunedSeed]) -> Result:
    """Compare tunes with the truth."""
    truth, grid = known.truth, known.grid
    early = [one.leading_within(RECOMMENDED * grid) for one in seeds]
    proven = [one.cell for one in seeds if one.state == "proven" and one.cell is not None]
    return Result(
        known.provider,
        known.winner,
        [regret(truth, None if step is None else step.leading) for step in early],
        [0.0 if step is None else step.requests / grid for step in early],
        [regret(truth, one.cell) for one in seeds],
        [one.requests / grid for one in seeds],
        [one.state for one in seeds],
        sum(regret(truth, cell) > advice.MARGIN for cell in proven),
        float(np.mean([one.cpu_s for one in seeds])),
    )


def rows_of_rivals(known: Known, own: Result, seeds: Sequence[RivalSeed]) -> Iterator[str]:
    """Yield the rows of the second table: first the tune itself on the same seeds."""

    def row(method: str, *columns: Sequence[float]) -> str:
        early, early_requests, late, late_requests = columns
        return (
            f"| {known.provider} | {method} | {_regrets(early)} | {_percent(early_requests)} | "
            f"{_regrets(late)} | {_percent(late_requests)} |"
        )

    count = len(seeds)
    columns = own.early, own.early_requests, own.late, own.late_requests
    yield row("**tune**", *(column[:count] for column in columns))
    for method in seeds[0].ends:
        ends = [one.ends[method] for one in seeds]
        pairs = [
            ([regret(known.truth, end[at].cell) for end in ends],
             [end[at].requests / known.grid for end in ends])
            for at in (0, 1)
        ]  # fmt: skip
        yield row(method, *pairs[0], *pairs[1])


def _regrets(regrets: Sequence[float]) -> str:
    return f"{100 * np.mean(regrets):.1f} / {100 * np.percentile(regrets, 95):.1f} %"


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * np.mean(shares):.1f} %"


def main(arguments: Sequence[str]) -> int:
    """Print the tables and return the exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of the processes: each has one core
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--rival-seeds", type=int, default=30)
    parser.add_argument("--truth-blocks", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("results/tuning"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROVIDERS))
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in PROVIDERS]
    if unknown:
        parser.error(f"unknown provider {unknown[0]!r}; choose from: {', '.join(PROVIDERS)}")
    began, failed, compared = time.monotonic(), list[str](), list[str]()
    print(
        f"Simulated, in virtual time: {len(PERMITS)} permit counts, 3 policies, SLO {ASKED:.0%}; "
        f"truth from {asked.truth_blocks} blocks, {asked.seeds} seeds.\n\n{HEAD}",
        flush=True,
    )
    for name in asked.names or PROVIDERS:
        known = known_of(name, asked.truth_blocks, asked.jobs, asked.folder)
        tunes = tunes_of(name, asked.seeds, BUDGET * known.grid, asked.jobs, asked.folder)
        result = result_of(known, tunes)
        failed += [f"{name}: {text}" for text in result.failures()]
        print(result.text(), flush=True)
        count = min(asked.rival_seeds, asked.seeds)
        if count:
            compared += rows_of_rivals(
                known, result, played(known, count, asked.jobs, asked.folder)
            )
    if compared:
        print("\n".join(["", RIVALS_HEAD, *compared]))
    print(f"\n{time.monotonic() - began:.0f} s")
    for text in failed:
        print(f"Simulated: FAILS: {text}")
    return 1 if failed else 0


def played(known: Known, seeds: int, jobs: int, folder: Path) -> Sequence[RivalSeed]:
    """Return the rivals of a provider; play those that the folder does not have."""
    version = digest(sources_of(["analysis"]), code_of_rivals(), [known.bank.tobytes()])
    path = versioned(folder, f"rivals of {known.provider}", version)
    play = partial(
        rivals, known.provider, known.bank, (RECOMMENDED, BUDGET), known.provider == WANDERING
    )
    return in_processes(path, RivalSeed, seeds, jobs, play)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
