"""The tunes of `benchmarks.tuning`, and the lines that are kept of them. Simulated."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

import harness
from benchmarks import advice
from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise
from harness.bench import runner
from harness.bench.cells import expand
from harness.bench.scenario import Scenario
from harness.records.tune_blocks import TuneBlock
from harness.simulator.profiles import load_profile
from harness.store.run_directory import each
from harness.tune.blocks import TunePlan
from harness.tune.candidates import tune_scenario

PERMITS = (2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)
ASKED = 0.9
FIRST_SEED = 1_000_000
"""The seed of the first tune. The blocks of a bank have the seeds from 0."""

_ASKING = f"""
[slo]
success_rate = {ASKED}
[objective]
margin = {advice.MARGIN}
"""
_DECIDING = ("tune", "twin", "analysis")
"""The packages whose code decides in a tune."""


class TuneStep(msgspec.Struct, frozen=True):
    """One decision of a tune: see `TuneBlock`. `requests`: so far. `open`: how many settings."""

    requests: int
    leading: str
    regret: float
    open: int
    cells: tuple[str, ...]
    end: str


class TunedSeed(msgspec.Struct, frozen=True):
    """A tune that has ended.

    `state`: of its recommendation. `cell`: which it would use, None without a candidate. `cpu_s`:
    seconds of processor time.
    """

    seed: int
    steps: tuple[TuneStep, ...]
    state: str
    cell: str | None
    requests: int
    cpu_s: float

    def leading_within(self, requests: float) -> TuneStep | None:
        """Return the last decision made with at most so many requests, if a setting leads there."""
        within = [step for step in self.steps if step.requests <= requests]
        return within[-1] if within and within[-1].leading else None


def scenario_of(provider: str, seed: int, budget: float) -> Scenario:
    """Return the scenario of the tune of a seed, which sends at most `budget` requests."""
    asking = f"{_ASKING}[budget]\nattempts = {round(budget)}\n"
    return tune_scenario(
        advice.scenario(provider, FIRST_SEED + seed, PERMITS, asking), "benchmarks.tuning"
    )


def tuned(provider: str, budget: float, seed: int) -> TunedSeed:
    """Run one tune until it ends or its requests reach the budget."""
    scenario = scenario_of(provider, seed, budget)
    endpoint: Any = scenario.endpoint
    simulation = endpoint.facts.simulation
    profile = load_profile(simulation.profile, simulation.overrides).as_dict()
    profiles = {cell.id: profile for cell in expand(scenario)}
    hooks = runner.Hooks(*[lambda *_: None] * len(runner.Hooks._fields))
    before = sum(os.times()[:4])
    with tempfile.TemporaryDirectory(prefix="tuning-") as folder:
        runner.run(scenario, profiles, {}, Path(folder), hooks, plan=TunePlan(lambda _: None))
        cpu_s = sum(os.times()[:4]) - before
        records, blocks = Dataset.read(Path(folder)), list(each(Path(folder), TuneBlock))
    found = summarise(records).recommendation
    steps = tuple(
        TuneStep(one.attempts, one.leading, one.regret, len(one.open), one.cells, one.end)
        for one in blocks
    )
    return TunedSeed(
        seed, steps, found.state, found.cell or found.candidate, len(records.attempts), cpu_s
    )


def tunes_of(
    provider: str, seeds: int, budget: float, jobs: int, folder: Path
) -> Sequence[TunedSeed]:
    """Return the tunes of a provider; run those that the folder does not have."""
    asked = msgspec.json.encode(scenario_of(provider, 0, budget).as_dict())
    version = digest(sources_of(_DECIDING), [asked, str(budget).encode()])
    path = versioned(folder, provider, version)
    return in_processes(path, TunedSeed, seeds, jobs, partial(tuned, provider, budget))


class OfSeed(Protocol):
    """What is kept of a seed."""

    @property
    def seed(self) -> int:
        """The number of the seed, from 0."""


_Kept = TypeVar("_Kept", bound=OfSeed)


def in_processes(
    path: Path, kind: type[_Kept], seeds: int, jobs: int, play: Callable[[int], _Kept]
) -> list[_Kept]:
    """Return the first seeds; those that the file does not have are played in processes."""

    def play_all(missing: list[int]) -> Iterator[_Kept]:
        with get_context("spawn").Pool(jobs) as pool:
            yield from pool.imap_unordered(play, missing)

    return completed(path, kind, range(seeds), play_all)


def completed(
    path: Path,
    kind: type[_Kept],
    seeds: Sequence[int],
    play: Callable[[list[int]], Iterable[_Kept]],
) -> list[_Kept]:
    """Return what is known of the seeds, in their order.

    `path`: has a JSON line for each seed that has ended; it need not exist. `play`: yields those
    that are missing in any order. Each is appended when it ends, so a run that was killed goes on
    where it was. An incomplete last line is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(0)
        lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        file.truncate(len(whole))
        known = {one.seed: one for one in msgspec.json.Decoder(kind).decode_lines(whole)}
        missing = [seed for seed in seeds if seed not in known]
        for one in play(missing) if missing else ():
            file.write(msgspec.json.encode(one) + b"\n")
            file.flush()
            known[one.seed] = one
    return [known[seed] for seed in seeds]


def versioned(folder: Path, name: str, version: str) -> Path:
    """Return the file of a version; print a line if only other versions have one."""
    stem = name.replace(" ", "-")
    path = folder / f"{stem}-{version}.jsonl"
    others = sorted(folder.glob(f"{stem}-{'[0-9a-f]' * len(version)}.jsonl"))
    if others and path not in others:
        kept = ", ".join(other.name for other in others)
        print(f"Simulated: {name}: the code or the truth has changed since {kept}; new: {path}")
    return path


def digest(*parts: Iterable[bytes]) -> str:
    """Return a short hash of some bytes."""
    found = hashlib.sha256()
    for part in parts:
        for each_one in part:
            found.update(each_one + b"\0")
    return found.hexdigest()[:12]


def sources_of(packages: Iterable[str]) -> Iterator[bytes]:
    """Yield the files of some packages of the harness."""
    root = Path(harness.__file__).parent
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            yield path.read_bytes()
