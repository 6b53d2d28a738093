"""The basis of the metrics of a cell: its records, and values that several metrics share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from harness.analysis import replay
from harness.analysis.call_segments import PARTS, add_lengths
from harness.analysis.model import PhaseFigures, TimeSpent
from harness.analysis.pooling import pool
from harness.analysis.selection import CellRecords
from harness.analysis.significance import Successes
from harness.analysis.statistics import Sample, describe, sample
from harness.config.prices import Price, cost_usd, price_in
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, OK
from harness.records.groups import TriedCall
from harness.records.histogram import middle
from harness.records.keys import CallKey, NamesWorkflow
from harness.records.schema import Attempt, Call, CellInfo, Run, Trial, Workflow

_R = TypeVar("_R", Workflow, Call)

ByRepeat = dict[int, float]
"""A value of each repeat that has one."""


class CountingRules(NamedTuple):
    """How the scenario defines success and cost.

    `min_branches`: how many branches a degraded workflow needs to count as a success, None for
    all. `latency`: nanoseconds within which a success is goodput, None for no limit. `price`: None
    where it is not known. `epoch`: the Unix time of the records' zero, in nanoseconds.
    """

    in_flight: int
    min_branches: int | None = None
    latency: float | None = None
    price: Price | None = None
    epoch: int = 0

    def is_success(self, workflow: Workflow) -> bool:
        """Return whether a workflow is ok, or degraded with enough branches."""
        if workflow.outcome == "degraded" and self.min_branches is not None:
            return workflow.branches.ok >= self.min_branches
        return workflow.outcome == "ok"

    def is_good(self, workflow: Workflow) -> bool:
        """Return whether a workflow is a success within the latency limit."""
        late = self.latency is not None and workflow.done - workflow.ready > self.latency
        return self.is_success(workflow) and not late

    def cost(self, attempts: Iterable[Attempt]) -> float | None:
        """Return what the tokens of these attempts cost in USD; None where no price is known."""
        if self.price is None:
            return None
        return math.fsum(
            cost_usd(self.price, attempt.tokens, self.epoch + (attempt.sent or attempt.ready))
            for attempt in attempts
        )


def terms_of(run: Run, cell: CellInfo) -> CountingRules:
    """Return the counting rules of a cell, with times in nanoseconds as in its records."""
    scenario = run.cell_scenario(cell)
    latency = scenario["slo"]["workflow_latency"]
    return CountingRules(
        in_flight=scenario["load"]["in_flight"],
        min_branches=scenario["success"]["min_branches"],
        latency=None if latency is None else latency * run.time_scale * SECOND,
        price=price_in(run, cell.id),
        epoch=run.anchor.unix_ns,
    )


def makespan(trial: Trial) -> float:
    """Return the seconds from the first workflow ready to the last one done."""
    return (trial.end - trial.start) / SECOND


class MeasuredCell:
    """The records of a cell, and the values that several metrics need, each computed once.

    `rules`: by default those of the cell's scenario. `sync`: the cell that the speed-up is
    measured against, None without one.
    """

    def __init__(
        self,
        records: CellRecords,
        rules: CountingRules | None = None,
        sync: CellRecords | None = None,
    ) -> None:
        self.records = records
        self.rules = rules or terms_of(records.run, records.info)
        self.sync = sync
        self._populations: dict[PopulationName, Population] = {}

    @cached_property
    def steady(self) -> CellRecords:
        """The records without the warm-up of an open loop."""
        return self.records.steady()

    @cached_property
    def workflow_outcomes(self) -> Counter[str]:
        """How many workflows ended in which way."""
        return Counter(workflow.outcome for workflow in self.records.workflows)

    @cached_property
    def call_outcomes(self) -> Counter[str]:
        """How many calls that began ended in which way."""
        return Counter(call.outcome for call in filter(begun, self.records.calls))

    @cached_property
    def attempt_outcomes(self) -> Counter[str]:
        """How many attempts ended in which way."""
        return Counter(attempt.outcome for attempt in self.records.attempts)

    @cached_property
    def makespans(self) -> ByRepeat:
        """The makespan in seconds of each trial that ran without interruption and took time."""
        return {
            trial.repeat: makespan(trial)
            for trial in self.records.whole_trials()
            if trial.end > trial.start
        }

    @cached_property
    def bounds(self) -> list[TrialBounds]:
        """The bounds of each trial that ran without interruption."""
        mode, in_flight = self.records.info.mode, self.rules.in_flight
        return [
            TrialBounds(
                trial.repeat,
                replay.replay(work, self.records.info.permits, in_flight, mode, arrivals),
                replay.critical_path_bound(work, in_flight, mode, arrivals),
                trial.end - trial.start,
            )
            for trial, work, arrivals in replay.trials_to_replay(self.records)
        ]

    @cached_property
    def unused(self) -> list[Attempt]:
        """The attempts whose response was not used."""
        return wasted(self.records.spent)

    @cached_property
    def tokens(self) -> Counter[str]:
        """Tokens of every attempt, as reported."""
        return _tokens(self.records.spent, self.unused)

    def rate(self, counts: Mapping[int, int]) -> ByRepeat:
        """Return how many there were per second of makespan, by repeat."""
        return {repeat: counts.get(repeat, 0) / took for repeat, took in self.makespans.items()}

    def population(self, name: PopulationName) -> Population:
        """Return the records that a distribution is made from, without the warm-up."""
        if name not in self._populations:
            self._populations[name] = _population(self.steady, name)
        return self._populations[name]


PopulationName = Literal["workflows", "calls", "attempts", "backoffs"]


class Population(NamedTuple):
    """Records of one kind, each with its cluster (see `CellRecords`) and its repeat."""

    items: list[Any]
    clusters: NDArray[np.int64]
    repeats: NDArray[np.int64]


def _population(cell: CellRecords, name: PopulationName) -> Population:
    items: list[Any]
    owners: Sequence[NamesWorkflow]
    match name:
        case "workflows":
            items = owners = cell.workflows
        case "calls":
            items = owners = list(wanted(cell.calls))
        case "attempts":
            items = owners = cell.attempts
        case "backoffs":
            items = [wait for call in cell.calls for wait in call.backoffs]
            owners = [call for call in cell.calls for _ in call.backoffs]
        case _:
            assert_never(name)
    number = cell.clusters
    clusters = np.array([number[one.repeat, one.workflow] for one in owners], np.int64)
    return Population(items, clusters, np.array([one.repeat for one in owners], np.int64))


def count_successes(records: Iterable[_R], holds: Callable[[_R], bool]) -> Successes:
    """Return for how many records `holds` is true, and of how many, by repeat."""
    tried, good = Counter[int](), Counter[int]()
    for record in records:
        tried[record.repeat] += 1
        good[record.repeat] += holds(record)
    return Successes([good[repeat] for repeat in tried], list(tried.values()))


def wanted(calls: Iterable[Call]) -> Iterator[Call]:
    """Return the calls that were not cancelled."""
    return (call for call in calls if call.outcome != CANCELLED)


def begun(call: Call) -> bool:
    """Return whether a call began; a cancelled call may not have begun."""
    return call.attempts > 0 or call.outcome != CANCELLED


class TrialBounds(NamedTuple):
    """Nanoseconds of one trial: of its replay, of its critical path, and as measured."""

    repeat: int
    replay: int
    critical_path: int
    measured: int


def gaps(cell: CellRecords) -> Sample:
    """Return the gaps between text chunks, in seconds; workflows are the clusters.

    Values are known to the width of a histogram's bucket, under 0.8 %.
    """
    number = cell.clusters
    owners, names, counts = pool((number[a.repeat, a.workflow], a.gaps) for a in cell.attempts)
    known, place = np.unique(names, return_inverse=True)
    middles = np.array([middle(int(name)) for name in known]) / SECOND
    return sample(middles[place], owners, counts)


def phase_figures(cell: CellRecords) -> dict[str, PhaseFigures]:
    """Return the figures of each phase."""
    return {name: _phase(cell, name) for name in cell.phases}


def _phase(cell: CellRecords, name: str) -> PhaseFigures:
    ran = [(w, phase) for w in cell.workflows for phase in w.phases if phase.name == name]
    clusters = np.array([cell.clusters[w.repeat, w.workflow] for w, _ in ran], np.int64)
    whole = sum(workflow.done - workflow.ready for workflow in cell.workflows)
    lengths = [phase.end - phase.start for _, phase in ran]
    # A nested phase runs during the phase around it, and may run beside others.
    top = sum(phase.end - phase.start for _, phase in ran if phase.parent is phase.branch is None)
    is_nested = bool(ran) and not any(phase.parent is phase.branch is None for _, phase in ran)
    return PhaseFigures(
        latency_s=describe(sample(np.array(lengths, np.float64) / SECOND, clusters)),
        share=top / whole if whole and not is_nested else None,
        failed=sum(phase.outcome == "failed" for _, phase in ran),
    )


def time_spent(tried: Iterable[TriedCall]) -> TimeSpent | None:
    """Return the time of the calls by part, None if they took none; without cancelled calls."""
    spent = dict.fromkeys(PARTS, 0)
    for call, attempts in tried:
        if call.outcome != CANCELLED:
            add_lengths(spent, call, attempts)
    whole = sum(spent.values())
    if not whole:
        return None
    spent["other"] += spent.pop("client_wait")
    return TimeSpent(**{part: took / whole for part, took in spent.items()})


def wasted(spent: Sequence[Attempt]) -> list[Attempt]:
    """Return the unused attempts: those that failed, and the later of two hedged successes."""
    raced = {attempt.call_key for attempt in spent if attempt.hedge}
    used: dict[CallKey, Attempt] = {}
    if raced:
        for attempt in sorted(spent, key=lambda attempt: attempt.done):
            if attempt.outcome == OK and attempt.call_key in raced:
                used.setdefault(attempt.call_key, attempt)
    return [
        attempt
        for attempt in spent
        if attempt.outcome != OK or (raced and used.get(attempt.call_key, attempt) is not attempt)
    ]


def _tokens(spent: Iterable[Attempt], unused: Iterable[Attempt]) -> Counter[str]:
    total: Counter[str] = Counter()
    for attempt in spent:
        tokens = attempt.tokens
        total["input"] += tokens.input or 0
        total["output"] += tokens.output or 0
        total["reasoning"] += tokens.reasoning or 0
        total["cached"] += tokens.cached or 0
        total["unreported"] += attempt.outcome == OK and tokens.output is None
    for attempt in unused:
        total["wasted"] += (attempt.tokens.input or 0) + (attempt.tokens.output or 0)
    return total
