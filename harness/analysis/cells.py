"""The basis of the metrics of a cell: its records, and values that several metrics share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from harness.analysis.call_segments import PARTS, add_lengths
from harness.analysis.critical_path import walk_cell
from harness.analysis.model import PhaseFigures, TimeSpent
from harness.analysis.offered_load import TrialArrivals, arrivals_of
from harness.analysis.pooling import pool_packed
from harness.analysis.replay import TrialBounds
from harness.analysis.selection import CellRecords
from harness.analysis.significance import Successes
from harness.analysis.statistics import Sample, Samples, describe, sample
from harness.config.prices import Price, cost_of_counts, cost_usd, price_in
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, FAILURES, OK, is_failure
from harness.records.groups import TriedCall
from harness.records.histogram import middle, named
from harness.records.schema import CellInfo, Run, Tokens, Trial, Workflow
from harness.store.column_values import ranges
from harness.store.columns import ANOMALY_MARK, AttemptTable, CallTable
from harness.store.compact_records import ABSENT

ByRepeat = dict[int, float]
"""A value of each repeat that has one."""


FEWEST_BURSTS = 10
"""With fewer bursts of failures than this, the repeats do not show how often bursts come."""

_CHANCE = 0.01
"""The expected number of runs of failures as long as a burst when failures are independent."""


_AT_ONCE = 4_000_000
"""The buckets that are added up at a time."""


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
        """Return whether a workflow is ok, or degraded with enough branches.

        One whose program judged the result as not ok is no success. A degraded one whose program
        judged it as ok is one, unless the scenario says how many branches are enough.
        """
        if workflow.ok is False:
            return False
        if workflow.outcome == "degraded":
            if self.min_branches is not None:
                return workflow.branches.ok >= self.min_branches
            return workflow.ok is True
        return workflow.outcome == "ok"

    def is_good(self, workflow: Workflow) -> bool:
        """Return whether a workflow is a success within the latency limit."""
        return self.is_success(workflow) and not self.is_late(workflow)

    def is_late(self, workflow: Workflow) -> bool:
        """Return whether a workflow is a success that took longer than the latency limit."""
        if self.latency is None or workflow.done - workflow.ready <= self.latency:
            return False
        return self.is_success(workflow)

    def costs(self, attempts: AttemptTable) -> NDArray[np.float64] | None:
        """Return what the tokens of each attempt cost in USD; None where no price is known."""
        price = self.price
        if price is None:
            return None
        sent = attempts.column("sent")
        at = np.where((sent == ABSENT) | (sent == 0), attempts.column("ready"), sent)
        names = ("input", "cached", "output", "reasoning")
        read, cached, written, reasoned = (reported(attempts, name) for name in names)
        if price.varies:
            rows = zip(
                *(one.tolist() for one in (at, read, cached, written, reasoned)), strict=True
            )
            return np.array(
                [
                    cost_usd(
                        price,
                        Tokens(input=row[1], cached=row[2], output=row[3], reasoning=row[4]),
                        self.epoch + row[0],
                    )
                    for row in rows
                ],
                np.float64,
            )
        cached, reasoned = np.minimum(cached, read), np.minimum(reasoned, written)
        factors: Any = 1.0
        if price.peak is not None:
            factors = np.array([price.factor(self.epoch + moment) for moment in at.tolist()])
        costs: NDArray[np.float64] = cost_of_counts(price, read, cached, written, reasoned, factors)
        return costs

    def cost(self, attempts: AttemptTable) -> float | None:
        """Return what the tokens of these attempts cost in USD; None where no price is known."""
        costs = self.costs(attempts)
        return None if costs is None else math.fsum(costs.tolist())


def reported(attempts: AttemptTable, name: str) -> NDArray[np.int64]:
    """Return a token count of each attempt, 0 where it was not reported."""
    return np.maximum(attempts.column(name).astype(np.int64), 0)


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
        calls = self.records.calls
        return count_words(calls.take(has_begun(calls)), "outcome")

    @cached_property
    def attempt_outcomes(self) -> Counter[str]:
        """How many attempts ended in which way."""
        return count_words(self.records.attempts, "outcome")

    @cached_property
    def makespans(self) -> ByRepeat:
        """The makespan in seconds of each trial that ran without interruption and took time."""
        return {
            trial.repeat: makespan(trial)
            for trial in self.records.whole_trials()
            if trial.end > trial.start
        }

    @cached_property
    def arrivals(self) -> dict[int, TrialArrivals]:
        """The arrivals of an open loop in each trial that ran without interruption."""
        return arrivals_of(self.records)

    @cached_property
    def bursts(self) -> int | None:
        """How many bursts of failures the cell met; None where there can be none.

        A simulated provider has bursts where its faults say so. An outage at a given time is the
        same in each repeat, so it is none. Of a live provider, only failures count that mean that
        it is unavailable: load alone brings refusals, in each repeat alike.
        """
        profile = self.records.run.cell_profile(self.records.info.id)
        if profile is not None and not any(one.get("burst") for one in profile.get("faults") or ()):
            return None
        fails = is_unavailable if profile is None else is_failure
        return count_bursts(self.records.attempts, fails)

    @property
    def has_few_bursts(self) -> bool:
        """Whether the cell met too few bursts for an interval of anything."""
        if self.bursts is None or (self.bursts == 0 and not self.records.run.has_simulator):
            return False
        return self.bursts < FEWEST_BURSTS

    @property
    def bounds(self) -> tuple[TrialBounds, ...]:
        """The bounds of each trial that ran without interruption."""
        return walk_cell(self.records, self.rules.in_flight).bounds

    @cached_property
    def unused(self) -> AttemptTable:
        """The attempts whose response was not used."""
        return wasted(self.records)

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


class HasColumns(Protocol):
    """Records with a column for each time."""

    def column(self, name: str) -> NDArray[Any]:
        """Return the values of a field, `ABSENT` for None."""


class _Columns(dict[str, NDArray[Any]]):
    def column(self, name: str) -> NDArray[Any]:
        return self[name]


class Population(NamedTuple):
    """Records of one kind, each with its cluster (see `CellRecords`) and its repeat."""

    items: HasColumns
    clusters: NDArray[np.int64]
    repeats: NDArray[np.int64]


def _population(cell: CellRecords, name: PopulationName) -> Population:
    match name:
        case "workflows":
            names = ("ready", "done", "repeat")
            times = _Columns(
                (name, np.array([getattr(one, name) for one in cell.workflows], np.int64))
                for name in names
            )
            number = cell.clusters
            clusters = [number[one.repeat, one.workflow] for one in cell.workflows]
            return Population(times, np.array(clusters, np.int64), times["repeat"])
        case "calls":
            return _of_table(cell, wanted(cell.calls))
        case "attempts":
            return _of_table(cell, cell.attempts)
        case "backoffs":
            calls = cell.calls
            packed, places = calls.backoffs, calls.places()
            counts = packed.starts[places + 1] - packed.starts[places]
            rows = ranges(packed.starts[places], counts)
            waits = _Columns((name, column[rows]) for name, column in packed.columns.items())
            whole = _of_table(cell, calls)
            return Population(
                waits, np.repeat(whole.clusters, counts), np.repeat(whole.repeats, counts)
            )
        case _:
            assert_never(name)


def _of_table(cell: CellRecords, table: CallTable | AttemptTable) -> Population:
    return Population(table, cell.clusters_of(table), table.column("repeat").astype(np.int64))


def count_words(table: CallTable | AttemptTable, name: str) -> Counter[str]:
    """Return how often each word occurs in a column."""
    counts = np.bincount(table.column(name)).tolist()
    return Counter({table.words.names[at]: count for at, count in enumerate(counts) if count})


def count_anomalies(attempts: AttemptTable) -> Counter[str]:
    """Return how many attempts have each anomaly."""
    found = Counter[str]()
    for combined, count in count_words(attempts, "anomalies").items():
        for name in combined.split(ANOMALY_MARK) if combined else ():
            found[name] += count
    return found


def count_rows(repeats: NDArray[Any]) -> dict[int, int]:
    """Return how many rows each repeat has, in the order in which repeats occur."""
    known, first, counts = np.unique(repeats, return_index=True, return_counts=True)
    order = np.argsort(first)
    return dict(zip(known[order].tolist(), counts[order].tolist(), strict=True))


def rows_by(repeats: NDArray[Any]) -> dict[int, NDArray[np.int64]]:
    """Return the rows of each repeat, in their order."""
    order = np.argsort(repeats, kind="stable")
    known, first = np.unique(repeats[order], return_index=True)
    return dict(zip(known.tolist(), np.split(order, first[1:]), strict=True)) if len(known) else {}


def count_successes(workflows: Iterable[Workflow], holds: Callable[[Workflow], bool]) -> Successes:
    """Return for how many workflows `holds` is true, and of how many, by repeat."""
    tried, good = Counter[int](), Counter[int]()
    for workflow in workflows:
        tried[workflow.repeat] += 1
        good[workflow.repeat] += holds(workflow)
    return Successes([good[repeat] for repeat in tried], list(tried.values()))


def count_lost(calls: CallTable) -> Successes:
    """Return how many calls failed, and of how many that were not cancelled, by repeat."""
    calls = wanted(calls)
    tried = count_rows(calls.column("repeat"))
    lost = count_rows(calls.column("repeat")[calls.where("outcome", is_failure)])
    return Successes([lost.get(repeat, 0) for repeat in tried], list(tried.values()))


def is_unavailable(word: str) -> bool:
    """Return whether a word is an outcome that means that the whole server is unavailable."""
    return word in FAILURES and FAILURES[word].outage


def count_bursts(attempts: AttemptTable, fails: Callable[[str], bool]) -> int:
    """Return the number of bursts of failures: attempts that all fail, sent one after another.

    `fails`: whether an outcome is such a failure. A burst is longer than chance alone makes any run
    of failures of this cell.
    """
    was_sent = attempts.column("sent") != ABSENT
    failed = attempts.where("outcome", fails)[was_sent]
    share = float(failed.mean()) if len(failed) else 0.0
    if not 0 < share < 1:
        return 0
    repeats = attempts.column("repeat")[was_sent]
    order = np.lexsort((attempts.column("sent")[was_sent], repeats))
    failed, repeats = failed[order], repeats[order]
    longest = max(3, math.ceil(math.log(_CHANCE / len(failed)) / math.log(share)))
    is_start = np.flatnonzero(
        (np.diff(failed, prepend=~failed[0]) != 0) | (np.diff(repeats, prepend=-1) != 0)
    )
    lengths = np.diff(is_start, append=len(failed))
    return int((failed[is_start] & (lengths >= longest)).sum())


def wanted(calls: CallTable) -> CallTable:
    """Return the calls that were not cancelled."""
    return calls.take(~calls.where("outcome", CANCELLED.__eq__))


def has_begun(calls: CallTable) -> NDArray[np.bool_]:
    """Return which calls began; a cancelled call may not have begun."""
    return (calls.column("attempts") > 0) | ~calls.where("outcome", CANCELLED.__eq__)


def by_repeat(
    values: NDArray[np.float64], clusters: NDArray[np.int64], repeats: NDArray[np.int64]
) -> Samples:
    """Return observations as a sample for each repeat; the clusters matter for a single repeat."""
    return {
        repeat: sample(values[rows], clusters[rows]) for repeat, rows in rows_by(repeats).items()
    }


def gaps(cell: CellRecords) -> Samples:
    """Return the gaps between text chunks, in seconds.

    Values are known to the width of a histogram's bucket, under 0.8 %.
    """
    attempts = cell.attempts
    owners, numbers, counts = pool_packed(
        cell.clusters_of(attempts), attempts.gaps, attempts.places()
    )
    if not len(numbers):
        return {}
    middles = np.array([middle(named(at)) for at in range(int(numbers.max()) + 1)]) / SECOND
    repeat_of = np.zeros(max(cell.clusters.values()) + 1, np.int64)
    for (repeat, _), cluster in cell.clusters.items():
        repeat_of[cluster] = repeat
    repeats = np.unique(repeat_of)
    if len(repeats) == 1:
        # In order of the buckets, which is that of their middles: small numbers are sorted faster.
        order = np.argsort(numbers, kind="stable")
        # Small types: a long run has millions of buckets.
        counted, owned = counts[order].astype(np.int32), owners[order].astype(np.int32)
        return {int(repeats[0]): Sample(middles[numbers[order]], counted, owned)}
    # The clusters of several repeats are not needed, so each repeat has each bucket once.
    rows = np.searchsorted(repeats, repeat_of)
    totals = np.zeros(len(repeats) * len(middles))
    for start in range(0, len(numbers), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        places = rows[owners[some]] * len(middles) + numbers[some]
        totals += np.bincount(places, weights=counts[some], minlength=len(totals))
    found = {}
    for repeat, row in zip(repeats.tolist(), totals.reshape(len(repeats), -1), strict=True):
        seen = np.flatnonzero(row)
        if len(seen):
            one = np.zeros(len(seen), np.int64)
            found[repeat] = Sample(middles[seen], row[seen].astype(np.int64), one)
    return found


def phase_figures(cell: CellRecords) -> dict[str, PhaseFigures]:
    """Return the figures of each phase."""
    return {name: _phase(cell, name) for name in cell.phases}


def _phase(cell: CellRecords, name: str) -> PhaseFigures:
    ran = [(w, phase) for w in cell.workflows for phase in w.phases if phase.name == name]
    clusters = np.array([cell.clusters[w.repeat, w.workflow] for w, _ in ran], np.int64)
    repeats = np.array([w.repeat for w, _ in ran], np.int64)
    whole = sum(workflow.done - workflow.ready for workflow in cell.workflows)
    lengths = np.array([phase.end - phase.start for _, phase in ran], np.float64) / SECOND
    # A nested phase runs during the phase around it, and may run beside others.
    top = sum(phase.end - phase.start for _, phase in ran if phase.parent is phase.branch is None)
    is_nested = bool(ran) and not any(phase.parent is phase.branch is None for _, phase in ran)
    return PhaseFigures(
        latency_s=describe(by_repeat(lengths, clusters, repeats), skewed=cell.open_loop),
        share=top / whole if whole and not is_nested else None,
        failed=sum(phase.outcome == "failed" for _, phase in ran),
    )


def time_spent(tried: Iterable[TriedCall]) -> TimeSpent | None:
    """Return the time of the calls by part, None if they took none; without cancelled calls."""
    spent = dict.fromkeys(PARTS, 0)
    for call, attempts in tried:
        if call.outcome != CANCELLED:
            add_lengths(spent, call, attempts)
    return _shares(spent)


def time_spent_in(cell: CellRecords) -> TimeSpent | None:
    """Return the same of the calls of a cell."""
    calls, index = wanted(cell.calls), cell.groups
    lengths = index.lengths[calls.places()]
    is_known = lengths[:, 0] != ABSENT
    spent = dict(zip(PARTS, lengths[is_known].sum(axis=0).tolist(), strict=True))
    others = calls.take(~is_known)
    for call, attempts in zip(others, index.attempts_of(others.places()), strict=True):
        add_lengths(spent, call, attempts)
    return _shares(spent)


def _shares(spent: dict[str, int]) -> TimeSpent | None:
    whole = sum(spent.values())
    if not whole:
        return None
    spent["other"] += spent.pop("client_wait")
    return TimeSpent(**{part: took / whole for part, took in spent.items()})


def wasted(cell: CellRecords) -> AttemptTable:
    """Return the unused attempts.

    These are those that failed, those of executions that were abandoned when the workflow ran
    again, and the later of two hedged successes.
    """
    spent = cell.spent
    is_unused = ~spent.where("outcome", OK.__eq__) | ~cell.groups.latest[spent.column("number")]
    hedges = spent.column("hedge") > 0
    if hedges.any():
        numbers = cell.groups.call_numbers(spent)
        raced = np.flatnonzero(np.isin(numbers, numbers[hedges]) & ~is_unused)
        by_end = raced[np.argsort(spent.column("done")[raced], kind="stable")]
        _, first = np.unique(numbers[by_end], return_index=True)
        is_unused[raced] = True
        is_unused[by_end[first]] = False
    return spent.take(is_unused)


def _tokens(spent: AttemptTable, unused: AttemptTable) -> Counter[str]:
    names = ("input", "output", "reasoning", "cached")
    total = Counter({name: int(reported(spent, name).sum()) for name in names})
    is_ok = spent.where("outcome", OK.__eq__)
    total["unreported"] = int((is_ok & (spent.column("output") == ABSENT)).sum())
    total["wasted"] = sum(int(reported(unused, name).sum()) for name in ("input", "output"))
    return total
