"""How often the recommendation is right, on providers whose best cell is known. Simulated.

    python -m benchmarks.advice [--blocks 2000] [--seeds 200] [--jobs 2] [--bank FOLDER] [NAME ...]

A block is one repeat of 8 permit counts with 3 retry policies: 24 trials of 20 workflows of ten
calls in virtual time, with the same draws in all of them. All blocks of a provider form its bank,
which is kept in FOLDER; it says what is true. A seed draws its blocks from the bank and decides as
a run does: with `repeats = "auto"`, at most 60 blocks, and with a fixed number of repeats.

Ends with 1 when a cell is proven that is in truth below the SLO in more than 5 of 200 seeds, when
less than 95 % of the proven cells are right or within 2 %, or when fewer than 80 % of the seeds
prove a cell where the best one lies, in truth, four standard errors (of 60 blocks) above the SLO
and ahead of the next that is not equal. The table also has by how many each faster cell is at least
below the SLO.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from harness.analysis.cells import FEWEST_BURSTS
from harness.analysis.decision import Contender, Judgement, Rules, look
from harness.analysis.looks import Looks, growing_looks, one_look
from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.bench.virtual import Task, opening, play
from harness.endpoints.simulated import SimulatedEndpoint
from harness.policies.resolve import PolicyParts, resolve
from harness.records.clock import SECOND, Anchor
from harness.records.failures import is_failure
from harness.records.schema import SCHEMA, CellInfo, Run
from harness.simulator.memo import PromptMemory
from harness.simulator.profiles import load_profile

PERMITS = (4, 8, 12, 16, 24, 32, 48, 64)
MOST = 60
MARGIN = 0.02
ASKED = (0.9, 0.99)
FIXED = (5, 10, 20, 40, 60)
"""Numbers of repeats of the fixed designs that stand beside `auto`."""

SCENARIO = """
name = "advice"
seed = SEED
[workflow]
topics = TOPICS
sub_questions = 8
[endpoint]
profile = "plain-chat"
time = "virtual"
[endpoint.override]
ttft = { median = "400ms", sigma = 0.3 }
answer_tokens = { median = 250, sigma = 0.4 }
PROVIDER
[load]
workflows = 20
in_flight = 10
[timeouts]
call = "24h"
idle = "24h"
[sweep]
permits = PERMITS
retry = ["none", "short", "patient"]
[retry.short]
kind = "exponential"
attempts = 3
base = "1s"
cap = "10s"
[retry.patient]
kind = "exponential"
attempts = 12
base = "1s"
cap = "20s"
"""
_FLAT = 'itl_a = "20ms"\nitl_b = 0\nitl_c = 0\n'
_KNEE = """
itl_a = 0
itl_b = 0
itl_c = 0
itl_points = [
  { requests = 1, itl = "20ms" }, { requests = 16, itl = "22ms" }, { requests = 24, itl = "26ms" },
  { requests = 32, itl = "34ms" }, { requests = 64, itl = "70ms" },
]
"""
_WANDERING = _KNEE + 'wander = { sigma = 0.15, over = "3m" }'
OWN_PATHS = "wandering, own paths"
"""The provider whose speed takes another path in each trial, as in `harness run`. In all other
blocks everything that is drawn is the same in all cells. No proof is expected here: it would take
hundreds of repeats to show that cells that differ by 1 % do not differ by more than 2 %."""

PROVIDERS = {
    "knee": _KNEE,
    "429 cap": _FLAT + "concurrency_cap = 20",
    "non-monotone": 'itl_a = "20ms"\nitl_b = "0.2ms"\nitl_c = "30us"',
    "tokens a minute": _FLAT + 'tokens_per_minute = 60000\nburst = "20s"\nretry_after = "exact"',
    "requests a minute": _FLAT + 'requests_per_minute = 120\nburst = "20s"',
    "outages": _FLAT
    + '[[endpoint.faults]]\nkind = "unavailable"\nburst = { on = "15s", off = "150s" }',
    "halving cap": _FLAT + 'concurrency_cap = 32\ncap_steps = [{ at = "40s", cap = 16 }]',
    "equal permits": """
itl_a = 0
itl_b = 0
itl_c = 0
itl_points = [
  { requests = 1, itl = "20ms" }, { requests = 16, itl = "20ms" },
  { requests = 17, itl = "21.25ms" }, { requests = 32, itl = "40ms" },
  { requests = 64, itl = "80ms" },
]
""",
    "wandering speed": _WANDERING,
    OWN_PATHS: _WANDERING,
}
"""Keys of the profile by the provider's name."""

WITH_BURSTS = ("outages",)
"""Providers whose failures come in bursts. A repeat with a failure counts as one burst."""

COLUMNS = ("makespan", "good", "tried", "attempts", "refused", "failed", "calls")
"""What a bank holds of each trial."""

Bank = NDArray[np.float64]
"""Shape: blocks, cells, `COLUMNS`."""


def scenario(
    provider: str, seed: int, permits: Sequence[int] = PERMITS, others: str = ""
) -> Scenario:
    """Return the scenario of one block. `others`: tables to add, as TOML."""
    topics = [f"topic {number}" for number in range(20)]
    text = SCENARIO.replace("SEED", str(seed)).replace("TOPICS", str(topics))
    text = text.replace("PERMITS", str(list(permits)))
    return parse_scenario(text.replace("PROVIDER", PROVIDERS[provider]) + others, "advice")


def block(provider: str, seed: int, permits: Sequence[int] = PERMITS) -> list[list[float]]:
    """Play every cell once and return what the bank keeps.

    A trial in which nothing failed is the same under every retry policy, as its draws are. It is
    played once for its number of permits.
    """
    read = scenario(provider, seed, permits)
    endpoint: Any = read.endpoint
    assert isinstance(endpoint, SimulatedEndpoint), "the scenario says so"
    simulation = endpoint.facts.simulation
    assert simulation is not None, "it is simulated"
    swept, memory = cells.expand(read), PromptMemory()
    run = Run(
        schema=SCHEMA, run_id="0" * 32, name=read.name, status="running",
        anchor=Anchor(unix_ns=0, monotonic_ns=0), seed=seed, simulated=True, virtual=True,
        time_scale=1.0, cells=swept, repeats=1, order=(), scenario=read.as_dict(),
        phases=tuple(read.plan.phases), endpoint="", versions={}, host={},
        profile=load_profile(simulation.profile, simulation.overrides).as_dict(),
    )  # fmt: skip
    begun, rows = RunProgress(read, run), []
    untroubled: dict[int, list[float]] = {}
    for number, cell in enumerate(swept):
        if cell.permits in untroubled and provider != OWN_PATHS:
            rows.append(untroubled[cell.permits])
            continue
        drawn = cell if provider == OWN_PATHS else msgspec.structs.replace(cell, id="any")
        played = play(begun, Task(number, drawn, 0), opening(begun), lambda _: None, memory)
        ended, trial = played.records(), played.trial
        outcomes = [attempt.outcome for attempt in ended.attempts]
        rows.append([
            (trial.end - trial.start) / SECOND,
            sum(workflow.outcome == "ok" for workflow in ended.workflows),
            len(ended.workflows), len(outcomes), outcomes.count("rate_limited"),
            sum(map(is_failure, outcomes)), len(ended.calls),
        ])  # fmt: skip
        if not any(map(is_failure, outcomes)):
            untroubled[cell.permits] = rows[-1]
    return rows


def bank_of(
    provider: str, blocks: int, jobs: int, folder: Path, permits: tuple[int, ...] = PERMITS
) -> Bank:
    """Return the bank of a provider; play the blocks that the folder does not have."""
    path = folder / f"{provider.replace(' ', '-')}.npy"
    shape = 0, len(swept_cells(permits)), len(COLUMNS)
    known = np.load(path) if path.exists() else np.empty(shape)
    if len(known) >= blocks:
        return known[:blocks]
    with get_context("spawn").Pool(jobs) as pool:
        while len(known) < blocks:
            seeds = range(len(known), min(len(known) + 20 * jobs, blocks))
            found = pool.starmap(block, [(provider, seed, permits) for seed in seeds])
            known = np.concatenate([known, np.array(found)])
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".part.npy")
            np.save(unfinished, known)
            unfinished.replace(path)
    return known[:blocks]


class Swept(NamedTuple):
    """A cell of every provider, and its policy."""

    info: CellInfo
    policy: PolicyParts


@cache
def swept_cells(permits: tuple[int, ...] = PERMITS) -> tuple[Swept, ...]:
    """Return the cells, which all providers share."""
    read = scenario("knee", 0, permits)
    return tuple(Swept(cell, resolve(read.retry, cell.retry)) for cell in cells.expand(read))


def contenders(
    provider: str,
    bank: Bank,
    blocks: Sequence[int],
    until: Sequence[int],
    permits: tuple[int, ...] = PERMITS,
) -> list[Contender]:
    """Return the cells with their first blocks; `until`: how many of them each cell has."""
    made = []
    for number, (cell, policy) in enumerate(swept_cells(permits)):
        mine = dict(enumerate(bank[list(blocks[: until[number]]), number].tolist()))
        made.append(
            Contender(
                name=cell.id,
                objective={at: row[0] for at, row in mine.items() if row[0] > 0},
                good={at: int(row[1]) for at, row in mine.items()},
                tried={at: int(row[2]) for at, row in mine.items()},
                attempts={at: row[3] / row[6] for at, row in mine.items()},
                refusals={at: row[4] for at, row in mine.items()},
                failures=int(sum(row[5] for row in mine.values())),
                policy=cell.retry,
                setting=cell.permits,
                permits=cell.permits,
                safety=policy.safety,
                simplicity=policy.simplicity,
                has_few_bursts=provider in WITH_BURSTS
                and sum(row[5] > 0 for row in mine.values()) < FEWEST_BURSTS,
            )
        )
    return made


class Decided(NamedTuple):
    """What a seed decided, after how many blocks, and how many of them each cell has.

    `drawn`: the blocks of the bank, in their order.
    """

    found: Judgement
    blocks: int
    have: Sequence[int]
    drawn: Sequence[int]


def decided(
    provider: str,
    bank: Bank,
    asked: float,
    looks: Looks,
    seed: int,
    permits: tuple[int, ...] = PERMITS,
) -> Decided:
    """Decide as a run does: dropped cells run no further, and a settled run ends."""
    most = looks.repeats[-1]
    several = len(bank) < most
    blocks = np.random.default_rng(seed).choice(len(bank), most, replace=several).tolist()
    rules = Rules(asked, MARGIN, 0.05, looks)
    names = [cell.info.id for cell in swept_cells(permits)]
    dropped: Mapping[str, int] = {}
    for count in looks.repeats:
        have = [dropped.get(name, count) for name in names]
        found = look(contenders(provider, bank, blocks, have, permits), rules, count, dropped)
        if found.is_final or count == most:
            return Decided(found, count, have, blocks)
        dropped = found.dropped
    raise AssertionError("the last look returns")


class Truth(NamedTuple):
    """What a bank says of an SLO.

    `broken`: the cells below it. `best`: of the others. `after`: the next that is not equal to it,
    or None. `leads`: standard errors of 60 blocks by which the best cell is above the SLO, by which
    it is ahead of the next that is not equal, and by which the faster cells are at least below the
    SLO.
    """

    names: list[str]
    logs: NDArray[np.float64]
    broken: NDArray[np.bool_]
    best: int | None
    after: int | None
    leads: tuple[float, float, float]

    def leads_of(self, blocks: float) -> tuple[float, ...]:
        """Return the leads in standard errors of so many blocks."""
        return tuple(one * math.sqrt(blocks / MOST) for one in self.leads)

    def is_clear(self, blocks: float = MOST) -> bool:
        """Return whether so many blocks should prove the best cell."""
        return min(self.leads_of(blocks)[:2]) >= 4

    def is_right(self, name: str) -> bool:
        """Return whether a cell is the best one or within the margin."""
        at = self.names.index(name)
        return self.best is not None and bool(
            self.logs[at] - self.logs[self.best] <= math.log1p(MARGIN)
        )


def truth_of(
    bank: Bank, asked: float, permits: tuple[int, ...] = PERMITS, *, paired: bool = True
) -> Truth:
    """Return the truth about an SLO.

    `paired`: whether the draws of a block are the same in all cells where it is decided.
    """
    names = [cell.info.id for cell in swept_cells(permits)]
    shares = bank[:, :, 1] / bank[:, :, 2]
    logs = np.log(np.maximum(bank[:, :, 0], 1e-9))
    share, error = bank[:, :, 1].sum(0) / bank[:, :, 2].sum(0), shares.std(0, ddof=1)
    broken = share + 3 * error / math.sqrt(len(bank)) < asked
    typical, errors = logs.mean(0), np.maximum(error, 1e-12) / math.sqrt(MOST)
    able = [at for at in range(len(names)) if not broken[at]]
    if not able:
        return Truth(names, typical, broken, None, None, (0.0, 0.0, 0.0))
    best = min(able, key=lambda at: float(typical[at]))
    above = float(share[best] - asked) / float(errors[best])
    is_faster = broken & (typical < typical[best])
    below = float(((asked - share) / errors)[is_faster].min(initial=math.inf))
    others = [at for at in able if typical[at] - typical[best] > math.log1p(MARGIN)]
    after = min(others, key=lambda at: float(typical[at]), default=None)
    ahead = math.inf
    if after is not None:
        apart = logs[:, after] - logs[:, best]
        spread = float(apart.std(ddof=1))
        if not paired:
            spread = math.hypot(*logs[:, [after, best]].std(0, ddof=1))
        ahead = float(apart.mean()) / (spread / math.sqrt(MOST))
    return Truth(names, typical, broken, best, after, (above, ahead, below))


class Row(NamedTuple):
    """How the decisions about one provider and SLO compare with the truth."""

    provider: str
    asked: float
    truth: Truth
    seeds: int
    proven: int
    broken: int
    right: int
    blocks: float
    trials: float
    fixed: int | None

    @property
    def holds(self) -> bool:
        """Whether the claims of this file hold."""
        most = self.proven and float(
            special.betaincinv(self.right + 1, max(self.proven - self.right, 1e-9), 0.975)
        )
        rightly = not self.proven or self.right == self.proven or most >= 0.95
        is_expected = self.truth.is_clear() and self.provider != OWN_PATHS
        often = not is_expected or self.proven >= 0.8 * self.seeds
        return self.broken <= 5 * self.seeds / 200 and rightly and often

    def text(self) -> str:
        """Return a row of a table in Markdown."""
        truth = self.truth
        best = "none" if truth.best is None else truth.names[truth.best]
        above, ahead, below = (f"{min(one, 99):.1f}" for one in truth.leads)
        fixed = "—" if self.fixed is None else str(self.fixed)
        return (
            f"| {self.provider} | {self.asked:g} | {best} | {above} / {ahead} / {below} | "
            f"{100 * self.proven / self.seeds:.0f} % | {self.broken} | "
            f"{self.right} of {self.proven} | {self.blocks:.0f} | {self.trials:.1f} | {fixed} |"
            f"{'' if self.holds else ' FAILS'}"
        )


HEAD = (
    "| provider | SLO | best in truth | errors above the SLO / ahead / faster ones below | "
    "proven | of these broken | right or within 2 % | blocks (median) | trials a cell | "
    "fixed repeats for 80 % |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def judge(provider: str, bank: Bank, seeds: int) -> Iterator[Row]:
    """Yield how the decisions compare with the truth, for each SLO."""
    for asked in ASKED:
        truth = truth_of(bank, asked)
        told = [decided(provider, bank, asked, growing_looks(MOST), seed) for seed in range(seeds)]
        named = [one.found.cell for one in told if one.found.cell is not None]
        fixed = next(
            (
                repeats
                for repeats in FIXED
                if sum(
                    decided(provider, bank, asked, one_look(repeats), seed).found.cell is not None
                    for seed in range(seeds)
                )
                >= 0.8 * seeds
            ),
            None,
        )
        yield Row(
            provider,
            asked,
            truth,
            seeds,
            len(named),
            sum(bool(truth.broken[truth.names.index(name)]) for name in named),
            sum(map(truth.is_right, named)),
            float(np.median([one.blocks for one in told])),
            float(np.mean([sum(one.have) for one in told])) / len(truth.names),
            fixed,
        )


def main(arguments: Sequence[str]) -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.advice", description=__doc__)
    parser.add_argument("--blocks", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--bank", type=Path, default=Path("results/advice-bank"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROVIDERS))
    asked = parser.parse_args(arguments)
    began, holds = time.monotonic(), True
    print(f"Simulated, in virtual time: truth from {asked.blocks} blocks, {asked.seeds} seeds.\n")
    print(HEAD)
    for name in asked.names or PROVIDERS:
        bank = bank_of(name, asked.blocks, asked.jobs, asked.bank)
        for row in judge(name, bank, asked.seeds):
            print(row.text(), flush=True)
            holds = holds and row.holds
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
