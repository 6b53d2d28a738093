"""What the tests need of OTLP: both encodings read back with the protocol's own messages."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from harness.telemetry.otlp_target import OtlpTarget

Seen = dict[str, Any]
"""One span as plain values, whatever encoding it came in."""

_ID_FIELDS = ("traceId", "spanId", "parentSpanId")


def parse_line(line: str | bytes) -> ExportTraceServiceRequest:
    """Read one OTLP JSON line strictly: an unknown field or a wrong type is an error.

    Protobuf's own JSON has ids in base64 where OTLP's has hexadecimal.
    """
    message = json_format.ParseDict(_with_base64_ids(json.loads(line)), ExportTraceServiceRequest())
    assert isinstance(message, ExportTraceServiceRequest)
    return message


def _with_base64_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(item)).decode()
        if key in _ID_FIELDS
        else _with_base64_ids(item)
        for key, item in value.items()
    }


def spans_in(message: ExportTraceServiceRequest) -> list[Seen]:
    """Return the spans of a request as plain values."""
    return [
        _plain(span)
        for of_resource in message.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def resource_in(message: ExportTraceServiceRequest) -> dict[str, Any]:
    """Return the attributes of a request's only resource."""
    (of_resource,) = message.resource_spans
    return _values(of_resource.resource.attributes)


def _plain(span: trace_pb2.Span) -> Seen:
    return {
        "name": span.name,
        "ids": (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()),
        "times": (span.start_time_unix_nano, span.end_time_unix_nano),
        "kind": trace_pb2.Span.SpanKind.Name(span.kind),
        "status": (trace_pb2.Status.StatusCode.Name(span.status.code), span.status.message),
        "attributes": _values(span.attributes),
        "events": [(event.name, event.time_unix_nano) for event in span.events],
        "event_attributes": [_values(event.attributes) for event in span.events],
        "links": [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
    }


def _values(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    assert len({pair.key for pair in pairs}) == len(pairs), "no attribute stands twice"
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    assert kind is not None, "an attribute has a value"
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _values(value.kvlist_value.values)
    return getattr(value, kind)


class Received(NamedTuple):
    """One request as the receiver got it."""

    path: str
    headers: dict[str, str]
    message: ExportTraceServiceRequest


class Answer(NamedTuple):
    """What the receiver answers."""

    status: int = 200
    body: bytes = ExportTraceServiceResponse().SerializeToString()
    headers: dict[str, str] = {}  # noqa: RUF012 - nobody writes into it


@dataclass
class Receiver:
    """A collector on this machine. `answer` decides by the number of requests so far, from 1.

    `instead`: takes over the whole exchange after a request was read; `stop` is set at the end.
    `hung_up` is released each time when a connection was closed after that.
    """

    answer: Callable[[int], Answer] = lambda _: Answer()
    instead: Callable[[BaseHTTPRequestHandler, threading.Event], None] | None = None
    got: list[Received] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    url: str = ""
    metrics: list[ExportMetricsServiceRequest] = field(default_factory=list)
    metrics_status: int = 200

    def target(self, **fields: Any) -> OtlpTarget:
        """Return the target that is this receiver."""
        port = int(self.url.rpartition(":")[2])
        path = f"/v1/{fields.get('signal', 'traces')}"
        return OtlpTarget("http", "127.0.0.1", port, path, **fields)


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    """Listen while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            headers = {key.lower(): value for key, value in self.headers.items()}
            if self.path.endswith("/v1/metrics"):
                receiver.metrics.append(ExportMetricsServiceRequest.FromString(body))
            else:
                message = ExportTraceServiceRequest.FromString(body)
                receiver.got.append(Received(self.path, headers, message))
            if receiver.instead:
                receiver.instead(self, receiver.stop)
                self.close_connection = True
                return
            metrics = self.path.endswith("/v1/metrics")
            answer = (
                Answer(receiver.metrics_status) if metrics else receiver.answer(len(receiver.got))
            )
            self.send_response(answer.status)
            usual = {"content-type": "application/x-protobuf", "content-length": len(answer.body)}
            for key, value in (usual | answer.headers).items():
                self.send_header(key, str(value))
            self.end_headers()
            self.wfile.write(answer.body)

        def finish(self) -> None:
            super().finish()
            with contextlib.suppress(OSError):  # the client was first
                self.connection.shutdown(socket.SHUT_RDWR)
            receiver.hung_up.release()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing of a client that hangs up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.stop.set()
            server.shutdown()
            thread.join()
