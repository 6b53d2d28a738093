"""One request to a collector and what its answer means, against receivers on this machine."""

from __future__ import annotations

import contextlib
import socket
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from harness.telemetry.attributes import Attributes
from harness.telemetry.collector_reply import CollectorReply, connect
from harness.telemetry.otlp_http import HttpConnection, check_collector
from harness.telemetry.otlp_protobuf import batches
from harness.telemetry.otlp_target import OtlpTarget, open_target
from harness.telemetry.span import Span
from tests.telemetry.otlp import Answer as Said
from tests.telemetry.otlp import Receiver, receiving, spans_in

RESOURCE: Attributes = {"service.name": "harness", "harness.simulated": True}


def many(count: int) -> list[Span]:
    """Return spans that differ in their ids alone."""
    return [
        Span(
            name="attempt", trace_id="a1" * 16, span_id=f"{number + 1:016x}", parent_id=None,
            start=1, end=2, attributes={},
        )
        for number in range(count)
    ]  # fmt: skip


def asked(target: OtlpTarget, seconds: float = 10.0) -> CollectorReply:
    """Send one span and return the answer."""
    (batch,) = batches(many(1), RESOURCE)
    exchange = connect(target)
    try:
        return exchange.post(batch.body, seconds)
    finally:
        exchange.close()


def partial(**fields: object) -> bytes:
    """Return the body of a partial success."""
    part = ExportTracePartialSuccess(**fields)  # type: ignore[arg-type]
    return ExportTraceServiceResponse(partial_success=part).SerializeToString()


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_headers_are_sent() -> None:
    environment = {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20s3cret,x-team=a"}
    with receiving(Receiver()) as receiver:
        target = open_target(receiver.url, environment)
        assert target is not None
        assert asked(target) == CollectorReply("taken")
    (received,) = receiver.got
    assert received.headers["authorization"] == "Bearer s3cret"
    assert received.headers["x-team"] == "a"
    assert received.headers["content-type"] == "application/x-protobuf"
    assert received.path == "/v1/traces"


def test_a_body_is_compressed_where_that_is_asked_for() -> None:
    with receiving(Receiver()) as receiver:
        assert asked(receiver.target(gzip=True)) == CollectorReply("taken")
        assert asked(receiver.target()) == CollectorReply("taken")
    zipped, plain = receiver.got
    assert zipped.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert spans_in(zipped.message) == spans_in(plain.message)


def test_spans_that_a_collector_rejects_are_told_apart() -> None:
    """A partial success is a 200; what it says of the reason may be secret."""
    body = partial(rejected_spans=5, error_message="s3cret")
    with receiving(Receiver(lambda _: Said(body=body))) as receiver:
        answer = asked(receiver.target())
    problem = f"{receiver.url}/v1/traces: accepted only a part"
    assert answer == CollectorReply("taken", rejected=5, problem=problem)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (429, "later"), (502, "later"), (503, "later"), (504, "later"), (400, "refused"),
        (413, "refused"), (500, "refused"), (301, "hopeless"), (401, "hopeless"),
        (404, "unsupported"), (403, "hopeless"), (599, "hopeless"),
    ],
)  # fmt: skip
def test_what_each_status_means_for_this_request_and_for_the_next(
    status: int, verdict: str
) -> None:
    """Which may be sent again is the protocol's own list."""
    with receiving(Receiver(lambda _: Said(status))) as receiver:
        answer = asked(receiver.target())
    assert answer.verdict == verdict
    assert f"answered {status}" in str(answer.problem)


@pytest.mark.parametrize(
    ("said", "low", "high"),
    [("7", 7, 7), ("soon", None, None), ("", None, None), (formatdate(1e9, usegmt=True), 0, 0),
     (formatdate(4e9, usegmt=True), 1e8, 4e9)],
)  # fmt: skip
def test_how_long_a_collector_asks_to_wait(
    said: str, low: float | None, high: float | None
) -> None:
    with receiving(Receiver(lambda _: Said(429, headers={"retry-after": said}))) as receiver:
        answer = asked(receiver.target())
    if low is None or high is None:
        assert answer.retry_after is None
    else:
        assert answer.retry_after is not None
        assert low <= answer.retry_after <= high


def test_a_page_of_html_is_no_collector() -> None:
    with receiving(Receiver(lambda _: Said(body=b"<!doctype html><html></html>"))) as receiver:
        answer = asked(receiver.target())
    assert answer.verdict == "hopeless"
    assert "not OTLP" in str(answer.problem)


@pytest.mark.parametrize(
    ("status", "verdict", "problem"),
    [(200, "later", "too long"), (403, "hopeless", "answered 403")],
)
def test_a_very_long_answer_is_not_read(status: int, verdict: str, problem: str) -> None:
    body = partial(error_message="x" * 1_000_000)
    with receiving(Receiver(lambda _: Said(status, body))) as receiver:
        answer = asked(receiver.target())
    assert answer.verdict == verdict
    assert problem in str(answer.problem)


@pytest.mark.parametrize(("size", "verdict"), [(9, "taken"), (1_000_000, "later")])
def test_an_answer_without_a_length_ends_with_the_connection(size: int, verdict: str) -> None:
    body = partial(error_message="x" * size)

    def until_closed(handler: BaseHTTPRequestHandler, _: threading.Event) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)

    with receiving(Receiver(instead=until_closed)) as receiver:
        answer = asked(receiver.target())
    assert answer.verdict == verdict


def test_a_request_that_was_cut_is_sent_again_over_a_new_connection() -> None:
    def slow(handler: BaseHTTPRequestHandler, stop: threading.Event) -> None:
        if len(receiver.got) == 1:
            stop.wait()
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    (batch,) = batches(many(1), RESOURCE)
    with receiving(Receiver(instead=slow)) as receiver:
        exchange = connect(receiver.target())
        assert exchange.post(batch.body, 0.05).verdict == "later"
        assert exchange.post(batch.body, 10) == CollectorReply("taken")
        exchange.close()
    assert len(receiver.got) == 2


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    with receiving(Receiver()) as receiver:
        assert asked(receiver.target()) == CollectorReply("taken")


def silent(_: BaseHTTPRequestHandler, stop: threading.Event) -> None:
    stop.wait()


def test_a_collector_that_never_answers_is_given_up() -> None:
    with receiving(Receiver(instead=silent)) as receiver:
        answer = asked(receiver.target(timeout=0.2))
    assert answer.verdict == "later"
    assert "no answer within 0.2 s" in str(answer.problem)


def test_a_collector_that_drips_its_answer_is_given_up() -> None:
    """Each byte would start a socket's own timeout anew."""

    def drip(handler: BaseHTTPRequestHandler, stop: threading.Event) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not stop.wait(0.02):
            try:
                handler.wfile.write(b"x-a: b\r\n")
            except OSError:
                return

    with receiving(Receiver(instead=drip)) as receiver:
        answer = asked(receiver.target(timeout=0.3))
    assert answer.verdict == "later"
    assert "no answer within 0.3 s" in str(answer.problem)


def test_an_answer_that_is_cut_is_no_acknowledgement() -> None:
    """What is missing may be that spans were rejected."""

    def cut(handler: BaseHTTPRequestHandler, _: threading.Event) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")

    with receiving(Receiver(instead=cut)) as receiver:
        answer = asked(receiver.target())
    assert answer.verdict == "later"
    assert "incomplete" in str(answer.problem)


def test_a_port_that_does_not_speak_http_says_where_otlp_usually_is() -> None:
    def greet(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"\x00\x00\x12\x04\x00 this is something else\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet, args=(server,))
        thread.start()
        answer = asked(OtlpTarget("http", "127.0.0.1", server.getsockname()[1], "/v1/traces"))
        thread.join()
    assert "4318" in str(answer.problem)


def test_http_to_the_port_of_grpc_says_what_to_write_instead() -> None:
    target = open_target("http://127.0.0.1:4317", {})
    assert target is not None
    problem = str(HttpConnection(target)._hint())
    assert "grpc://host:4317" in problem
    assert "port 4318" in problem


def test_a_collector_that_hung_up_meanwhile_is_called_again() -> None:
    """It may close a connection that nothing came over for a while, as between two trials."""

    def once(handler: BaseHTTPRequestHandler, _: threading.Event) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    (batch,) = batches(many(1), RESOURCE)
    with receiving(Receiver(instead=once)) as receiver:
        exchange = connect(receiver.target())
        for _ in range(3):
            assert exchange.post(batch.body, 5) == CollectorReply("taken")
            receiver.hung_up.acquire()
        exchange.close()
    assert len(receiver.got) == 3


def test_an_endpoint_that_is_not_there_gives_one_line_and_no_exception() -> None:
    target = OtlpTarget("http", "127.0.0.1", closed_port(), "/v1/traces")
    problem = check_collector(target)
    assert problem == f"http://127.0.0.1:{target.port}/v1/traces: connection refused"
    assert asked(target) == CollectorReply("later", problem=problem)


def test_an_endpoint_that_is_there_passes_the_check() -> None:
    with receiving(Receiver()) as receiver:
        assert check_collector(receiver.target()) is None
    assert receiver.got == []


def test_a_name_that_nobody_has_gives_one_line() -> None:
    problem = check_collector(OtlpTarget("http", "collector.invalid", 4318, "/"))
    assert problem is not None
    assert problem.startswith("http://collector.invalid:4318/: ")
    assert "\n" not in problem


@pytest.mark.parametrize("status", [401, 503])
def test_no_answer_and_no_target_shows_a_header(status: int) -> None:
    environment = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=s3cret"}
    with receiving(Receiver(lambda _: Said(status))) as receiver:
        target = open_target(receiver.url + "/?key=s3cret", environment)
        assert target is not None
        answer = asked(target)
        assert receiver.got[0].headers["authorization"] == "s3cret"
        assert receiver.got[0].path == "/v1/traces?key=s3cret"
    assert "s3cret" not in f"{answer} {target} {target!r}"
