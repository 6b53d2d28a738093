"""Delivery over gRPC: the same spans, the same account, whatever the server answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Wrapped
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.telemetry.collector_reply import CollectorReply, connect
from harness.telemetry.otlp_protobuf import batches
from harness.telemetry.otlp_target import OtlpTarget, open_target
from harness.telemetry.outbox import Delivery, Outbox
from tests.telemetry.otlp import Receiver, receiving, spans_in
from tests.telemetry.test_otlp_http import RESOURCE, closed_port, many, partial

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
Answering = Callable[[int, Any], bytes]
"""Answers the request with this number, from 1, in a context of gRPC."""


@dataclass
class GrpcReceiver:
    """A collector for gRPC on this machine."""

    answer: Answering = lambda number, context: b""
    got: list[tuple[str, dict[str, Any], bytes]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def target(self, **fields: Any) -> OtlpTarget:
        return OtlpTarget("grpc", "127.0.0.1", self.port, "/v1/traces", **fields)

    def service(self, details: Any) -> Any:
        """Handle every method that a collector for traces has."""
        if details.method != EXPORT:
            return None

        def export(body: bytes, context: Any) -> bytes:
            self.got.append((details.method, dict(context.invocation_metadata()), body))
            answer: bytes = self.answer(len(self.got), context)
            return answer

        return grpc.unary_unary_rpc_method_handler(export)


@contextmanager
def receiving_grpc(receiver: GrpcReceiver) -> Iterator[GrpcReceiver]:
    """Listen while the context lasts."""
    server = grpc.server(ThreadPoolExecutor(max_workers=4), handlers=[receiver])
    receiver.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield receiver
    finally:
        receiver.stop.set()
        server.stop(None).wait()


def deliver(target: OtlpTarget, seconds: float = 60.0, tries: int = 1) -> Delivery:
    """Send three spans in two requests."""
    outbox = Outbox(target, lambda *_: None)
    outbox.put(batches(many(3), RESOURCE, most_spans=2), 3)
    delivery = outbox.send(seconds, tries)
    outbox.close()
    assert delivery.delivered + delivery.refused + delivery.undelivered == 3
    assert "\n" not in str(delivery.problem)
    assert "s3cret" not in str(delivery)
    return delivery


def says(body: bytes) -> Answering:
    return lambda number, context: body


def fails(code: grpc.StatusCode, details: bytes | None = None) -> Answering:
    """End with a status; `details`: as in its trailing metadata."""

    def answer(number: int, context: Any) -> bytes:
        if details is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(code, "s3cret\nreason")
        raise AssertionError

    return answer


def retry_in(seconds: int) -> bytes:
    wrapped = Wrapped()
    wrapped.Pack(RetryInfo(retry_delay=Duration(seconds=seconds)))
    text: bytes = Status(code=8, details=[wrapped]).SerializeToString()
    return text


class Mood(NamedTuple):
    name: str
    answer: Answering
    account: tuple[int, int, int]
    problem: str = ""


CODES = grpc.StatusCode
MOODS = [
    Mood("accepts", says(b""), (3, 0, 0)),
    Mood("a part", says(partial(rejected_spans=1)), (1, 2, 0), "only a part"),
    Mood("rejects too many", says(partial(rejected_spans=9)), (0, 3, 0), "only a part"),
    Mood("rejects -5", says(partial(rejected_spans=-5)), (3, 0, 0)),
    Mood("nonsense", says(b"\xff\xff"), (0, 2, 1), "not OTLP"),
    Mood("too long", says(b"\n" * 1_000_000), (0, 0, 3), "RESOURCE_EXHAUSTED"),
    Mood("unavailable", fails(CODES.UNAVAILABLE), (0, 0, 3), "gRPC"),
    Mood("exhausted", fails(CODES.RESOURCE_EXHAUSTED), (0, 3, 0), "RESOURCE_EXHAUSTED"),
    Mood("asks to wait", fails(CODES.RESOURCE_EXHAUSTED, retry_in(9)), (0, 0, 3)),
    Mood("negative wait", fails(CODES.UNAVAILABLE, retry_in(-9)), (0, 0, 3)),
    Mood("wrong details", fails(CODES.UNAVAILABLE, b"\xff\xff"), (0, 0, 3)),
    Mood("invalid", fails(CODES.INVALID_ARGUMENT), (0, 3, 0), "INVALID_ARGUMENT"),
    Mood("internal", fails(CODES.INTERNAL), (0, 3, 0), "INTERNAL"),
    Mood("unauthenticated", fails(CODES.UNAUTHENTICATED), (0, 2, 1), "UNAUTHENTICATED"),
    Mood("data loss", fails(CODES.DATA_LOSS), (0, 0, 3), "DATA_LOSS"),
]


@pytest.mark.parametrize("mood", MOODS, ids=[mood.name for mood in MOODS])
def test_a_mood_of_a_collector_is_accounted_for(mood: Mood) -> None:
    with receiving_grpc(GrpcReceiver(mood.answer)) as receiver:
        delivery = deliver(receiver.target())
    assert delivery[:3] == mood.account
    assert mood.problem in str(delivery.problem)


def test_the_same_request_goes_over_grpc_with_its_headers() -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20s3cret",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    with receiving_grpc(GrpcReceiver()) as receiver:
        target = open_target(f"grpc://127.0.0.1:{receiver.port}", environment)
        assert target is not None
        assert deliver(target) == Delivery(3, 0, 0, None)
    bodies = [body for _, _, body in receiver.got]
    assert bodies == [batch.body for batch in batches(many(3), RESOURCE, most_spans=2)]
    assert len(spans_in(ExportTraceServiceRequest.FromString(bodies[0]))) == 2
    assert receiver.got[0][1]["authorization"] == "Bearer s3cret"


def test_a_silent_collector_has_the_time_of_its_deadline() -> None:
    receiver = GrpcReceiver()
    receiver.answer = lambda number, context: bytes(receiver.stop.wait())
    with receiving_grpc(receiver):
        delivery = deliver(receiver.target(), 0.2)
    assert delivery[:3] == (0, 0, 3)
    assert "no answer within" in str(delivery.problem)


def test_the_wait_that_a_collector_asks_for_is_read() -> None:
    with receiving_grpc(GrpcReceiver(fails(CODES.UNAVAILABLE, retry_in(9)))) as receiver:
        connection = connect(receiver.target())
        assert connection.post(b"", 60.0).retry_after == 9.0
        connection.close()


def test_a_collector_without_metrics_does_not_support_them() -> None:
    with receiving_grpc(GrpcReceiver()) as receiver:
        connection = connect(receiver.target(signal="metrics"))
        assert connection.post(b"", 60.0).verdict == "unsupported"
        connection.close()


def test_a_port_where_nobody_listens_gives_one_line() -> None:
    target = OtlpTarget("grpc", "127.0.0.1", closed_port(), "/v1/traces")
    connection = connect(target)
    reply = connection.post(b"", 60.0)
    connection.close()
    assert reply == CollectorReply("later", problem=f"{target}: connection refused")


def test_a_collector_for_http_is_no_one_for_grpc() -> None:
    with receiving(Receiver()) as receiver:
        port = int(receiver.url.rpartition(":")[2])
        delivery = deliver(OtlpTarget("grpc", "127.0.0.1", port, "/v1/traces"), 5.0)
    assert delivery[:3] == (0, 0, 3)
    assert "gRPC" in str(delivery.problem) or "no answer" in str(delivery.problem)
