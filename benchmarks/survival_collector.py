"""A collector for `benchmarks.survival` that answers at random and keeps its own account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from unittest.mock import patch

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.telemetry import otlp_protobuf
from harness.telemetry.collector_reply import CollectorReply, DeliveryClock
from harness.telemetry.delivery_log import DeliveryAccount
from harness.telemetry.otlp_target import OtlpTarget

TARGET = OtlpTarget("http", "127.0.0.1", 9, "/v1/traces")
MOODS = ("good", "odd", "odd", "hopeless", "down")


class SpanLedger:
    """What the collector has acknowledged in all sessions.

    `rejected`: how many spans of acknowledged requests it did not take. `refused`: the spans of
    requests that it has refused since the client last began to send all that is left. `is_exact`:
    False once the client cannot know of an acknowledgement, because it was killed or could not
    write.
    """

    def __init__(self) -> None:
        self.acknowledged = Counter[str]()
        self.rejected = self.refused = 0
        self.is_exact = True


class Collector:
    """A collector in one session, and the clock of the delivery."""

    def __init__(self, random: Random, ledger: SpanLedger, *, is_calm: bool) -> None:
        self._random = random
        self._ledger = ledger
        self._mood = "good" if is_calm else random.choice(MOODS)
        self._time = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Send all spans of the harness here, in small requests."""
        clock = DeliveryClock(lambda: self._time, self._sleep)
        most = self._random.choice((3, 20, 100))
        batches = partial(otlp_protobuf.batches, most_spans=most)
        with (
            patch("harness.telemetry.collector_reply.connect", self._connect),
            patch("harness.telemetry.collector_reply.REAL_WAITS", clock),
            patch("harness.telemetry.otlp_protobuf.batches", batches),
            patch("harness.telemetry.outbox.Random", lambda: Random(self._random.random())),
            patch("harness.telemetry.export.time", SimpleNamespace(monotonic=clock.now)),
        ):
            yield

    def _connect(self, *_: object) -> Collector:
        self._ledger.refused = 0
        return self

    def _sleep(self, seconds: float) -> None:
        self._time += seconds

    def close(self) -> None:
        """Do nothing."""

    def post(self, body: bytes, seconds: float) -> CollectorReply:
        """Answer a request."""
        random = self._random
        self._time += min(seconds, random.choice((0.001, 0.02, 0.2)))
        message = ExportTraceServiceRequest.FromString(body)
        ids = [
            span.span_id.hex()
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        verdict = "taken"
        if self._mood == "odd":
            verdict = random.choice(("taken", "taken", "taken", "partly", "later", "refused"))
        elif self._mood == "down":
            verdict = "later"
        elif self._mood == "hopeless" and random.random() < 0.1:
            verdict = "hopeless"
        if verdict == "later":
            return CollectorReply("later", retry_after=random.choice((None, 0.1, 60.0)))
        if verdict in ("refused", "hopeless"):
            self._ledger.refused += len(ids)
            return CollectorReply("refused" if verdict == "refused" else "hopeless", problem="no")
        rejected = random.randint(1, len(ids)) if verdict == "partly" else 0
        self._ledger.acknowledged.update(ids)
        self._ledger.rejected += rejected
        return CollectorReply("taken", rejected=rejected)


def check_account(account: DeliveryAccount, traces: Path, ledger: SpanLedger) -> None:
    """Check the account of a session that was not killed against the files and the collector."""
    parts = (account.delivered, account.refused, account.undelivered)
    assert min(parts) >= 0, f"no number of spans is negative: {parts}"
    assert sum(parts) == account.made, f"each span is accounted for once: {parts}, {account.made}"
    made = spans_in(traces)
    assert account.made == sum(made.values()), "the spans that were made are in the files"
    assert set(made.values()) <= {1}, "each span is in the files once"
    taken = len(ledger.acknowledged) - ledger.rejected
    if ledger.is_exact:
        assert set(ledger.acknowledged.values()) <= {1}, "no span is sent twice"
        assert account.delivered == taken, f"delivered {account.delivered} of {taken} taken"
        refused = ledger.rejected + ledger.refused
        assert account.refused == refused, f"refused {account.refused} of {refused} refused"
    else:
        assert account.delivered <= len(ledger.acknowledged), "no more are delivered than taken"


def spans_in(traces: Path) -> Counter[str]:
    """Return how often each span is in the files, by its id."""
    found = Counter[str]()
    for path in traces.glob("*.otlp.jsonl"):
        for line in path.read_bytes().splitlines():
            for resource in msgspec.json.decode(line)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found.update(span["spanId"] for span in scope["spans"])
    return found
