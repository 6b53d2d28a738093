"""Makes metrics from records, trial by trial. The same records always give the same metrics.

A metric counts what has a span: the calls and attempts of workflows that ended, without warm-ups.
Counters and histograms have one point for each set of attributes, with the totals of the run.
Exemplars are the largest value of each bucket, with the ids of its span.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from harness.records import ids
from harness.records.clock import SECOND
from harness.records.groups import WorkflowGroups, decisive_attempt
from harness.records.histogram import middle
from harness.records.keys import WARM_UP, workflow_key
from harness.records.schema import Attempt, Call, Run, Trial, Workflow
from harness.records.server_sample import ServerSample
from harness.telemetry import attributes, instruments, semconv
from harness.telemetry.attributes import Attributes
from harness.telemetry.instruments import Instrument
from harness.telemetry.spans import root_span

MOST_LOAD_STEPS = 20
"""The most points of a gauge in one trial; their distance is at least a second."""

_GEN_AI = (
    semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.REQUEST_MODEL, semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)  # fmt: skip
"""The attributes of a chat span that its metrics have too; more would multiply the points."""


class Exemplar(NamedTuple):
    """One measured value and the ids of its span."""

    value: float
    time: int
    trace_id: str
    span_id: str


class MetricPoint(msgspec.Struct):
    """The aggregated values of one set of attributes. Times: nanoseconds since the Unix epoch.

    `value`: the sum of a counter or histogram, the value of a gauge. `counts`: of each bucket.
    """

    instrument: Instrument
    attributes: Attributes
    start: int = 0
    time: int = 0
    value: float = 0.0
    counts: list[int] = []
    low: float = float("inf")
    high: float = float("-inf")
    exemplars: dict[int, Exemplar] = {}

    def add(self, value: float, exemplar: Exemplar, count: int = 1) -> None:
        """Add a value to a histogram, or to a counter."""
        self.value += value * count
        bucket = bisect_left(self.instrument.bounds, value)
        if self.counts:
            self.counts[bucket] += count
            self.low, self.high = min(self.low, value), max(self.high, value)
        known = self.exemplars.get(bucket)
        if known is None or known.value < value:
            self.exemplars[bucket] = exemplar


class MetricMaker:
    """Collects the metrics of one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._cells = {cell.id: cell for cell in run.cells}
        self._cell_attributes = {
            cell.id: attributes.cell_attributes(run, cell) for cell in run.cells
        }
        self._endpoints = {cell.id: attributes.endpoint_attributes(run, cell) for cell in run.cells}
        self._totals: dict[tuple[object, ...], MetricPoint] = {}
        self._gauges: list[MetricPoint] = []
        self._times: list[int] = []

    def add_trial(
        self,
        trials: Sequence[Trial],
        workflows: Iterable[Workflow],
        calls: Iterable[Call],
        attempts: Sequence[Attempt],
    ) -> None:
        """Add the records of one trial; `trials`: its sessions."""
        groups = WorkflowGroups(calls, attempts)
        ended: list[Attempt] = []
        for workflow in workflows:
            its = groups.of(workflow)
            self._add_workflow(workflow)
            for call, tried in its.tried():
                if tried and call.phase != WARM_UP:
                    self._add_call(call, tried)
                    ended += tried
        for trial in trials:
            mine = [one for one in ended if one.execution == trial.execution]
            self._add_session(trial, mine)

    def add_server(self, sample: ServerSample) -> None:
        """Add what the model's server said of its load."""
        own = self._cell_attributes[sample.cell] | {
            semconv.REPEAT: sample.repeat, semconv.EXECUTION: sample.execution,
        }  # fmt: skip
        for instrument, value in (
            (instruments.SERVER_RUNNING, sample.running),
            (instruments.SERVER_WAITING, sample.waiting),
            (instruments.SERVER_KV_CACHE, sample.kv_cache),
        ):
            if value is not None:
                time = self._unix(sample.time)
                self._gauges.append(MetricPoint(instrument, own, time, time, value))

    def points(self) -> list[MetricPoint]:
        """Return all points, in the order of the instruments."""
        if not self._times:
            return []
        for point in self._totals.values():
            point.start, point.time = min(self._times), max(self._times)
        order = {one.name: at for at, one in enumerate(instruments.INSTRUMENTS)}
        every = [*self._totals.values(), *self._gauges]
        return sorted(every, key=lambda point: order[point.instrument.name])

    def _add_workflow(self, record: Workflow) -> None:
        own: Attributes = {semconv.WORKFLOW_NAME: attributes.workflow_name(self._run)}
        own |= attributes.error_attributes(record.outcome)
        trace = ids.workflow_trace(self._run.run_id, record)
        self._add(
            instruments.WORKFLOW_DURATION, record, own, record.done - record.ready, record.done,
            trace, root_span(self._run.run_id, record),
        )  # fmt: skip

    def _add_call(self, call: Call, tried: list[Attempt]) -> None:
        endpoint = self._endpoints[call.cell]
        chat = endpoint.chat_in(call.phase)
        own: Attributes = {name: chat[name] for name in _GEN_AI if name in chat}
        own[semconv.PHASE] = call.phase
        decisive = decisive_attempt(call, tried)
        if decisive.response_model is not None:
            own[semconv.RESPONSE_MODEL] = decisive.response_model
        trace = ids.workflow_trace(self._run.run_id, call)
        span = ids.span_id(self._run.run_id, semconv.CHAT, *workflow_key(call), *call.call_key[4:])
        failed = own | attributes.error_attributes(call.outcome)
        took = call.done - tried[0].permit_granted
        self._add(instruments.OPERATION_DURATION, call, failed, took, call.done, trace, span)
        for wasted, tokens in ((False, call.tokens), (True, call.wasted_tokens)):
            for kind in ("input", "output"):
                count = None if tokens is None else getattr(tokens, kind)
                if count is not None and (count or not wasted):
                    more: Attributes = {semconv.TOKEN_TYPE: kind, semconv.TOKENS_WASTED: wasted}
                    instrument = instruments.TOKEN_USAGE
                    self._add(instrument, call, own | more, count, call.done, trace, span, unit=1)
        if endpoint.streamed:
            waited, came = decisive.time_to_first_chunk, decisive.first_chunk
            if waited is not None and came is not None:
                chunk = instruments.TIME_TO_FIRST_CHUNK
                self._add(chunk, call, own, waited, came, trace, span)
            for name, count in decisive.gaps.items():
                self._add(
                    instruments.TIME_PER_OUTPUT_CHUNK, call, own, middle(name), call.done, trace,
                    span, count=count,
                )  # fmt: skip
        self._add_waits(call, tried, trace, span)

    def _add_waits(self, call: Call, tried: list[Attempt], trace: str, chat: str) -> None:
        own: Attributes = {semconv.PHASE: call.phase}
        holds = self._cells[call.cell].permit_scope == "call"
        for attempt in tried:
            span = ids.attempt_span(self._run.run_id, attempt)
            if attempt is tried[0] or attempt.hedge or not holds:
                self._add(
                    instruments.PERMIT_WAIT, call, own, attempt.permit_wait,
                    attempt.permit_granted, trace, span,
                )  # fmt: skip
            result = own | attributes.outcome_attributes(attempt.outcome)
            if attempt.status is not None:
                result[semconv.STATUS_CODE] = attempt.status
            self._add(
                instruments.ATTEMPTS_ENDED, call, result, 1, attempt.done, trace, span, unit=1
            )
        for backoff in call.backoffs:
            why = own | {semconv.BACKOFF_SOURCE: backoff.source}
            took = backoff.end - backoff.start
            self._add(instruments.BACKOFF, call, why, took, backoff.end, trace, chat)

    def _add(
        self,
        instrument: Instrument,
        record: Workflow | Call,
        own: Attributes,
        value: float,
        time: int,
        trace: str,
        span: str,
        *,
        unit: int = SECOND,
        count: int = 1,
    ) -> None:
        """Add a value in units of `unit`; `time`: of the record."""
        point = self._total(instrument, record.cell, own)
        measured = value / unit
        point.add(measured, Exemplar(measured, self._unix(time), trace, span), count)

    def _total(self, instrument: Instrument, cell: str, own: Attributes) -> MetricPoint:
        key = (instrument.name, cell, *own.items())
        if key not in self._totals:
            buckets = [0] * (len(instrument.bounds) + 1) if instrument.bounds else []
            carried = self._cell_attributes[cell] | own
            self._totals[key] = MetricPoint(instrument, carried, counts=buckets)
        return self._totals[key]

    def _add_session(self, trial: Trial, attempts: Sequence[Attempt]) -> None:
        self._times += self._unix(trial.start), self._unix(trial.end)
        seconds = (trial.end - trial.start) / SECOND
        self._total(instruments.TRIAL_DURATION, trial.cell, {}).value += seconds
        own = self._cell_attributes[trial.cell] | {
            semconv.REPEAT: trial.repeat, semconv.EXECUTION: trial.execution,
        }  # fmt: skip
        busy = [(one.permit_granted, one.done) for one in attempts]
        for time, most in peaks(busy, trial.start, trial.end):
            self._gauges.append(
                MetricPoint(
                    instruments.ATTEMPTS_IN_FLIGHT, own, self._unix(trial.start),
                    self._unix(time), most,
                )
            )  # fmt: skip

    def _unix(self, time: int) -> int:
        return self._run.anchor.unix_ns + time


def peaks(busy: Iterable[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the end of each step from `start` to `end`, and the most intervals open within it."""
    step = max(SECOND, -(-(end - start) // MOST_LOAD_STEPS))
    # At the same time, an end comes before a beginning.
    changes = sorted(pair for began, ended in busy for pair in ((began, 1), (ended, -1)))
    at = current = 0
    while True:
        until = min(start + step, end)
        most = current
        while at < len(changes) and changes[at][0] <= until:
            current += changes[at][1]
            most = max(most, current)
            at += 1
        yield until, most
        start = until
        if start >= end:
            return
