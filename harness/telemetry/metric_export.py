"""Writes the metrics of a run and sends them to a collector, after the run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.records.schema import Attempt, Call, Run, Trial, Workflow
from harness.records.server_sample import ServerSample
from harness.store.run_directory import each
from harness.telemetry.attributes import Attributes
from harness.telemetry.delivery_log import MetricsAccount
from harness.telemetry.metrics import MetricMaker
from harness.telemetry.otlp_target import OtlpTarget
from harness.telemetry.outbox import TRIES, Outbox

if TYPE_CHECKING:
    from harness.telemetry.collector_reply import DeliveryClock

METRICS_FILE = "metrics.otlp.jsonl"
MOST_SECONDS = 0.5
"""Seconds for delivery without `wait`: metrics are a few requests."""


class MetricExport:
    """Collects the metrics of a run trial by trial, writes them and sends them once."""

    def __init__(self, run: Run, target: OtlpTarget | None) -> None:
        self._maker = MetricMaker(run)
        self._target = target

    def add(
        self,
        trials: Sequence[Trial],
        workflows: Iterable[Workflow],
        calls: Iterable[Call],
        attempts: Sequence[Attempt],
    ) -> None:
        """Add the records of one trial; `trials`: its sessions."""
        self._maker.add_trial(trials, workflows, calls, attempts)

    def finish(
        self,
        directory: Path,
        resource: Attributes,
        clock: DeliveryClock | None = None,
        *,
        wait: bool = False,
    ) -> MetricsAccount:
        """Write the file, send all points, and return their state. Raises StorageError.

        `wait`: send for as long as the collector accepts points; otherwise try once.
        """
        from harness.telemetry.otlp_metrics import metric_batches, write_metrics

        for sample in each(directory, ServerSample):
            self._maker.add_server(sample)
        points = self._maker.points()
        write_metrics(directory / METRICS_FILE, points, resource)
        account = MetricsAccount(made=len(points))
        if self._target is None:
            return account
        outbox = Outbox(self._target, lambda *_: None, clock)
        outbox.put(metric_batches(points, resource), len(points))
        sent = outbox.send(math.inf if wait else MOST_SECONDS, tries=TRIES if wait else 1)
        outbox.close()
        is_unsupported = outbox.stopped is not None and outbox.stopped.verdict == "unsupported"
        return msgspec.structs.replace(
            account, endpoint=str(self._target), unsupported=is_unsupported, **sent._asdict()
        )
