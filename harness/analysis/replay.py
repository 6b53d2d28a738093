"""How long a trial would have taken without overhead: its service times, replayed.

Two bounds. `replay` keeps what the settings ask for (permits, slots, backoff) and leaves out what
the harness adds; `critical_path_bound` also leaves out the permits and the backoff.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import NamedTuple, Protocol, TypeAlias

from harness.analysis.call_times import Groups, TimedCalls, timed_calls
from harness.analysis.phase_tree import PhaseNode, TreeItem, tree_of
from harness.analysis.plain_workflows import PlainWorkflows
from harness.analysis.replay_steps import ReplayChain, ReplayFork, ReplayStep
from harness.analysis.selection import CellRecords
from harness.records.schema import Trial, Workflow
from harness.records.settings import one_at_a_time

_AT_ONCE = 4000


class ReplayJob(NamedTuple):
    """One workflow: `ready` in nanoseconds since the run's anchor, and its work in order."""

    ready: int
    chain: ReplayChain


class TrialBounds(NamedTuple):
    """Nanoseconds of one trial: of its replay, of its critical path, and as measured.

    `with_one_more`: of its replay with one more permit; in sync mode the same. Both are 0 where the
    permits adapt, as there is no number of permits to replay with.
    """

    repeat: int
    replay: int
    with_one_more: int
    critical_path: int
    measured: int


class Visitor(Protocol):
    """Gets every workflow of a cell once."""

    def add_plain(self, plain: PlainWorkflows) -> None:
        """Take the plain ones of some workflows."""

    def add_tree(self, workflow: Workflow, its: TimedCalls, tree: PhaseNode) -> None:
        """Take a workflow that is not plain."""


def trial_bounds(cell: CellRecords, in_flight: int, visitor: Visitor) -> Iterator[TrialBounds]:
    """Yield the bounds of each uninterrupted trial."""
    mode, permits = cell.info.mode, cell.info.permits
    adapts = bool(cell.info.limiter)
    for trial, work, arrivals in trials_to_replay(cell, visitor):
        yield TrialBounds(
            trial.repeat,
            0 if adapts else replay(work, permits, in_flight, mode, arrivals),
            0 if adapts else replay(work, permits + 1, in_flight, mode, arrivals),
            critical_path_bound(work, in_flight, mode, arrivals),
            trial.end - trial.start,
        )


def trials_to_replay(
    cell: CellRecords, visitor: Visitor | None = None
) -> Iterator[tuple[Trial, list[ReplayJob], list[int] | None]]:
    """Yield the uninterrupted trials, each with its jobs and, in an open loop, its arrivals.

    Arrivals are in nanoseconds since the start of the trial.
    """
    trials = {trial.repeat: trial for trial in cell.whole_trials() if trial.end > trial.start}
    by_repeat: dict[int, list[Workflow]] = {repeat: [] for repeat in trials}
    for workflow in cell.workflows:
        by_repeat.setdefault(workflow.repeat, []).append(workflow)
    for some in _joined(sorted(by_repeat.items())):
        found = _jobs_of_cell(cell, [one for _, mine in some for one in mine], visitor)
        for repeat, mine in some:
            work = [job for job in islice(found, len(mine)) if job is not None]
            if trial := trials.get(repeat):
                arrivals = [job.ready - trial.start for job in work] if cell.open_loop else None
                yield trial, work, arrivals


_Repeat: TypeAlias = tuple[int, list[Workflow]]


def _joined(repeats: Iterable[_Repeat]) -> Iterator[list[_Repeat]]:
    """Yield repeats with their workflows in order, several together: arrays need many."""
    some: list[_Repeat] = []
    count = 0
    for repeat, mine in repeats:
        some.append((repeat, sorted(mine, key=attrgetter("workflow"))))
        count += len(mine)
        if count >= _AT_ONCE:
            yield some
            some, count = [], 0
    if some:
        yield some


def _jobs_of_cell(
    cell: CellRecords, workflows: Sequence[Workflow], visitor: Visitor | None
) -> Iterator[ReplayJob | None]:
    """Yield the job of each workflow; None without a call."""
    plain = PlainWorkflows(cell.groups, workflows)
    if visitor is not None:
        visitor.add_plain(plain)
    is_plain, scope = plain.is_plain.tolist(), cell.info.permit_scope
    rest = [one for one, known in zip(workflows, is_plain, strict=True) if not known]
    others = _jobs(rest, cell.groups, scope, visitor)
    for workflow, chain in zip(workflows, plain.chains(scope), strict=True):
        yield next(others) if chain is None else ReplayJob(workflow.ready, chain)


def jobs(workflows: Iterable[Workflow], groups: Groups, permit_scope: str) -> list[ReplayJob]:
    """Return the workflows of one trial in their order, with their measured times.

    Workflows without a call are left out. With permit scope `call` a call is one step, as it holds
    its permit through the backoff.
    """
    in_order = sorted(workflows, key=attrgetter("workflow"))
    return [job for job in _jobs(in_order, groups, permit_scope) if job is not None]


def _jobs(
    workflows: Sequence[Workflow], groups: Groups, permit_scope: str, visitor: Visitor | None = None
) -> Iterator[ReplayJob | None]:
    for workflow, its in zip(workflows, timed_calls(workflows, groups), strict=True):
        tree = tree_of(workflow, its.calls)
        if visitor is not None:
            visitor.add_tree(workflow, its, tree)
        steps = its.steps
        if permit_scope == "call":
            steps = [[ReplayStep(sum(map(sum, each)), 0)] if each else [] for each in steps]
        by_call = {id(call): mine for call, mine in zip(its.calls, steps, strict=True)}
        yield ReplayJob(workflow.ready, _chain(tree, by_call)) if its.calls else None


_CallSteps: TypeAlias = Mapping[int, Sequence[ReplayStep]]
"""The steps of a workflow's calls, by the id of the object."""


def _chain(node: PhaseNode, steps: _CallSteps) -> ReplayChain:
    """Return the work of a phase or a workflow in order; branches without work are left out."""
    chain: list[ReplayStep | ReplayFork] = []
    for stage in node.stages:
        lanes = [lane for lane in (_lane(lane.items, steps) for lane in stage) if lane]
        if len(lanes) > 1:
            chain.append(ReplayFork(tuple(map(tuple, lanes))))
        elif lanes:
            chain += lanes[0]
    return tuple(chain)


def _lane(items: Sequence[TreeItem], steps: _CallSteps) -> list[ReplayStep | ReplayFork]:
    chain: list[ReplayStep | ReplayFork] = []
    for item in items:
        chain += _chain(item, steps) if isinstance(item, PhaseNode) else steps[id(item)]
    return chain


def critical_path_bound(
    work: Sequence[ReplayJob], in_flight: int, mode: str, arrivals: Sequence[int] | None = None
) -> int:
    """Return the nanoseconds that the service times alone need, with unlimited permits.

    Each workflow takes its longest chain of calls; workflows start in their order over `in_flight`
    slots. In sync mode calls run one after another, so it is the sum of all service times.
    Backoff is left out. `arrivals`: when each workflow of an open loop was due.
    """
    if one_at_a_time(mode):
        return _in_line([_total(job.chain, backoff=False) for job in work], arrivals)
    if arrivals is not None:
        return max(
            (at + _longest(job.chain) for at, job in zip(arrivals, work, strict=True)), default=0
        )
    slots = [0] * max(1, min(in_flight, len(work)))
    for job in work:
        heapq.heapreplace(slots, slots[0] + _longest(job.chain))
    return max(slots)


def _longest(chain: ReplayChain) -> int:
    """Return the nanoseconds of a chain that never waits."""
    return sum(
        step.service if isinstance(step, ReplayStep) else max(map(_longest, step.chains))
        for step in chain
    )


def _total(chain: ReplayChain, *, backoff: bool) -> int:
    """Return the nanoseconds of a chain whose branches run one after another."""
    return sum(
        step.service + backoff * step.backoff
        if isinstance(step, ReplayStep)
        else sum(_total(branch, backoff=backoff) for branch in step.chains)
        for step in chain
    )


def _in_line(lengths: Sequence[int], arrivals: Sequence[int] | None) -> int:
    """Return when the last of the workflows, which run one after another, ends."""
    end = 0
    for length, due in zip(lengths, arrivals or itertools.repeat(0), strict=False):
        end = max(end, due) + length
    return end


def replay(
    work: Sequence[ReplayJob],
    permits: int,
    in_flight: int,
    mode: str,
    arrivals: Sequence[int] | None = None,
) -> int:
    """Return the makespan, in nanoseconds, of the same work without overhead.

    First come, first served under `permits`, workflows in their order over `in_flight` slots. In
    sync mode everything runs one after another. No greedy order takes more than 2 - 1/permits times
    the best one (Graham, Bounds on Multiprocessing Timing Anomalies, 1969), so a replay can be a
    little slower than the measured trial. `arrivals`: when each workflow of an open loop was due,
    in nanoseconds; then there are no slots.
    """
    if one_at_a_time(mode):
        return _in_line([_total(job.chain, backoff=True) for job in work], arrivals)
    return _replayed(work, permits, in_flight, arrivals)


@dataclass(slots=True, eq=False)
class _Strand:
    """A chain in progress: the steps that are left, last first, and the strand that waits for it.

    `open`: how many branches of its current fork still run.
    """

    steps: list[ReplayStep | ReplayFork]
    parent: _Strand | None = None
    open: int = 0


def _replayed(
    work: Sequence[ReplayJob], permits: int, in_flight: int, arrivals: Sequence[int] | None
) -> int:
    """Simulate a trial, event by event, and return when the last event happens.

    Events: time, number, the step that ended (None: an arrival or a backoff's end), the strand.
    One loop with local variables: a long run has millions of events.
    """
    free, now, count = permits, 0, 0
    events: list[tuple[int, int, ReplayStep | None, _Strand]] = []
    waiting: deque[tuple[_Strand, ReplayStep]] = deque()
    chains = iter([job.chain for job in work if job.chain] if arrivals is None else [])
    ready = [_Strand([*reversed(chain)]) for chain in islice(chains, in_flight)]
    for job, due in zip(work, arrivals or (), strict=arrivals is not None):
        count += 1
        heapq.heappush(events, (due, count, None, _Strand([*reversed(job.chain)])))
    ready.reverse()  # the last one is continued first
    while True:
        while ready:
            strand = ready.pop()
            while not strand.steps and strand.parent is not None:
                strand = strand.parent
                strand.open -= 1
                if strand.open:
                    break
            else:
                if not strand.steps:
                    ready += [_Strand([*reversed(chain)]) for chain in islice(chains, 1)]
                    continue
                step = strand.steps.pop()
                if isinstance(step, ReplayFork):
                    strand.open = len(step.chains)
                    ready += [
                        _Strand([*reversed(chain)], strand) for chain in reversed(step.chains)
                    ]
                elif free:
                    free -= 1
                    count += 1
                    heapq.heappush(events, (now + step.service, count, step, strand))
                else:
                    waiting.append((strand, step))
        if not events:
            return now
        now, _, ended, strand = heapq.heappop(events)
        if ended is not None:
            if waiting:
                next_strand, step = waiting.popleft()
                count += 1
                heapq.heappush(events, (now + step.service, count, step, next_strand))
            else:
                free += 1
            if ended.backoff:
                count += 1
                heapq.heappush(events, (now + ended.backoff, count, None, strand))
                continue
        ready.append(strand)
