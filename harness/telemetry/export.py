"""Writes traces and metrics of a run and sends them to a collector, outside the measured time.

Spans that a collector has not acknowledged can be sent later. A run of more than
`MOST_TRACED_CALLS` in virtual time makes no traces; `export_stored` makes them from its records.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from harness.records.keys import WARM_UP, TrialKey, workflow_key
from harness.records.schema import Attempt, Call, Run, Transcript, Trial, Workflow
from harness.store.run_directory import Records, TrialRecords, read_transcripts, writing
from harness.store.trial_reader import TrialReader
from harness.telemetry import delivery_log, otlp_file
from harness.telemetry.attributes import Attributes
from harness.telemetry.content import Capture, capture
from harness.telemetry.delivery_log import Acknowledged, DeliveryAccount, MetricsAccount
from harness.telemetry.export_times import with_export_times
from harness.telemetry.metric_export import MOST_SECONDS, MetricExport
from harness.telemetry.otlp_target import OtlpTarget
from harness.telemetry.outbox import TRIES, Delivery, Outbox
from harness.telemetry.resource import make_resource
from harness.telemetry.span import Span
from harness.telemetry.spans import TraceMaker

if TYPE_CHECKING:
    from harness.telemetry.collector_reply import DeliveryClock
    from harness.telemetry.otlp_protobuf import Batch

TRACES = "traces"
RUN_TRACE_FILE = f"run{otlp_file.SUFFIX}"

MOST_TRACED_CALLS = 100_000
"""The most planned calls of a run in virtual time that makes traces. Each attempt has about eight
spans, which take six times as much space as its record."""

BETWEEN = 0.5
"""Seconds for delivery between two trials; also the limit for all slow answers together."""
AT_THE_END = 1.5
"""Seconds for delivery at the end, without `wait`: two seconds in all."""
FOR_SPANS = AT_THE_END - MOST_SECONDS
"""Seconds of them that are left for spans if there are metrics to send."""


class Exporter:
    """Makes, writes and sends the traces and metrics of a run. Raises StorageError.

    `target`: for spans, `metrics_target`: for metrics. `reachable`: whether the collector has
    answered; if not, nothing is sent before the end. `earlier`: the trials of earlier sessions, in
    a resumed run, whose metrics are made from the stored records alone.
    """

    def __init__(
        self,
        directory: Path,
        target: OtlpTarget | None,
        environment: Mapping[str, str],
        reachable: bool = True,
        clock: DeliveryClock | None = None,
        earlier: Iterable[Trial] = (),
        metrics_target: OtlpTarget | None = None,
    ) -> None:
        self._run_directory = directory
        self._traces = directory / TRACES
        self._environment = environment
        self._content = capture(environment)
        self._target = target
        self._outbox = _outbox(self._traces, target, clock)
        self._clock = clock
        self._metrics_target = metrics_target
        self._metrics: MetricExport | None = None
        self._reachable = reachable
        self._trials = list(earlier)
        self._is_resumed = bool(self._trials)
        self._read = 0
        self._made = self._left_out = 0

    def after_trial(self, the_run: Run, records: TrialRecords) -> None:
        """Append the traces of a trial to the file of its cell, and send for a short time."""
        self._trials.append(records.trial)
        if self._metrics is None:
            self._metrics = MetricExport(the_run, self._metrics_target)
        self._metrics.add([records.trial], records.workflows, records.calls, records.attempts)
        said: Sequence[Transcript] = ()
        if self._content:
            said, self._read = read_transcripts(self._run_directory, self._read)
        maker = TraceMaker(the_run, self._content)
        spans = with_export_times(
            maker.of_workflows(records.workflows, records.calls, records.attempts, said)
        )
        resource = make_resource(the_run, self._environment)
        _make(self._traces)
        otlp_file.append_spans(self._traces / _file_of(records.trial.cell), spans, resource)
        self._left_out += _left_out(records)
        self._put(spans, resource)
        outbox = self._outbox
        if outbox and self._reachable and not outbox.is_failing and outbox.waited < BETWEEN:
            outbox.send(BETWEEN - outbox.waited, tries=1)
            outbox.close()

    def finish(self, the_run: Run, wait: bool = False) -> DeliveryAccount:
        """Write the run trace, send the remaining spans, and return the state of all spans.

        `wait`: send for as long as the collector accepts spans. Otherwise send for `AT_THE_END`
        seconds, and with a single try if the collector has failed before.
        """
        resource = make_resource(the_run, self._environment)
        spans = with_export_times(TraceMaker(the_run).of_run(self._trials))
        _make(self._traces)
        otlp_file.replace_spans(self._traces / RUN_TRACE_FILE, [spans], resource)
        if not the_run.resumed:  # else some are delivered already: `export_stored` sends the others
            self._put(spans, resource)
        metrics = self._finish_metrics(resource, wait)
        account = DeliveryAccount(made=self._made, left_out=self._left_out, metrics=metrics)
        if self._outbox:
            once = not wait and (self._outbox.is_failing or not self._reachable)
            seconds = AT_THE_END if metrics is None or metrics.endpoint is None else FOR_SPANS
            seconds -= 0.0 if self._reachable else BETWEEN  # the check has taken that
            sent = self._outbox.send(math.inf if wait else seconds, tries=1 if once else TRIES)
            self._outbox.close()
            account = replace(account, endpoint=str(self._target), **sent._asdict())
        delivery_log.save_account(self._traces, account)
        return account

    def _finish_metrics(self, resource: Attributes, wait: bool) -> MetricsAccount | None:
        if self._metrics is None or self._is_resumed:
            return None
        return self._metrics.finish(self._run_directory, resource, self._clock, wait=wait)

    def _put(self, spans: Sequence[Span], resource: Attributes) -> None:
        self._made += len(spans)
        _put(self._outbox, spans, resource)


def export_stored(
    directory: Path,
    stored: TrialReader,
    target: OtlpTarget | None,
    environment: Mapping[str, str],
    again: bool = False,
    seconds: float = math.inf,
    metrics_target: OtlpTarget | None = None,
) -> DeliveryAccount:
    """Make all traces and metrics again, with the same files and ids, and send them for `seconds`.

    Only one trial is in memory at a time. `again`: send also the spans that the collector has
    acknowledged. Metrics are always sent. Raises StorageError.
    """
    traces = directory / TRACES
    _make(traces)
    resource = make_resource(stored.run, environment)
    if again:
        delivery_log.forget(traces, str(target))
    before = delivery_log.read_acknowledged(traces, str(target))
    outbox = _outbox(traces, target)
    sending = _StoredDelivery(outbox, before, resource, seconds)
    metrics = MetricExport(stored.run, metrics_target)
    exporting = _StoredTraces(stored, capture(environment), metrics)
    for name, parts in exporting.files():
        otlp_file.replace_spans(traces / name, map(sending.send, parts), resource)
    sent = metrics.finish(directory, resource, wait=seconds == math.inf)
    account = DeliveryAccount(made=sending.made, left_out=exporting.left_out, metrics=sent)
    if outbox:
        outbox.close()
        account = replace(account, endpoint=str(target), **sending.account()._asdict())
    delivery_log.save_account(traces, account)
    return account


class _StoredTraces:
    """Makes the spans of a stored run, and adds its records to `metrics`.

    `left_out`: the attempts without a span, so far.
    """

    def __init__(self, stored: TrialReader, content: Capture | None, metrics: MetricExport) -> None:
        self._stored = stored
        self._metrics = metrics
        self._content = content
        self._maker = TraceMaker(stored.run, content)
        self.left_out = 0

    def files(self) -> Iterator[tuple[str, Iterator[list[Span]]]]:
        """Yield the name of each file with its spans in parts, made when they are wanted."""
        yield RUN_TRACE_FILE, iter([with_export_times(self._maker.of_run(self._stored.trials))])
        every = self._stored.keys(Attempt, Call, Workflow)
        for cell in self._maker.cells:
            trials = [trial for trial in every if trial[0] == cell]
            yield _file_of(cell), chain.from_iterable(map(self._of_trial, trials))

    def _of_trial(self, trial: TrialKey) -> Iterator[list[Span]]:
        records = self._stored.records(trial)
        self._metrics.add(records.trials, records.workflows, records.calls, records.attempts)
        self.left_out += _left_out(records)
        said = self._stored.each(Transcript, trial) if self._content else ()
        traces = self._maker.traces(records.workflows, records.calls, records.attempts, said)
        return otlp_file.packed(chain.from_iterable(map(with_export_times, traces)))


class _StoredDelivery:
    """Sends spans as they are made, and counts them; stops when the time is over or sending fails.

    `made`: all spans so far.
    """

    def __init__(
        self, outbox: Outbox | None, before: Acknowledged, resource: Attributes, seconds: float
    ) -> None:
        self._outbox = outbox
        self._before = before
        self._resource = resource
        self._left = seconds
        self._sent = Delivery()
        self._settled = 0
        self.made = 0

    def send(self, spans: list[Span]) -> list[Span]:
        """Send the spans that were not acknowledged before; return all of them."""
        self.made += len(spans)
        if self._outbox:
            left = [span for span in spans if span.span_id not in self._before.span_ids]
            self._settled += len(spans) - len(left)
            if left and not self._sent.undelivered:
                _put(self._outbox, left, self._resource)
                began = time.monotonic()
                self._sent = self._outbox.send(self._left)
                self._left -= time.monotonic() - began
        return spans

    def account(self) -> Delivery:
        """Return the state of all spans that were made."""
        delivered = self._sent.delivered + self._settled - self._before.rejected
        refused = self._sent.refused + self._before.rejected
        undelivered = self.made - delivered - refused
        return Delivery(delivered, refused, undelivered, self._sent.problem)


def _outbox(
    traces: Path, target: OtlpTarget | None, clock: DeliveryClock | None = None
) -> Outbox | None:
    def note(batch: Batch, rejected: int) -> None:
        delivery_log.note(traces, str(target), batch.span_ids, rejected)

    return Outbox(target, note, clock) if target else None


def _put(outbox: Outbox | None, spans: Sequence[Span], resource: Attributes) -> None:
    if outbox:
        from harness.telemetry.otlp_protobuf import batches

        outbox.put(batches(spans, resource), len(spans))


def _file_of(cell: str) -> str:
    return f"{cell}{otlp_file.SUFFIX}"


def _make(directory: Path) -> None:
    with writing(directory):
        directory.mkdir(exist_ok=True)


def _left_out(records: Records | TrialRecords) -> int:
    ended = {workflow_key(workflow) for workflow in records.workflows}
    return sum(
        workflow_key(attempt) not in ended and attempt.phase != WARM_UP
        for attempt in records.attempts
    )
