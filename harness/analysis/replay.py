"""How long a trial would have taken without overhead: its service times, replayed.

Two bounds. `replay` keeps what the settings ask for (permits, slots, backoff) and leaves out what
the harness adds; `critical_path_bound` also leaves out the permits and the backoff.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import NamedTuple, TypeAlias

from harness.analysis.call_times import Groups, TimedCalls, began, timed_calls
from harness.analysis.phase_tree import PhaseNode, TreeItem, tree_of
from harness.analysis.selection import CellRecords
from harness.records.schema import Attempt, Backoff, Call, Trial, Workflow
from harness.store.compact_records import ABSENT

SYNC = "sync"
"""The mode that makes one call at a time."""


class ReplayStep(NamedTuple):
    """One attempt: nanoseconds under a permit, then nanoseconds of backoff without one."""

    service: int
    backoff: int


class ReplayFork(NamedTuple):
    """Chains that run at the same time; the next step waits for all of them."""

    chains: tuple[ReplayChain, ...]


ReplayChain: TypeAlias = tuple[ReplayStep | ReplayFork, ...]


class ReplayJob(NamedTuple):
    """One workflow: `ready` in nanoseconds since the run's anchor, and its work in order."""

    ready: int
    chain: ReplayChain


class TrialBounds(NamedTuple):
    """Nanoseconds of one trial: of its replay, of its critical path, and as measured.

    `with_one_more`: of its replay with one more permit; in sync mode the same.
    """

    repeat: int
    replay: int
    with_one_more: int
    critical_path: int
    measured: int


Visit: TypeAlias = Callable[[Workflow, TimedCalls, PhaseNode], None]
"""Called with each workflow of a trial, its calls and its tree."""


def trial_bounds(cell: CellRecords, in_flight: int, visit: Visit) -> Iterator[TrialBounds]:
    """Yield the bounds of each uninterrupted trial."""
    mode, permits = cell.info.mode, cell.info.permits
    for trial, work, arrivals in trials_to_replay(cell, visit):
        yield TrialBounds(
            trial.repeat,
            replay(work, permits, in_flight, mode, arrivals),
            replay(work, permits + 1, in_flight, mode, arrivals),
            critical_path_bound(work, in_flight, mode, arrivals),
            trial.end - trial.start,
        )


def trials_to_replay(
    cell: CellRecords, visit: Visit | None = None
) -> Iterator[tuple[Trial, list[ReplayJob], list[int] | None]]:
    """Yield the uninterrupted trials, each with its jobs and, in an open loop, its arrivals.

    Arrivals are in nanoseconds since the start of the trial.
    """
    workflows: dict[int, list[Workflow]] = {}
    for workflow in cell.workflows:
        workflows.setdefault(workflow.repeat, []).append(workflow)
    for trial in cell.whole_trials():
        if trial.end > trial.start:
            mine = workflows.get(trial.repeat, [])
            work = jobs(mine, cell.groups, cell.info.permit_scope, visit)
            arrivals = [job.ready - trial.start for job in work] if cell.open_loop else None
            yield trial, work, arrivals


def jobs(
    workflows: Iterable[Workflow],
    groups: Groups,
    permit_scope: str,
    visit: Visit | None = None,
) -> list[ReplayJob]:
    """Return the workflows of one trial in their order, with their measured times.

    Workflows without a call are left out. An attempt takes its service time, or, if it was never
    sent, the time that it held its permit. A backoff takes the planned time, as any longer sleep is
    overhead; parking takes the measured time. A hedge and the attempt that it hedges are one step.
    With permit scope `call` a call is one step, as it holds its permit through the backoff.
    """
    found = []
    in_order = sorted(workflows, key=lambda workflow: workflow.workflow)
    for workflow, its in zip(in_order, timed_calls(in_order, groups), strict=True):
        tree = tree_of(workflow, its.calls)
        if visit is not None:
            visit(workflow, its, tree)
        if its.calls:
            steps = {
                id(call): [ReplayStep(service, 0)]
                if service != ABSENT
                else _steps(call, its.attempts(at), permit_scope)
                for at, (call, service) in enumerate(zip(its.calls, its.services, strict=True))
            }
            found.append(ReplayJob(workflow.ready, _chain(tree, steps)))
    return found


_CallSteps: TypeAlias = dict[int, list[ReplayStep]]
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


def _steps(call: Call, attempts: Sequence[Attempt], permit_scope: str) -> list[ReplayStep]:
    if not attempts:
        return []  # it was given up before its permit
    served: list[tuple[int, int]] = []
    for attempt in attempts:
        if attempt.hedge and served:  # beside the one before it
            start, end = served.pop()
            served.append((start, max(end, attempt.done)))
        else:
            served.append((began(attempt), attempt.done))
    steps: list[ReplayStep] = []
    pauses = deque((pause.start, _length(pause)) for pause in call.backoffs)
    for start, end in served:
        before = 0
        while pauses and pauses[0][0] < start:
            before += pauses.popleft()[1]
        if steps:
            steps[-1] = ReplayStep(steps[-1].service, before)
        elif before:
            steps.append(ReplayStep(0, before))
        steps.append(ReplayStep(end - start, 0))
    if pauses:  # slept before a permit that came too late, or in vain
        steps[-1] = ReplayStep(steps[-1].service, sum(length for _, length in pauses))
    if permit_scope == "call":
        return [ReplayStep(sum(map(sum, steps)), 0)]
    return steps


def _length(pause: Backoff) -> int:
    """Return the nanoseconds of a pause without overhead; the time of an outage is not planned."""
    slept = pause.end - pause.start
    return slept if pause.source == "breaker" else min(pause.planned, slept)


def critical_path_bound(
    work: Sequence[ReplayJob], in_flight: int, mode: str, arrivals: Sequence[int] | None = None
) -> int:
    """Return the nanoseconds that the service times alone need, with unlimited permits.

    Each workflow takes its longest chain of calls; workflows start in their order over `in_flight`
    slots. In sync mode calls run one after another, so it is the sum of all service times.
    Backoff is left out. `arrivals`: when each workflow of an open loop was due.
    """
    if mode == SYNC:
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
    for length, due in zip(lengths, arrivals or repeat(0), strict=False):
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
    if mode == SYNC:
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
