"""Writes the traces of a run and sends them to a collector, outside the measured time.

The files are always written. Spans that a collector has not acknowledged can be sent later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from harness.records.keys import workflow_key
from harness.records.schema import Run, Transcript, Trial
from harness.store.run_directory import Records, TrialRecords, read_transcripts, writing
from harness.telemetry import delivery_log, otlp_file
from harness.telemetry.attributes import Attributes
from harness.telemetry.content import Capture, capture
from harness.telemetry.delivery_log import DeliveryAccount
from harness.telemetry.otlp_target import OtlpTarget
from harness.telemetry.outbox import REAL, TRIES, DeliveryClock, Outbox
from harness.telemetry.resource import make_resource
from harness.telemetry.span import Span
from harness.telemetry.spans import TraceMaker

if TYPE_CHECKING:
    from harness.telemetry.otlp_protobuf import Batch

TRACES = "traces"
RUN_TRACE_FILE = "run.otlp.jsonl"

BETWEEN = 0.5
"""Seconds for delivery between two trials; also the limit for all slow answers together."""
AT_THE_END = 1.5
"""Seconds for delivery at the end, without `wait`: two seconds in all since the last trial."""


class Exporter:
    """Makes, writes and sends the traces of a run during the run. Raises StorageError.

    `reachable`: whether the collector has answered; if not, nothing is sent before the end.
    `earlier`: the trials of earlier sessions, in a resumed run.
    """

    def __init__(
        self,
        directory: Path,
        target: OtlpTarget | None,
        environment: Mapping[str, str],
        reachable: bool = True,
        clock: DeliveryClock = REAL,
        earlier: Iterable[Trial] = (),
    ) -> None:
        self._run_directory = directory
        self._traces = directory / TRACES
        self._environment = environment
        self._content = capture(environment)
        self._target = target
        self._outbox = _outbox(self._traces, target, clock)
        self._reachable = reachable
        self._trials = list(earlier)
        self._read = 0
        self._made = self._left_out = 0

    def after_trial(self, the_run: Run, records: TrialRecords) -> None:
        """Append the traces of a trial to the file of its cell, and send for a short time."""
        self._trials.append(records.trial)
        said: Sequence[Transcript] = ()
        if self._content:
            said, self._read = read_transcripts(self._run_directory, self._read)
        maker = TraceMaker(the_run, self._content)
        spans = maker.of_workflows(records.workflows, records.calls, records.attempts, said)
        resource = make_resource(the_run, self._environment)
        _make(self._traces)
        otlp_file.append_spans(self._traces / _file_of(records.trial.cell), spans, resource)
        self._left_out += _left_out(records)
        self._put(spans, resource)
        outbox = self._outbox
        if outbox and self._reachable and not outbox.is_failing and outbox.waited < BETWEEN:
            outbox.send(BETWEEN - outbox.waited, tries=1)

    def finish(self, the_run: Run, wait: bool = False) -> DeliveryAccount:
        """Write the run trace, send the remaining spans, and return the state of all spans.

        `wait`: send for as long as the collector accepts spans. Otherwise send for `AT_THE_END`
        seconds, and with a single try if the collector has failed before.
        """
        resource = make_resource(the_run, self._environment)
        spans = TraceMaker(the_run).of_run(self._trials)
        _make(self._traces)
        otlp_file.replace_spans(self._traces / RUN_TRACE_FILE, spans, resource)
        self._put(spans, resource)
        account = DeliveryAccount(made=self._made, left_out=self._left_out)
        if self._outbox:
            once = not wait and (self._outbox.is_failing or not self._reachable)
            sent = self._outbox.send(math.inf if wait else AT_THE_END, tries=1 if once else TRIES)
            self._outbox.close()
            account = replace(account, endpoint=str(self._target), **sent._asdict())
        delivery_log.save_account(self._traces, account)
        return account

    def _put(self, spans: Sequence[Span], resource: Attributes) -> None:
        self._made += len(spans)
        if self._outbox:
            self._outbox.put(spans, resource)


def export_stored(
    directory: Path,
    records: Records,
    target: OtlpTarget | None,
    environment: Mapping[str, str],
    again: bool = False,
    seconds: float = math.inf,
) -> DeliveryAccount:
    """Make all traces of a run again, with the same files and ids, and send them for `seconds`.

    `again`: send also the spans that the collector has acknowledged. Raises StorageError.
    """
    traces = directory / TRACES
    _make(traces)
    resource = make_resource(records.run, environment)
    if again:
        delivery_log.forget(traces, str(target))
    before = delivery_log.read_acknowledged(traces, str(target))
    outbox = _outbox(traces, target)
    made = settled = 0
    for name, spans in _of_files(directory, records, capture(environment)):
        otlp_file.replace_spans(traces / name, spans, resource)
        made += len(spans)
        if outbox:
            left = [span for span in spans if span.span_id not in before.span_ids]
            settled += len(spans) - len(left)
            outbox.put(left, resource)
    account = DeliveryAccount(made=made, left_out=_left_out(records))
    if outbox:
        sent = outbox.send(seconds)
        outbox.close()
        sent = sent._replace(
            delivered=sent.delivered + settled - before.rejected,
            refused=sent.refused + before.rejected,
        )
        account = replace(account, endpoint=str(target), **sent._asdict())
    delivery_log.save_account(traces, account)
    return account


def _outbox(traces: Path, target: OtlpTarget | None, clock: DeliveryClock = REAL) -> Outbox | None:
    def note(batch: Batch, rejected: int) -> None:
        delivery_log.note(traces, str(target), batch.span_ids, rejected)

    return Outbox(target, note, clock) if target else None


def _of_files(
    directory: Path, records: Records, content: Capture | None
) -> Iterator[tuple[str, list[Span]]]:
    maker = TraceMaker(records.run, content)
    said = read_transcripts(directory)[0] if content else []
    yield RUN_TRACE_FILE, maker.of_run(records.trials)
    for cell in maker.cells:
        workflows = [workflow for workflow in records.workflows if workflow.cell == cell]
        calls = [call for call in records.calls if call.cell == cell]
        attempts = [attempt for attempt in records.attempts if attempt.cell == cell]
        yield _file_of(cell), maker.of_workflows(workflows, calls, attempts, said)


def _file_of(cell: str) -> str:
    return f"{cell}.otlp.jsonl"


def _make(directory: Path) -> None:
    with writing(directory):
        directory.mkdir(exist_ok=True)


def _left_out(records: Records | TrialRecords) -> int:
    ended = {workflow_key(workflow) for workflow in records.workflows}
    return sum(workflow_key(attempt) not in ended for attempt in records.attempts)
