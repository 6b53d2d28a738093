"""How long a trial would have taken without overhead: its service times, replayed.

Two bounds. `replay` keeps what the settings ask for (permits, slots, backoff) and leaves out what
the harness adds; `critical_path_bound` also leaves out the permits and the backoff.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from harness.analysis.call_times import CallPlace, Groups, began, place_of, timed_calls
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


def trials_to_replay(
    cell: CellRecords,
) -> Iterator[tuple[Trial, list[ReplayJob], list[int] | None]]:
    """Yield the uninterrupted trials, each with its jobs and, in an open loop, its arrivals.

    Arrivals are in nanoseconds since the start of the trial.
    """
    workflows: dict[int, list[Workflow]] = {}
    for workflow in cell.workflows:
        workflows.setdefault(workflow.repeat, []).append(workflow)
    for trial in cell.whole_trials():
        if trial.end > trial.start:
            work = jobs(workflows.get(trial.repeat, []), cell.groups, cell.info.permit_scope)
            arrivals = [job.ready - trial.start for job in work] if cell.open_loop else None
            yield trial, work, arrivals


def jobs(workflows: Iterable[Workflow], groups: Groups, permit_scope: str) -> list[ReplayJob]:
    """Return the workflows of one trial in their order, with their measured times.

    Workflows without a call are left out. An attempt takes its service time, or, if it was never
    sent, the time that it held its permit. A backoff takes the planned time, as any longer sleep is
    overhead; parking takes the measured time. A hedge and the attempt that it hedges are one step.
    With permit scope `call` a call is one step, as it holds its permit through the backoff.
    """
    found = []
    in_order = sorted(workflows, key=lambda workflow: workflow.workflow)
    for workflow, its in zip(in_order, timed_calls(in_order, groups), strict=True):
        if its.calls:
            steps = {
                place_of(call): [ReplayStep(service, 0)]
                if service != ABSENT
                else _steps(call, its.attempts[at], permit_scope)
                for at, (call, service) in enumerate(zip(its.calls, its.services, strict=True))
            }
            found.append(ReplayJob(workflow.ready, _chain(tree_of(workflow, its.calls), steps)))
    return found


_CallSteps: TypeAlias = dict[CallPlace, list[ReplayStep]]
"""The steps of a workflow's calls, by phase, branch and number."""


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
        chain += _chain(item, steps) if isinstance(item, PhaseNode) else steps[place_of(item)]
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
    if mode == SYNC:
        return _in_line([_total(job.chain, backoff=True) for job in work], arrivals)
    return _Replay(work, permits).run(in_flight, arrivals)


@dataclass(slots=True, eq=False)
class _Strand:
    """A chain in progress: the steps that are left, last first, and the strand that waits for it.

    `open`: how many branches of its current fork still run.
    """

    steps: list[ReplayStep | ReplayFork]
    parent: _Strand | None = None
    open: int = 0


class _Replay:
    """A discrete-event simulation of a trial.

    Events: time, number, the step that ended (None: an arrival or a backoff's end), the strand.
    """

    def __init__(self, work: Sequence[ReplayJob], permits: int) -> None:
        self._work = work
        self._free = permits
        self._waiting: deque[tuple[_Strand, ReplayStep]] = deque()
        self._events: list[tuple[int, int, ReplayStep | None, _Strand]] = []
        self._count = 0
        self._now = 0
        self._next = 0

    def run(self, in_flight: int, arrivals: Sequence[int] | None) -> int:
        if arrivals is None:
            for _ in range(min(in_flight, len(self._work))):
                self._start_workflow()
        else:
            self._next = len(self._work)
            for job, due in zip(self._work, arrivals, strict=True):
                self._at(due, None, _Strand([*reversed(job.chain)]))
        while self._events:
            self._now, _, step, strand = heapq.heappop(self._events)
            if step is not None:
                if self._waiting:
                    self._serve(*self._waiting.popleft())
                else:
                    self._free += 1
                if step.backoff:
                    self._at(self._now + step.backoff, None, strand)
                    continue
            self._go_on(strand)
        return self._now

    def _start_workflow(self) -> None:
        while self._next < len(self._work):
            chain = self._work[self._next].chain
            self._next += 1
            if chain:
                self._go_on(_Strand([*reversed(chain)]))
                return

    def _go_on(self, strand: _Strand) -> None:
        """Start the next step of a strand, or end it and continue the one that waits for it."""
        while not strand.steps:
            if strand.parent is None:
                self._start_workflow()
                return
            strand = strand.parent
            strand.open -= 1
            if strand.open:
                return
        step = strand.steps.pop()
        if isinstance(step, ReplayFork):
            strand.open = len(step.chains)
            for chain in step.chains:
                self._go_on(_Strand([*reversed(chain)], strand))
        elif self._free:
            self._free -= 1
            self._serve(strand, step)
        else:
            self._waiting.append((strand, step))

    def _serve(self, strand: _Strand, step: ReplayStep) -> None:
        self._at(self._now + step.service, step, strand)

    def _at(self, time: int, served: ReplayStep | None, strand: _Strand) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, served, strand))
