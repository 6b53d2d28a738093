"""What a trial would have taken without any overhead: its own service times, played again.

Two bounds. `replay` keeps everything that the settings ask for (permits, slots, backoff) and
leaves out what the harness adds; `critical_path` also leaves out the permits and the backoff.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from harness.analysis.phase_tree import PhaseNode, TreeItem, tree_of
from harness.analysis.selection import CellRecords
from harness.records.groups import WorkflowGroups
from harness.records.schema import Attempt, Backoff, Call, Trial, Workflow

SYNC = "sync"
"""The mode that makes one call at a time."""


class ReplayStep(NamedTuple):
    """One attempt: nanoseconds under a permit, then nanoseconds of backoff without one."""

    service: int
    backoff: int


class ReplayFork(NamedTuple):
    """Chains that run at the same time; what follows waits for all of them."""

    chains: tuple[ReplayChain, ...]


ReplayChain: TypeAlias = tuple[ReplayStep | ReplayFork, ...]


class ReplayJob(NamedTuple):
    """One workflow: `ready` in nanoseconds since the run's anchor, and its work in order."""

    ready: int
    chain: ReplayChain


def trials_to_replay(
    cell: CellRecords,
) -> Iterator[tuple[Trial, list[ReplayJob], list[int] | None]]:
    """Yield the trials that ran in one go, each with its jobs and, in an open loop, arrivals.

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


def jobs(
    workflows: Iterable[Workflow], groups: WorkflowGroups, permit_scope: str
) -> list[ReplayJob]:
    """Return the workflows of one trial in their order, with their measured times.

    Workflows without a call are left out. An attempt takes its service time; one that was never
    sent takes the time it held its permit. A backoff takes what was planned: sleeping past that is
    overhead; being parked takes what it took. A hedge and what it hedges are one step. With permit
    scope `call` a permit is held from the first attempt to the last, backoff included, so a call is
    one step.
    """
    found = []
    for workflow in sorted(workflows, key=lambda workflow: workflow.workflow):
        its = groups.of(workflow)
        if its.calls:
            steps = {
                (call.phase, call.branch, call.call): _steps(call, attempts, permit_scope)
                for call, attempts in its.tried()
            }
            found.append(ReplayJob(workflow.ready, _chain(tree_of(workflow, its.calls), steps)))
    return found


_CallSteps: TypeAlias = dict[tuple[str, int | None, int], list[ReplayStep]]
"""What the calls of a workflow do, by phase, branch and number."""


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
        chain += (
            _chain(item, steps)
            if isinstance(item, PhaseNode)
            else steps[item.phase, item.branch, item.call]
        )
    return chain


def _began(attempt: Attempt) -> int:
    return attempt.permit_granted if attempt.sent is None else attempt.sent


def _steps(call: Call, attempts: Sequence[Attempt], permit_scope: str) -> list[ReplayStep]:
    if not attempts:
        return []  # it was given up before its permit
    if len(attempts) == 1 and not call.backoffs:  # most are so
        return [ReplayStep(attempts[0].done - _began(attempts[0]), 0)]
    served: list[tuple[int, int]] = []
    for attempt in attempts:
        if attempt.hedge and served:  # beside the one before it
            start, end = served.pop()
            served.append((start, max(end, attempt.done)))
        else:
            served.append((_began(attempt), attempt.done))
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
    """Return what a pause takes without overhead; nobody plans how long an outage lasts."""
    slept = pause.end - pause.start
    return slept if pause.source == "breaker" else min(pause.planned, slept)


def critical_path_bound(
    work: Sequence[ReplayJob], in_flight: int, mode: str, arrivals: Sequence[int] | None = None
) -> int:
    """Return the nanoseconds that the service times alone need, with a permit always at hand.

    Each workflow takes its longest chain of calls, workflows start in their order over `in_flight`
    slots. In sync mode calls run one after another, so it is the sum of all service times.
    Waiting between attempts is left out. `arrivals`: when each workflow of an open loop was due.
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
    """Return the nanoseconds of a chain that waits for nothing."""
    return sum(
        step.service if isinstance(step, ReplayStep) else max(map(_longest, step.chains))
        for step in chain
    )


def _total(chain: ReplayChain, *, backoff: bool) -> int:
    """Return the nanoseconds of a chain whose branches run one after another."""
    whole = 0
    for step in chain:
        if isinstance(step, ReplayFork):
            whole += sum(_total(branch, backoff=backoff) for branch in step.chains)
        else:
            whole += step.service + backoff * step.backoff
    return whole


def _in_line(lengths: Sequence[int], arrivals: Sequence[int] | None) -> int:
    """Return when workflows that run one after another are all done."""
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
    sync mode everything stands in line. No greedy order takes more than 2 - 1/permits times the
    best one (Graham, Bounds on Multiprocessing Timing Anomalies, 1969); being greedy, a replay can
    also come out a little slower than what was measured. `arrivals`: when each workflow of an open
    loop was due, in nanoseconds; then there are no slots.
    """
    if mode == SYNC:
        return _in_line([_total(job.chain, backoff=True) for job in work], arrivals)
    return _Replay(work, permits).run(in_flight, arrivals)


class _Strand:
    """A chain that is being replayed: the steps that are left, last first, and who waits for it.

    `open`: how many branches of its current fork still run.
    """

    __slots__ = ("open", "parent", "steps")

    def __init__(self, chain: ReplayChain, parent: _Strand | None = None) -> None:
        self.steps = list(reversed(chain))
        self.parent = parent
        self.open = 0


class _Replay:
    """A trial as events on a heap."""

    def __init__(self, work: Sequence[ReplayJob], permits: int) -> None:
        self._work = work
        self._free = permits
        self._waiting: deque[_Strand] = deque()
        self._events: list[tuple[int, int, bool, _Strand]] = []
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
                self._at(due, False, _Strand(job.chain))
        while self._events:
            self._now, _, served, strand = heapq.heappop(self._events)
            if served:
                self._served(strand)
            else:
                self._go_on(strand)
        return self._now

    def _start_workflow(self) -> None:
        while self._next < len(self._work):
            chain = self._work[self._next].chain
            self._next += 1
            if chain:
                self._go_on(_Strand(chain))
                return

    def _go_on(self, strand: _Strand) -> None:
        """Start the next step of a strand, or end it and go on with the one that waits for it."""
        while not strand.steps:
            if strand.parent is None:
                self._start_workflow()
                return
            strand = strand.parent
            strand.open -= 1
            if strand.open:
                return
        step = strand.steps[-1]
        if isinstance(step, ReplayFork):
            strand.steps.pop()
            strand.open = len(step.chains)
            for chain in step.chains:
                self._go_on(_Strand(chain, strand))
        elif self._free:
            self._free -= 1
            self._serve(strand, step)
        else:
            self._waiting.append(strand)

    def _serve(self, strand: _Strand, step: ReplayStep) -> None:
        self._at(self._now + step.service, True, strand)

    def _served(self, strand: _Strand) -> None:
        if self._waiting:
            next_one = self._waiting.popleft()
            self._serve(next_one, _attempt(next_one.steps[-1]))
        else:
            self._free += 1
        pause = _attempt(strand.steps.pop()).backoff
        if pause:
            self._at(self._now + pause, False, strand)
        else:
            self._go_on(strand)

    def _at(self, time: int, served: bool, strand: _Strand) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, served, strand))


def _attempt(step: ReplayStep | ReplayFork) -> ReplayStep:
    assert isinstance(step, ReplayStep), "only an attempt is served or waits for a permit"
    return step
