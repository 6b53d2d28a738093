"""One cell's figures from the records that count. Definitions: the docstrings of `model`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.analysis import replay
from harness.analysis.call_segments import PARTS, add_lengths
from harness.analysis.model import (
    AttemptCounts,
    CallCounts,
    Cell,
    Distribution,
    Figure,
    PhaseFigures,
    Throughput,
    TimeSpent,
    TokenCounts,
    WorkflowCounts,
)
from harness.analysis.pooling import pool
from harness.analysis.selection import CellRecords, by_repeat
from harness.analysis.statistics import Sample, describe, over_repeats, sample, share
from harness.config.prices import Price, cost_usd, price_in
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, OK, is_failure
from harness.records.groups import TriedCall
from harness.records.histogram import middle
from harness.records.keys import CallKey
from harness.records.schema import PHASES, Attempt, Call, Run, Trial, Workflow


class CountingRules(NamedTuple):
    """What the scenario says about counting.

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
        """Return whether a workflow is a success within the latency asked for."""
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


def terms_of(run: Run) -> CountingRules:
    """Return the counting terms of a run; scenario seconds become nanoseconds of its records."""
    scenario = run.scenario
    latency = scenario["slo"]["workflow_latency"]
    return CountingRules(
        in_flight=scenario["load"]["in_flight"],
        min_branches=scenario["success"]["min_branches"],
        latency=None if latency is None else latency * run.time_scale * SECOND,
        price=price_in(run),
        epoch=run.anchor.unix_ns,
    )


def makespan(trial: Trial) -> float:
    """Return the seconds from the first workflow ready to the last one done."""
    return (trial.end - trial.start) / SECOND


def summarise_cell(cell: CellRecords, terms: CountingRules, sync: CellRecords | None) -> Cell:
    """Return everything known of one cell; `sync` is the cell its speed-up is measured against."""
    info, workflows, calls, attempts = cell.info, cell.workflows, cell.calls, cell.attempts
    steady = cell.steady()
    mine = _Clusters.of(steady)
    unused = wasted(cell.spent)
    trials = [trial for trial in cell.whole_trials() if trial.end > trial.start]
    bounds = list(_bounds(cell, trials, terms))

    def rate(counts: Mapping[int, int]) -> Figure | None:
        return over_repeats(counts[trial.repeat] / makespan(trial) for trial in trials)

    return Cell(
        **msgspec.structs.asdict(info),
        repeats=len(cell.trials),
        workflows=_workflow_counts(cell),
        warm_up=len(workflows) - len(steady.workflows),
        calls=_call_counts(calls),
        calls_lost=_calls_lost(calls),
        attempts=_attempt_counts(attempts, sum(map(begun, calls))),
        makespan_s=over_repeats(map(makespan, trials)),
        throughput=Throughput(
            workflows_per_s=rate(Counter(workflow.repeat for workflow in workflows)),
            calls_per_s=rate(Counter(call.repeat for call in wanted(calls))),
        ),
        goodput_workflows_per_s=rate(Counter(w.repeat for w in workflows if terms.is_good(w))),
        success_rate=share_of(cell, terms.is_success),
        speedup_over_sync=_speedup(cell, sync),
        scheduling_efficiency=over_repeats(
            ideal / (trial.end - trial.start)
            for (ideal, _), trial in zip(bounds, trials, strict=True)
        ),
        critical_path_bound_s=_value(over_repeats(path / SECOND for _, path in bounds)),
        workflow_latency_s=_spread(mine.workflows, (w.done - w.ready for w in steady.workflows)),
        call_latency_s=_spread(mine.calls, (c.done - c.ready for c in wanted(steady.calls))),
        ttft_s=_spread(mine.attempts, (a.ttft for a in steady.attempts)),
        time_to_first_answer_s=_spread(mine.attempts, map(_to_answer, steady.attempts)),
        inter_token_s=describe(gaps(steady)),
        permit_wait_s=_spread(mine.attempts, (a.permit_wait for a in steady.attempts)),
        client_wait_s=_spread(mine.attempts, (a.client_wait for a in steady.attempts)),
        backoff_s=_spread(
            mine.backoffs, (wait.end - wait.start for c in steady.calls for wait in c.backoffs)
        ),
        phases={name: _phase(steady, name) for name in PHASES},
        time_spent=time_spent(steady.tried()),
        tokens=_tokens(cell.spent, unused),
        cost_usd=terms.cost(cell.spent),
        wasted_usd=terms.cost(unused),
        cost_per_successful_workflow_usd=_cost_of_success(cell, terms),
    )


def share_of(cell: CellRecords, holds: Callable[[Workflow], bool]) -> Figure | None:
    """Return the share of the workflows of `cell` for which `holds` is true."""
    tried = Counter(workflow.repeat for workflow in cell.workflows)
    good = Counter(workflow.repeat for workflow in cell.workflows if holds(workflow))
    return share([good[repeat] for repeat in tried], list(tried.values()))


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _workflow_counts(cell: CellRecords) -> WorkflowCounts:
    outcomes = Counter(workflow.outcome for workflow in cell.workflows)
    return WorkflowCounts(
        started=cell.started,
        ok=outcomes["ok"],
        degraded=outcomes["degraded"],
        failed=outcomes["failed"],
    )


def wanted(calls: Iterable[Call]) -> Iterator[Call]:
    """Return the calls that were wanted to their end: those that were not cancelled."""
    return (call for call in calls if call.outcome != CANCELLED)


def begun(call: Call) -> bool:
    """Return whether a call was begun: a cancelled one may never have been."""
    return call.attempts > 0 or call.outcome != CANCELLED


def _call_counts(calls: list[Call]) -> CallCounts:
    started = list(filter(begun, calls))
    outcomes = Counter(call.outcome for call in started)
    return CallCounts(
        started=len(started),
        succeeded=outcomes[OK],
        failed=sum(map(is_failure, (call.outcome for call in started))),
        cancelled=outcomes[CANCELLED],
    )


def _calls_lost(calls: list[Call]) -> Figure | None:
    tried = Counter(call.repeat for call in wanted(calls))
    lost = Counter(call.repeat for call in calls if is_failure(call.outcome))
    return share([lost[repeat] for repeat in tried], list(tried.values()))


def _attempt_counts(attempts: list[Attempt], calls: int) -> AttemptCounts:
    outcomes = Counter(attempt.outcome for attempt in attempts)
    return AttemptCounts(
        total=len(attempts),
        failed=sum(count for name, count in outcomes.items() if is_failure(name)),
        by_outcome=dict(sorted(outcomes.items())),
        amplification=len(attempts) / calls if calls else None,
    )


def _bounds(
    cell: CellRecords, trials: list[Trial], terms: CountingRules
) -> Iterator[tuple[int, int]]:
    """Yield for each trial the nanoseconds of its replay and of its critical path."""
    info = cell.info
    calls, attempts = by_repeat(cell.calls), by_repeat(cell.attempts)
    for trial in trials:
        mine = calls.get(trial.repeat, [])
        work = replay.jobs(mine, attempts.get(trial.repeat, []), info.permit_scope)
        due = cell.arrivals(trial)
        # Jobs stand in the order of the workflows that made a call.
        arrivals = None if due is None else [due[at] for at in sorted({c.workflow for c in mine})]
        yield (
            replay.replay(work, info.permits, terms.in_flight, info.mode, arrivals),
            replay.critical_path_bound(work, terms.in_flight, info.mode, arrivals),
        )


def _speedup(cell: CellRecords, sync: CellRecords | None) -> Figure | None:
    if sync is None:
        return None
    if sync is cell:
        return Figure(value=1.0)
    base = {trial.repeat: makespan(trial) for trial in sync.whole_trials()}
    mine = {trial.repeat: makespan(trial) for trial in cell.whole_trials()}
    return over_repeats(
        base[repeat] / mine[repeat] for repeat in sorted(base.keys() & mine.keys()) if mine[repeat]
    )


class _Clusters(NamedTuple):
    """Which cluster each record of a cell is in: workflows are the clusters, see `CellRecords`."""

    workflows: NDArray[np.int64]
    calls: NDArray[np.int64]
    """Of the calls that were wanted."""
    attempts: NDArray[np.int64]
    backoffs: NDArray[np.int64]

    @classmethod
    def of(cls, cell: CellRecords) -> _Clusters:
        """Look them up once for all figures."""
        number = cell.clusters

        def look_up(records: Iterable[Call | Attempt | Workflow]) -> NDArray[np.int64]:
            return np.array([number[one.repeat, one.workflow] for one in records], np.int64)

        return cls(
            look_up(cell.workflows),
            look_up(wanted(cell.calls)),
            look_up(cell.attempts),
            look_up(call for call in cell.calls for _ in call.backoffs),
        )


def _spread(clusters: NDArray[np.int64], observed: Iterable[int | None]) -> Distribution:
    """Return how nanoseconds, one a record, are spread, in seconds; None was not observed."""
    values = np.array(list(observed), np.float64)
    known = ~np.isnan(values)
    return describe(sample(values[known] / SECOND, clusters[known]))


def gaps(cell: CellRecords) -> Sample:
    """Return the gaps between text chunks, in seconds; workflows are the clusters.

    Values are known to the width of a histogram's bucket, under 0.8 %.
    """
    number = cell.clusters
    owners, names, counts = pool((number[a.repeat, a.workflow], a.gaps) for a in cell.attempts)
    known, place = np.unique(names, return_inverse=True)
    middles = np.array([middle(int(name)) for name in known]) / SECOND
    return sample(middles[place], owners, counts)


def _phase(cell: CellRecords, name: str) -> PhaseFigures:
    ran = [(w, phase) for w in cell.workflows for phase in w.phases if phase.name == name]
    clusters = np.array([cell.clusters[w.repeat, w.workflow] for w, _ in ran], np.int64)
    whole = sum(workflow.done - workflow.ready for workflow in cell.workflows)
    spent = sum(phase.end - phase.start for _, phase in ran)
    return PhaseFigures(
        latency_s=_spread(clusters, (phase.end - phase.start for _, phase in ran)),
        share=spent / whole if whole else None,
        failed=sum(phase.outcome == "failed" for _, phase in ran),
    )


def _to_answer(attempt: Attempt) -> int | None:
    if attempt.sent is None or attempt.first_answer is None:
        return None
    return attempt.first_answer - attempt.sent


def time_spent(tried: Iterable[TriedCall]) -> TimeSpent | None:
    """Return where the calls' time went, None when they took none; cancelled ones are left out."""
    spent = dict.fromkeys(PARTS, 0)
    for call, attempts in tried:
        if call.outcome != CANCELLED:
            add_lengths(spent, call, attempts)
    whole = sum(spent.values())
    if not whole:
        return None
    return TimeSpent(
        permit_wait=spent["permit_wait"] / whole,
        backoff=spent["backoff"] / whole,
        failed_attempts=spent["failed_attempts"] / whole,
        to_first_token=spent["to_first_token"] / whole,
        reasoning=spent["reasoning"] / whole,
        answer=spent["answer"] / whole,
        other=(spent["other"] + spent["client_wait"]) / whole,
    )


def _cost_of_success(cell: CellRecords, terms: CountingRules) -> float | None:
    cost, successes = terms.cost(cell.attempts), sum(map(terms.is_success, cell.workflows))
    return cost / successes if cost is not None and successes else None


def wasted(spent: Sequence[Attempt]) -> list[Attempt]:
    """Return the attempts that nobody used: the failed, and the later of two hedged successes."""
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


def _tokens(spent: Iterable[Attempt], unused: Iterable[Attempt]) -> TokenCounts:
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
    return TokenCounts(
        input=total["input"],
        output=total["output"],
        reasoning=total["reasoning"],
        cached=total["cached"],
        wasted=total["wasted"],
        unreported=total["unreported"],
    )
