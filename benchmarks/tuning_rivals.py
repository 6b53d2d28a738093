"""Other ways to find the best cell, which `benchmarks.tuning` compares with a tune. Simulated.

Each draws its trials from the bank of a provider: the r-th trial of each cell is of the same block,
so all draws are the same in all cells. None makes a trial that would exceed its requests.

- full grid: five repeats of all cells. At 6 % it is where the race is.
- race: `repeats = "auto"`, at 6 and 15 %. Its first block takes a fifth of the grid, so it has
  measured a part of the cells then, in the random order of a run. "to its end": until it is
  settled, or has 60 blocks.
- Gaussian process: see `benchmarks.gaussian_process`. A cell without a failed request stands for
  those that differ in their policy alone, as in a tune.
- successive halving: starts with as many cells as it can end with, spread over the permits. Each
  rung measures the cells that are left once more and keeps the better half.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks import advice
from benchmarks.gaussian_process import Measured, best_guess, next_trial
from benchmarks.tuning_runs import ASKED, PERMITS
from harness.analysis.decision import Rules, look
from harness.analysis.looks import growing_looks, one_look
from harness.bench.cells import order

REPEATS = 5
"""Of the full grid."""

_ATTEMPTS = advice.COLUMNS.index("attempts")
_FIRST_TRIALS = 6
"""Trials of the Gaussian process before its first fit."""

Choose = Callable[[Sequence[Measured]], int | None]


class RivalEnd(msgspec.Struct, frozen=True):
    """The cell that a rival would use after so many requests; None: no cell."""

    cell: str | None
    requests: float


class RivalSeed(msgspec.Struct, frozen=True):
    """The rivals of a seed by their names: each at the recommendation, and at its end."""

    seed: int
    ends: dict[str, tuple[RivalEnd, RivalEnd]]


def rivals(
    provider: str, bank: advice.Bank, shares: tuple[float, float], own_paths: bool, seed: int
) -> RivalSeed:
    """Play the rivals of a seed.

    `shares`: requests at the recommendation and at the end, in parts of the grid's. `own_paths`:
    whether no draws of a block are the same in all cells.
    """
    if own_paths:
        bank = with_own_draws(bank, seed)
    early, late = (share * grid_requests(bank) for share in shares)
    swept = [one.info for one in advice.swept_cells(PERMITS)]
    places = {info.id: at for at, info in enumerate(swept)}
    looks = growing_looks(advice.MOST)
    to_its_end = advice.decided(provider, bank, ASKED, looks, seed, PERMITS)
    rows = bank[list(to_its_end.drawn)]
    blocks = order(tuple(swept), advice.MOST, seed)
    trials = [places[cell.id] for block in blocks for cell in block]

    def raced(seen: Sequence[Measured]) -> str | None:
        have = Counter(one.cell for one in seen)
        until = [have[at] for at in range(len(swept))]
        cells = advice.contenders(provider, rows, range(len(rows)), until, PERMITS)
        rules = Rules(ASKED, advice.MARGIN, 0.05, looks)
        return look(cells, rules, max(until), {}).candidate

    def ended(found: advice.Decided) -> RivalEnd:
        drawn = bank[list(found.drawn)]
        spent = sum(drawn[:have, at, _ATTEMPTS].sum() for at, have in enumerate(found.have))
        return RivalEnd(found.found.cell or found.found.candidate, float(spent))

    def at_limits(choose: Choose, lead: Callable[[Sequence[Measured]], str | None]) -> tuple[
        RivalEnd, RivalEnd
    ]:  # fmt: skip
        seen = spend(rows, late, choose)
        first, last = (
            RivalEnd(lead(part) if part else None, sum(one.requests for one in part))
            for part in (within(seen, early), seen)
        )
        return first, last

    def named(at: int) -> str:
        return swept[at].id

    random = np.random.default_rng([seed, 1])
    race = at_limits(lambda seen: trials[len(seen)], raced)
    start = spread(first_rung(shares[1] * REPEATS * len(swept)), random)
    halving = at_limits(
        lambda seen: next_of_halving(start, seen), lambda seen: named(halved(start, seen).best)
    )
    design = spread(_FIRST_TRIALS, random)
    where = np.array([(math.log2(one.permits), _policies().index(one.retry)) for one in swept])
    process = at_limits(
        lambda seen: design[len(seen)] if len(seen) < _FIRST_TRIALS else next_trial(where, seen),
        lambda seen: named(best_guess(where, seen)),
    )
    grid = ended(advice.decided(provider, bank, ASKED, one_look(REPEATS), seed, PERMITS))
    return RivalSeed(seed, {
        "full grid": (race[0], grid),
        "race": race,
        "race to its end": (race[0], ended(to_its_end)),
        "Gaussian process": process,
        "successive halving": halving,
    })  # fmt: skip


def grid_requests(bank: advice.Bank) -> float:
    """Return the mean number of requests of the full grid."""
    return REPEATS * float(bank[:, :, _ATTEMPTS].sum(1).mean())


def with_own_draws(bank: advice.Bank, seed: int) -> advice.Bank:
    """Return a bank in which each cell has its blocks in an order of its own."""
    random = np.random.default_rng([seed, 2])
    columns = [bank[random.permutation(len(bank)), at] for at in range(bank.shape[1])]
    return np.stack(columns, axis=1)


def spend(rows: advice.Bank, requests: float, choose: Choose) -> list[Measured]:
    """Return the trials that `choose` chose until the next one would exceed the requests.

    `rows`: the blocks in their order. `choose`: returns a cell, or None at the end.
    """
    seen: list[Measured] = []
    have, left = Counter[int](), requests
    while (at := choose(seen)) is not None and have[at] < len(rows):
        row = dict(zip(advice.COLUMNS, rows[have[at], at].tolist(), strict=True))
        left -= row["attempts"]
        if left < 0:
            break
        seen.append(Measured(
            at, have[at], row["makespan"], row["good"], row["tried"], row["attempts"],
            row["failed"],
        ))  # fmt: skip
        have[at] += 1
    return seen


def within(seen: Sequence[Measured], requests: float) -> Sequence[Measured]:
    """Return the first trials, as many as do not exceed the requests."""
    totals = np.cumsum([one.requests for one in seen])
    return seen[: int(np.searchsorted(totals, requests, side="right"))]


def _policies() -> list[str]:
    return list(dict.fromkeys(one.info.retry for one in advice.swept_cells(PERMITS)))


def spread(count: int, random: np.random.Generator) -> list[int]:
    """Return different cells in random order, spread over the permits, with each policy in turn."""
    places = {
        (one.info.permits, one.info.retry): at for at, one in enumerate(advice.swept_cells(PERMITS))
    }
    policies = random.permutation(_policies()).tolist()
    steps: NDArray[np.float64] = np.linspace(0, len(PERMITS) - 1, count).round()
    chosen = [
        places[PERMITS[int(step)], policies[at % len(policies)]] for at, step in enumerate(steps)
    ]
    return [int(at) for at in random.permutation(chosen)]


class Halved(NamedTuple):
    """Where successive halving is: the cells left, the repeats each needs, and the best one."""

    cells: Sequence[int]
    repeats: int
    best: int


def halved(start: Sequence[int], seen: Sequence[Measured]) -> Halved:
    """Return where successive halving is after some trials, at least one."""
    trials: dict[int, list[Measured]] = {at: [] for at in start}
    for one in seen:
        trials[one.cell].append(one)

    def rank(at: int) -> tuple[bool, float]:
        share = sum(one.good for one in trials[at]) / sum(one.tried for one in trials[at])
        if share < ASKED:
            return True, -share
        return False, float(np.mean([math.log(one.makespan) for one in trials[at]]))

    cells, repeats = list(start), 1
    while len(cells) > 1 and all(len(trials[at]) >= repeats for at in cells):
        cells = sorted(cells, key=rank)[: math.ceil(len(cells) / 2)]
        repeats += 1
    return Halved(cells, repeats, min((at for at in cells if trials[at]), key=rank))


def next_of_halving(start: Sequence[int], seen: Sequence[Measured]) -> int | None:
    """Return the cell of the next trial, None when one is left."""
    if not seen:
        return start[0]
    now, have = halved(start, seen), Counter(one.cell for one in seen)
    if len(now.cells) == 1:
        return None
    return next(at for at in now.cells if have[at] < now.repeats)


def first_rung(trials: float) -> int:
    """Return with how many cells halving can start that ends within so many trials."""

    def total(cells: int) -> int:
        return cells + total(math.ceil(cells / 2)) if cells > 1 else 0

    return max(count for count in range(1, math.floor(trials) + 1) if total(count) <= trials)


def code_of_rivals() -> list[bytes]:
    """Return the code that decides for the rivals."""
    folder = Path(__file__).parent
    return [
        (folder / f"{name}.py").read_bytes()
        for name in ("advice", "gaussian_process", "tuning_rivals")
    ]
