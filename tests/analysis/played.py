"""Whole runs that never happened: consistent records, played from a seed on a small clock.

Closed loop, first-come-first-served permits, faults and backoff are played out, so waits add up,
phases nest and the provider's log belongs to the attempts.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.records.clock import SECOND, Anchor
from harness.records.histogram import Histogram, bucket
from harness.records.ids import attempt_span, workflow_trace
from harness.records.provider_log import ProviderHead, Served
from harness.records.schema import (
    Attempt,
    Backoff,
    Branches,
    CellInfo,
    Phase,
    Run,
    Tokens,
    WorkflowOutcome,
    give_up,
    retry_in,
)
from harness.store.run_directory import Records
from tests.analysis.builders import (
    MS,
    make_attempt,
    make_call,
    make_run,
    make_trial,
    make_workflow,
)

PROVIDER_IS_LATER = 123_456_789
"""How many nanoseconds after the run's anchor the provider's was taken."""

_STATUS = {"rate_limited": 429, "unavailable": 503, "connection_lost": 200}


@dataclass
class Shape:
    """What the synthetic provider and client are like. Times in milliseconds."""

    ttft_ms: float = 40.0
    answer_ms: float = 100.0
    sigma: float = 0.6
    chunks: int = 20
    failure_rate: float = 0.0
    faults: tuple[str, ...] = ("rate_limited", "unavailable", "connection_lost")
    repair_rate: float = 0.1
    attempts: int = 4
    backoff_ms: float = 20.0
    client_wait_ms: float = 0.2
    wire_ms: float = 0.1
    lateness_ms: float = 0.5
    loop_lag_ms: float = 1.0
    cpu_share: float = 0.3


def make_records(
    cells: Iterable[str] = ("sync_1_none_attempt", "async_2_none_attempt", "async_8_none_attempt"),
    repeats: int = 3,
    *,
    workflows: int = 4,
    in_flight: int = 2,
    branches: int = 3,
    seed: int = 0,
    shape: Shape | None = None,
    simulated: bool = True,
    time_scale: float = 1.0,
    extra_toml: str = "",
) -> Records:
    """Play every cell once in each repeat and return the records, the provider's log included.

    The same seed gives the same records. Draws are keyed on the repeat and the call, so cells meet
    the same answers. `retry = "none"` gives up at the first failure; any other name retries.
    """
    cells = tuple(cells)
    run = make_run(
        cells, repeats, workflows=workflows, in_flight=in_flight, branches=branches,
        simulated=simulated, time_scale=time_scale, extra_toml=extra_toml,
    )  # fmt: skip
    head = ProviderHead(
        anchor=Anchor(
            unix_ns=run.anchor.unix_ns + PROVIDER_IS_LATER,
            monotonic_ns=run.anchor.monotonic_ns + PROVIDER_IS_LATER,
        ),
        profile=run.profile or {}, seed=7, time_scale=time_scale,
    )  # fmt: skip
    records = Records(run, [], [], [], [], (head, []) if simulated else None)
    clock = SECOND
    for repeat in range(repeats):
        for info in run.cells:
            play = _Trial(records, info, repeat, seed, shape or Shape(), branches, clock)
            clock = play.run(workflows, 1 if info.mode == "sync" else in_flight) + SECOND // 10
    return records


Step = Generator[Any, None, Any]


@dataclass
class _Trial:
    """A trial on a clock that jumps. A step yields nanoseconds to sleep, "permit" to wait for one,
    or a list of steps to run side by side; "release" gives a permit back."""

    records: Records
    info: CellInfo
    repeat: int
    seed: int
    shape: Shape
    branches: int
    now: int
    heap: list[tuple[int, int, Step]] = field(default_factory=list)
    waiting: list[Step] = field(default_factory=list)
    parents: dict[Step, tuple[Step, list[Step]]] = field(default_factory=dict)
    order: Iterable[int] = field(default_factory=itertools.count)
    free: int = 0
    good: Counter[tuple[int, str]] = field(default_factory=Counter)

    def run(self, workflows: int, in_flight: int) -> int:
        """Run the closed loop and return when its last workflow was done."""
        self.free, start = self.info.permits, self.now
        queue = iter(range(workflows))
        for _ in range(in_flight):
            self._at(self.now, self._slot(queue))
        while self.heap:
            self.now, _, step = heapq.heappop(self.heap)
            self._advance(step)
        busy = int((self.now - start) * self.shape.cpu_share)
        lag = {bucket(int(self.shape.loop_lag_ms * MS)): 100} if self.info.mode == "async" else {}
        trial = make_trial(
            cell=self.info.id, repeat=self.repeat, start=start, end=self.now, cpu=busy, loop_lag=lag
        )
        self.records.trials.append(trial)
        return self.now

    def _at(self, time: int, step: Step) -> None:
        heapq.heappush(self.heap, (time, next(iter(self.order)), step))

    def _advance(self, step: Step) -> None:
        try:
            wish = next(step)
        except StopIteration:
            self._finished(step)
            return
        if isinstance(wish, list):
            for child in wish:
                self.parents[child] = (step, wish)
                self._at(self.now, child)
        elif wish == "permit" and self.free == 0:
            self.waiting.append(step)
        elif wish == "permit":
            self.free -= 1
            self._at(self.now, step)
        elif wish == "release" and self.waiting:
            self._at(self.now, self.waiting.pop(0))
            self._at(self.now, step)
        elif wish == "release":
            self.free += 1
            self._at(self.now, step)
        else:
            self._at(self.now + wish, step)

    def _finished(self, step: Step) -> None:
        if step in self.parents:
            parent, siblings = self.parents.pop(step)
            siblings.remove(step)
            if not siblings:
                self._at(self.now, parent)

    def _slot(self, queue: Iterable[int]) -> Step:
        for number in queue:
            yield from self._workflow(number)

    def _workflow(self, number: int) -> Step:
        phases: list[Phase] = []
        ready, good = self.now, 0
        ok = yield from self._phase(number, phases, "decompose", [self._decompose(number)])
        if ok:
            parts = [self._branch(number, branch) for branch in range(self.branches)]
            if self.info.mode == "sync":
                parts = [self._one_after_another(parts)]
            yield from self._phase(number, phases, "fan_out", parts)
            good = self.good[number, "fan_out"]
            phases[-1] = _with_gaps(phases[-1], good, self.branches)
            ok = good > 0
        if ok:
            ok = yield from self._phase(
                number, phases, "synthesize", [self._call(number, "synthesize")]
            )
        outcome: WorkflowOutcome = "ok" if good == self.branches else "degraded"
        workflow = make_workflow(
            **self._key(number), topic=("tides", "batteries")[number % 2], ready=ready,
            started=ready, done=self.now, outcome=outcome if ok else "failed",
            phases=tuple(phases), branches=Branches(total=self.branches, ok=good),
            error=None if ok else f"{phases[-1].name} failed",
        )  # fmt: skip
        self.records.workflows.append(workflow)

    def _phase(self, number: int, phases: list[Phase], name: str, steps: list[Step]) -> Step:
        start = self.now
        yield steps
        outcome: WorkflowOutcome = "ok" if self.good[number, name] else "failed"
        phases.append(Phase(name=name, start=start, end=self.now, outcome=outcome))
        return outcome == "ok"

    def _one_after_another(self, steps: list[Step]) -> Step:
        for step in steps:
            yield from step

    def _decompose(self, number: int) -> Step:
        ok = yield from self._call(number, "decompose")
        if ok and self._draws(number, "decompose", None, 0).random() < self.shape.repair_rate:
            yield from self._call(number, "decompose", call=2)

    def _branch(self, number: int, branch: int) -> Step:
        yield from self._call(number, "fan_out", branch)

    def _call(self, number: int, phase: str, branch: int | None = None, call: int = 1) -> Step:
        key = {**self._key(number), "phase": phase, "branch": branch, "call": call}
        draws = self._draws(number, phase, branch, call)
        holds = self.info.permit_scope == "call"
        most = 1 if self.info.retry == "none" else self.shape.attempts
        ready, backoffs = self.now, []
        for count in range(1, most + 1):
            at = self.now
            if count == 1 or not holds:
                yield "permit"
            wait = 0 if count == most else int(self.shape.backoff_ms * MS * draws.uniform(0.5, 1.5))
            attempt = yield from self._attempt(key, count, at, wait, draws)
            if attempt.outcome == "ok" or count == most:
                yield "release"
                break
            if not holds:
                yield "release"
            start = self.now
            yield wait
            backoffs.append(Backoff(start=start, end=self.now, planned=wait, source="policy"))
        used = attempt.tokens if attempt.outcome == "ok" else None
        self.good[number, phase] += attempt.outcome == "ok"
        record = make_call(
            **key, ready=ready, done=self.now, outcome=attempt.outcome, attempts=count,
            backoffs=tuple(backoffs), tokens=used, wasted_tokens=None if used else Tokens(),
        )  # fmt: skip
        assert isinstance(self.records.calls, list)
        self.records.calls.append(record)
        return attempt.outcome == "ok"

    def _attempt(
        self, key: dict[str, Any], count: int, ready: int, wait: int, draws: np.random.Generator
    ) -> Step:
        shape, granted = self.shape, self.now
        ttft, thinking, writing = (
            max(1, int(ms * MS * draws.lognormal(0, shape.sigma)))
            for ms in (shape.ttft_ms, shape.answer_ms / 2, shape.answer_ms / 2)
        )
        outcome = "ok" if draws.random() >= shape.failure_rate else str(draws.choice(shape.faults))
        refused = outcome in ("rate_limited", "unavailable")
        sent = granted + int(shape.client_wait_ms * MS * draws.uniform(0.5, 1.5))
        first = None if refused else sent + ttft
        answer = sent + ttft + thinking if outcome == "ok" else None
        last = None if first is None else first + thinking + (writing if outcome == "ok" else 0)
        done = (sent + 5 * MS if last is None else last) + MS // 2
        yield done - granted
        retry = retry_in(wait, "policy") if wait else give_up("attempts")
        chunks = 0 if first is None else shape.chunks
        attempt = make_attempt(
            **key, attempt=count, ready=ready, sent=sent, done=done, outcome=outcome,
            permit_requested=granted if count > 1 and self.info.permit_scope == "call" else ready,
            permit_granted=granted, headers=sent + min(ttft, 5 * MS) // 2, first_reasoning=first,
            first_answer=answer, last_token=last, status=_STATUS.get(outcome, 200),
            finish_reason="stop" if outcome == "ok" else None, chunks=chunks,
            gaps=_even_gaps(first, last, chunks), decision=None if outcome == "ok" else retry,
            tokens=Tokens(input=20, cached=4, output=2 * chunks, reasoning=chunks)
            if outcome == "ok" else Tokens(),
        )  # fmt: skip
        assert isinstance(self.records.attempts, list)
        self.records.attempts.append(attempt)
        if self.records.provider:
            self.records.provider[1].append(served_as(self.records.run, attempt, shape))
        return attempt

    def _key(self, number: int) -> dict[str, Any]:
        return {"cell": self.info.id, "repeat": self.repeat, "workflow": number, "execution": 0}

    def _draws(self, number: int, phase: str, branch: int | None, call: int) -> np.random.Generator:
        place = -1 if branch is None else branch
        words = (self.seed, self.repeat, number, len(phase), place + 1, call)
        return np.random.default_rng(words)


def served_as(run: Run, attempt: Attempt, shape: Shape) -> Served:
    """Return the provider's own log line of `attempt`, `shape.wire_ms` apart on the wire."""
    wire, late = int(shape.wire_ms * MS), int(shape.lateness_ms * MS)
    assert attempt.sent is not None

    def theirs(time: int | None, by: int = -wire) -> int | None:
        return None if time is None else time + by - PROVIDER_IS_LATER

    first, last = theirs(attempt.first_text), theirs(attempt.last_token)
    return Served(
        trace_id=workflow_trace(run.run_id, attempt), span_id=attempt_span(run.run_id, attempt),
        cell=attempt.cell, repeat=attempt.repeat, arrival=attempt.attempt, streamed=True,
        arrived=attempt.sent + wire - PROVIDER_IS_LATER,
        first_scheduled=None if first is None else first - late, first_written=first,
        first_answer_written=theirs(attempt.first_answer),
        last_scheduled=None if last is None else last - late, last_written=last,
        done=attempt.done - wire - PROVIDER_IS_LATER, outcome=attempt.outcome,
        status=attempt.status or 0, active=0, tokens=attempt.tokens, chunks=attempt.chunks,
        gaps=attempt.gaps, lateness={bucket(late): attempt.chunks} if attempt.chunks else {},
    )  # fmt: skip


def _even_gaps(first: int | None, last: int | None, chunks: int) -> Histogram:
    if first is None or last is None or chunks < 2:
        return {}
    return {bucket((last - first) // (chunks - 1)): chunks - 1}


def _with_gaps(phase: Phase, good: int, total: int) -> Phase:
    outcome: WorkflowOutcome = "ok" if good == total else "degraded" if good else "failed"
    return Phase(name=phase.name, start=phase.start, end=phase.end, outcome=outcome)
