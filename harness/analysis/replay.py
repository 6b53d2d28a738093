"""What a trial would have taken without any overhead: its own service times, played again.

Two bounds. `replay` keeps everything that the settings ask for (permits, slots, backoff) and
leaves out what the harness adds; `critical_path` also leaves out the permits and the backoff.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.records.schema import Attempt, Backoff, Call

SYNC = "sync"
"""The mode that makes one call at a time."""


class ReplayStep(NamedTuple):
    """One attempt: nanoseconds under a permit, then nanoseconds of backoff without one."""

    service: int
    backoff: int


class ReplayJob(NamedTuple):
    """One workflow: what must be done before the fan-out, side by side, and after it."""

    decompose: tuple[ReplayStep, ...]
    branches: tuple[tuple[ReplayStep, ...], ...]
    synthesize: tuple[ReplayStep, ...]


def jobs(calls: Iterable[Call], attempts: Iterable[Attempt], permit_scope: str) -> list[ReplayJob]:
    """Return the workflows of one trial in their order, with their measured times.

    An attempt takes its service time; one that was never sent takes the time it held its permit.
    A backoff takes what was planned: sleeping past that is overhead; being parked takes what it
    took. A hedge and what it hedges are one step. With permit scope `call` a permit is held from
    the first attempt to the last, backoff included, so a call is one step.
    """
    tried: dict[tuple[object, ...], list[Attempt]] = {}
    for attempt in attempts:
        tried.setdefault(_key(attempt), []).append(attempt)
    workflows: dict[int, dict[tuple[str, int | None], list[tuple[int, list[ReplayStep]]]]] = {}
    for call in calls:
        served = sorted(tried.get(_key(call), []), key=lambda attempt: attempt.attempt)
        place = workflows.setdefault(call.workflow, {}).setdefault((call.phase, call.branch), [])
        place.append((call.call, _steps(call, served, permit_scope)))
    return [_job(parts) for _, parts in sorted(workflows.items())]


def _key(record: Attempt | Call) -> tuple[object, ...]:
    return (record.workflow, record.phase, record.branch, record.call)


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


def _job(parts: dict[tuple[str, int | None], list[tuple[int, list[ReplayStep]]]]) -> ReplayJob:
    chains = {
        place: tuple(step for _, steps in sorted(calls) for step in steps)
        for place, calls in parts.items()
    }
    return ReplayJob(
        decompose=chains.get(("decompose", None), ()),
        branches=tuple(
            chain
            for (phase, _), chain in sorted(chains.items(), key=lambda item: item[0][1] or 0)
            if phase == "fan_out"
        ),
        synthesize=chains.get(("synthesize", None), ()),
    )


def critical_path_bound(
    work: Sequence[ReplayJob], in_flight: int, mode: str, arrivals: Sequence[int] | None = None
) -> int:
    """Return the nanoseconds that the service times alone need, with a permit always at hand.

    Decompose, the longest branch and synthesize of each workflow, workflows in their order over
    `in_flight` slots. In sync mode calls stand in line, so it is the sum of all service times.
    Waiting between attempts is left out. `arrivals`: when each workflow of an open loop was due.
    """
    if mode == SYNC:
        return _in_line([sum(map(_sum, _chains(job))) for job in work], arrivals)
    if arrivals is not None:
        return max((at + _alone(job) for at, job in zip(arrivals, work, strict=True)), default=0)
    slots = [0] * max(1, min(in_flight, len(work)))
    for job in work:
        heapq.heapreplace(slots, slots[0] + _alone(job))
    return max(slots)


def _alone(job: ReplayJob) -> int:
    """Return the nanoseconds of a workflow that waits for nothing."""
    longest = max((_sum(chain) for chain in job.branches), default=0)
    return _sum(job.decompose) + longest + _sum(job.synthesize)


def _in_line(lengths: Sequence[int], arrivals: Sequence[int] | None) -> int:
    """Return when workflows that run one after another are all done."""
    end = 0
    for length, due in zip(lengths, arrivals or itertools.repeat(0), strict=False):
        end = max(end, due) + length
    return end


def _sum(chain: tuple[ReplayStep, ...]) -> int:
    return sum(step.service for step in chain)


def _chains(job: ReplayJob) -> tuple[tuple[ReplayStep, ...], ...]:
    return (job.decompose, *job.branches, job.synthesize)


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
        lengths = [sum(sum(step) for chain in _chains(job) for step in chain) for job in work]
        return _in_line(lengths, arrivals)
    return _Replay(work, permits).run(in_flight, arrivals)


class _Replay:
    """A trial as events on a heap. A chain is (workflow, steps still to go, last first)."""

    def __init__(self, work: Sequence[ReplayJob], permits: int) -> None:
        self._work = work
        self._free = permits
        self._waiting: deque[tuple[int, list[ReplayStep]]] = deque()
        self._events: list[tuple[int, int, bool, int, list[ReplayStep]]] = []
        self._count = 0
        self._now = 0
        self._next = 0
        self._phase = [0] * len(work)
        self._open = [0] * len(work)

    def run(self, in_flight: int, arrivals: Sequence[int] | None) -> int:
        if arrivals is None:
            for _ in range(min(in_flight, len(self._work))):
                self._start_workflow()
        else:
            self._next = len(self._work)
            for job, due in enumerate(arrivals):
                self._open[job] = 1  # its arrival, the end of which begins its first phase
                self._at(due, False, job, [])
        while self._events:
            self._now, _, served, job, chain = heapq.heappop(self._events)
            if served:
                self._served(job, chain)
            else:
                self._ready(job, chain)
        return self._now

    def _start_workflow(self) -> None:
        while self._next < len(self._work):
            job, self._next = self._next, self._next + 1
            if self._enter(job):
                return

    def _enter(self, job: int) -> bool:
        """Begin the next phase of a workflow that has work in it; False when there is none."""
        phases = self._phases(self._work[job])
        while self._phase[job] < len(phases):
            chains = [chain for chain in phases[self._phase[job]] if chain]
            self._phase[job] += 1
            if chains:
                self._open[job] = len(chains)
                for chain in chains:
                    self._ready(job, list(reversed(chain)))
                return True
        return False

    @staticmethod
    def _phases(job: ReplayJob) -> tuple[tuple[tuple[ReplayStep, ...], ...], ...]:
        return ((job.decompose,), job.branches, (job.synthesize,))

    def _ready(self, job: int, chain: list[ReplayStep]) -> None:
        if not chain:
            self._ended(job)
        elif self._free:
            self._free -= 1
            self._serve(job, chain)
        else:
            self._waiting.append((job, chain))

    def _serve(self, job: int, chain: list[ReplayStep]) -> None:
        self._at(self._now + chain[-1].service, True, job, chain)

    def _served(self, job: int, chain: list[ReplayStep]) -> None:
        if self._waiting:
            self._serve(*self._waiting.popleft())
        else:
            self._free += 1
        pause = chain.pop().backoff
        if pause:
            self._at(self._now + pause, False, job, chain)
        else:
            self._ready(job, chain)

    def _at(self, time: int, served: bool, job: int, chain: list[ReplayStep]) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, served, job, chain))

    def _ended(self, job: int) -> None:
        self._open[job] -= 1
        if not self._open[job] and not self._enter(job):
            self._start_workflow()
