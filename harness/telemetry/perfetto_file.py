"""A run as a Perfetto trace, for https://ui.perfetto.dev and `trace_processor`.

Each trial has a process with a lane for each permit: a slice in it is the time for which an attempt
(or a call, if calls keep their permits) held this permit. It has counters of the attempts in
flight, of the attempts that wait for a permit, and of 429s, and the limit where permits adapt. Each
workflow has a process of its own, with its spans: those that overlap are in different lanes. The
names of slices that failed begin with their outcome.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.analysis.limit_steps import RATE_LIMITED
from harness.records.failures import is_failure
from harness.records.groups import attempts_by_call
from harness.records.keys import CallKey, TrialKey, display_key
from harness.records.schema import Attempt, Call, CellInfo, Run, Trial, Workflow
from harness.store.run_directory import Records, no_collector, replace_file
from harness.store.trial_reader import TrialReader
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes
from harness.telemetry.perfetto_packets import Annotations, PerfettoPackets
from harness.telemetry.span import Span
from harness.telemetry.spans import TraceMaker

_SHOWN = (
    semconv.OUTCOME, semconv.ATTEMPT, semconv.HEDGE, semconv.STATUS_CODE, semconv.FINISH_REASON,
    semconv.USAGE_INPUT, semconv.USAGE_OUTPUT, semconv.USAGE_REASONING, semconv.CLIENT_WAIT,
    semconv.TTFT, semconv.RETRY_AFTER, semconv.BACKOFF_PLANNED, semconv.BACKOFF_SOURCE,
    semconv.GIVE_UP, semconv.CALL_ATTEMPTS, semconv.BRANCHES_TOTAL, semconv.BRANCHES_OK,
)  # fmt: skip
"""The attributes of a span that its slice has. Those that have another value in each span would
make the file several times as large."""


class PerfettoAccount(NamedTuple):
    """What a file has: `slices` of permits and of workflows, and the bytes of the file."""

    permit_slices: int
    workflow_slices: int
    size: int


class Slice(NamedTuple):
    """A time on a lane, with all that is nested in it."""

    start: int
    end: int
    name: str
    category: str
    annotations: Annotations
    inside: tuple[Slice, ...] = ()


def write_perfetto(path: Path, stored: TrialReader) -> PerfettoAccount:
    """Write all trials of a run into a file, atomically. Raises StorageError.

    Records are read one trial at a time.
    """
    counted = [0, 0, 0]

    def written() -> Iterator[bytes]:
        for packet in _RunPackets(stored.run, counted).of(stored):
            counted[2] += len(packet)
            yield packet

    with no_collector():  # it would look through the spans again and again: they are no garbage
        replace_file(path, written())
    return PerfettoAccount(*counted)


class _RunPackets:
    """Makes the packets of a run. `counted`: slices of permits, and of workflows."""

    def __init__(self, run: Run, counted: list[int]) -> None:
        self._run = run
        self._counted = counted
        self._packets = PerfettoPackets()
        self._maker = TraceMaker(run)
        self._cells = {cell.id: cell for cell in run.cells}
        self._processes = 0

    def of(self, stored: TrialReader) -> Iterator[bytes]:
        """Yield the packets of all trials."""
        yield self._packets.first(self._run.anchor.unix_ns)
        for key in stored.keys(Attempt, Call, Workflow):
            yield from self._of_trial(key, stored.records(key), stored.trials)

    def _of_trial(
        self, key: TrialKey, records: Records, trials: Sequence[Trial]
    ) -> Iterator[bytes]:
        cell = self._cells[key[0]]
        simulated = ", simulated" if self._run.simulated else ""
        track, packet = self._process(f"permits: {cell.id}, repeat {key[1] + 1}{simulated}")
        yield packet
        mine = [trial for trial in trials if (trial.cell, trial.repeat) == key]
        yield from self._counters(track, cell, records.attempts, mine)
        yield from self._permits(track, cell, records)
        traces = self._maker.traces(records.workflows, records.calls, records.attempts)
        names = map(display_key, records.workflows)
        for spans in traces:
            yield from self._of_workflow(next(names, None), spans)

    def _process(self, name: str) -> tuple[int, bytes]:
        self._processes += 1
        return self._packets.process(self._processes, name)

    def _counters(
        self, process: int, cell: CellInfo, attempts: Sequence[Attempt], trials: Sequence[Trial]
    ) -> Iterator[bytes]:
        waiting = [(one.permit_requested, one.permit_granted) for one in attempts]
        in_flight = [(one.permit_granted, one.done) for one in attempts]
        refused = sorted(one.done for one in attempts if one.outcome == RATE_LIMITED)
        series = {
            "attempts in flight": _levels(in_flight),
            "waiting for a permit": _levels(waiting),
            "429s": [(at, count) for count, at in enumerate(refused, 1)],
        }
        if cell.limiter:
            changes = [change for trial in trials for change in trial.limits]
            series["limit"] = [(change.at, change.limit) for change in changes]
        for rank, (name, values) in enumerate(series.items()):
            track, packet = self._packets.counter(process, rank, name)
            yield packet
            for at, value in values:
                yield self._packets.count(track, self._maker.unix(at), value)

    def _permits(self, process: int, cell: CellInfo, records: Records) -> Iterator[bytes]:
        lanes: dict[int, int] = {}
        for number, one in in_lanes(permit_slices(cell, records.calls, records.attempts)):
            if number not in lanes:
                lanes[number], packet = self._packets.lane(
                    process, 10 + number, f"permit {number + 1}"
                )
                yield packet
            yield from self._slice(lanes[number], one)

    def _slice(self, track: int, one: Slice) -> Iterator[bytes]:
        self._counted[0] += 1
        unix = self._maker.unix
        yield self._packets.begin(track, unix(one.start), one.name, one.category, one.annotations)
        for inner in one.inside:
            yield from self._slice(track, inner)
        yield self._packets.end(track, unix(one.end))

    def _of_workflow(self, name: str | None, spans: Sequence[Span]) -> Iterator[bytes]:
        root = spans[0]
        process, packet = self._process(f"workflow {name}" if name else root.name)
        yield packet
        self._counted[1] += len(spans)
        tracks: list[int] = []
        for step in nested(spans):
            if step.lane == len(tracks):
                label = "workflow" if not tracks else f"at the same time {step.lane}"
                track, packet = self._packets.lane(process, step.lane, label)
                tracks.append(track)
                yield packet
            if step.span is None:
                yield self._packets.end(tracks[step.lane], step.time)
            else:
                yield self._packets.begin(
                    tracks[step.lane], step.time, _span_name(step.span),
                    step.span.name.partition(" ")[0], _shown(step.span.attributes),
                )  # fmt: skip


def _span_name(span: Span) -> str:
    error = span.attributes.get(semconv.ERROR_TYPE)
    return span.name if error is None else f"{error}: {span.name}"


def _shown(attributes: Attributes) -> Annotations:
    """Return the attributes that a slice has."""
    shown: dict[str, Any] = {name: attributes[name] for name in _SHOWN if name in attributes}
    return shown


def _levels(times: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield how many of some intervals are open, at each time at which that changes."""
    changes: dict[int, int] = {}
    for start, end in times:
        changes[start] = changes.get(start, 0) + 1
        changes[end] = changes.get(end, 0) - 1
    level = 0
    for at in sorted(changes):
        if changes[at]:
            level += changes[at]
            yield at, level


def permit_slices(
    cell: CellInfo, calls: Sequence[Call], attempts: Sequence[Attempt]
) -> Iterator[Slice]:
    """Yield the times for which each permit was held, in no order.

    It is held by an attempt, or by a call from its first attempt on (`permit_scope = "call"`), in
    which its attempts are nested. A hedge has a permit of its own.
    """
    if cell.permit_scope != "call":
        yield from (_of_attempt(one, cell) for one in attempts)
        return
    by_key: dict[CallKey, Call] = {call.call_key: call for call in calls}
    for key, tried in attempts_by_call(attempts).items():
        yield from (_of_attempt(one, cell) for one in tried if one.hedge)
        own = [one for one in tried if not one.hedge]
        if not own:
            continue
        call = by_key.get(key)
        last = max(one.done for one in own)
        end = last if call is None else max(call.done, last)
        outcome = own[-1].outcome if call is None else call.outcome
        described = {semconv.RETRY: cell.retry, semconv.OUTCOME: outcome}
        name = _named(f"call {key.phase}", outcome)
        inside = tuple(_of_attempt(one, cell) for one in own)
        yield Slice(own[0].permit_granted, end, name, "call", described, inside)


def _of_attempt(one: Attempt, cell: CellInfo) -> Slice:
    told: dict[str, str | int | None] = {
        "workflow": one.workflow + 1, semconv.ATTEMPT: one.attempt, semconv.RETRY: cell.retry,
        semconv.OUTCOME: one.outcome, semconv.STATUS_CODE: one.status,
        semconv.USAGE_INPUT: one.tokens.input, semconv.USAGE_OUTPUT: one.tokens.output,
    }  # fmt: skip
    described = {name: value for name, value in told.items() if value is not None}
    name = _named(one.phase, one.outcome)
    return Slice(one.permit_granted, one.done, name, semconv.ATTEMPT_SPAN, described)


def _named(name: str, outcome: str) -> str:
    return f"{outcome}: {name}" if is_failure(outcome) else name


def in_lanes(slices: Iterable[Slice]) -> Iterator[tuple[int, Slice]]:
    """Yield slices by their start, each with the first lane that is free; lanes count from 0."""
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    lanes = 0
    for one in sorted(slices, key=lambda one: (one.start, one.end)):
        while busy and busy[0][0] <= one.start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, lanes = lanes, lanes + 1
        heapq.heappush(busy, (one.end, lane))
        yield lane, one


class NestedStep(NamedTuple):
    """The start of a span, or the end of the one that has begun last in its lane: no span."""

    lane: int
    time: int
    span: Span | None


def nested(spans: Sequence[Span]) -> Iterator[NestedStep]:
    """Yield the starts and ends of the spans of a trace, in lanes in which they nest.

    A span is in the lane of its parent if no sibling is open there, or else in the first lane in
    which nothing is open. `spans`: parents before their children. Times ascend in each lane.
    """
    open_in: list[list[Span]] = []
    lane_of: dict[str, int] = {}

    def closing(lane: int, time: int | None) -> Iterator[NestedStep]:
        stack = open_in[lane]
        while stack and (time is None or stack[-1].end <= time):
            yield NestedStep(lane, stack.pop().end, None)

    depth = {span.span_id: at for at, span in enumerate(spans)}
    for span in sorted(spans, key=lambda span: (span.start, depth[span.span_id])):
        for lane in range(len(open_in)):
            # A parent of no length stays open for a child of no length.
            kept = open_in[lane][-1:] and open_in[lane][-1].span_id == span.parent_id
            if not (kept and open_in[lane][-1].end == span.end):
                yield from closing(lane, span.start)
        home = None if span.parent_id is None else lane_of.get(span.parent_id)
        if home is None or not _fits(open_in[home], span):
            home = next((at for at, stack in enumerate(open_in) if not stack), len(open_in))
            if home == len(open_in):
                open_in.append([])
        open_in[home].append(span)
        lane_of[span.span_id] = home
        yield NestedStep(home, span.start, span)
    for lane in range(len(open_in)):
        yield from closing(lane, None)


def _fits(stack: Sequence[Span], span: Span) -> bool:
    return bool(stack) and stack[-1].span_id == span.parent_id and span.end <= stack[-1].end
