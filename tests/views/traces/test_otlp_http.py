"""Sending spans to a collector, against receivers on this machine."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from harness.errors import InputError
from harness.views.traces.attributes import Attributes
from harness.views.traces.otlp_file import append_spans
from harness.views.traces.otlp_http import (
    BATCH,
    Delivery,
    OtlpTarget,
    check,
    open_target,
    send,
    switched_off,
)
from harness.views.traces.spans import Span, TraceMaker
from tests.views.traces.example import example
from tests.views.traces.otlp import (
    Answer,
    Receiver,
    parse_line,
    receiving,
    resource_in,
    spans_in,
)

RESOURCE: Attributes = {"service.name": "harness", "harness.simulated": True}
BASE = "http://127.0.0.1:4318"


def workflow_spans() -> list[Span]:
    records = example()
    maker = TraceMaker(records.run)
    spans = maker.of_workflows(records.workflows, records.calls, records.attempts)
    return [*spans, *maker.of_run(records.trials)]


def many(count: int) -> list[Span]:
    return [
        Span(
            name="attempt", trace_id="a1" * 16, span_id=f"{number + 1:016x}", parent_id=None,
            start=1, end=2, attributes={},
        )
        for number in range(count)
    ]  # fmt: skip


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def opened(url: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the address that is chosen."""
    target = open_target(url, environment)
    return None if target is None else str(target)


# What arrives


def test_the_collector_gets_what_the_file_has(tmp_path: Path) -> None:
    """Both outputs are projections of the same spans, so they cannot disagree."""
    path = tmp_path / "x"
    append_spans(path, workflow_spans(), RESOURCE)
    with receiving(Receiver()) as receiver:
        delivery = send(receiver.target(), workflow_spans(), RESOURCE)
    assert delivery == Delivery(len(workflow_spans()), 0, None)
    (received,) = receiver.got
    in_file = parse_line(path.read_bytes())
    assert spans_in(received.message) == spans_in(in_file)
    assert resource_in(received.message) == resource_in(in_file) == RESOURCE
    scopes = [m.resource_spans[0].scope_spans[0] for m in (received.message, in_file)]
    assert scopes[0].scope == scopes[1].scope
    assert scopes[0].schema_url == scopes[1].schema_url != ""
    assert received.headers["content-type"] == "application/x-protobuf"


def test_many_spans_go_in_batches_over_one_connection() -> None:
    with receiving(Receiver()) as receiver:
        delivery = send(receiver.target(), many(2 * BATCH + 1), RESOURCE)
    assert delivery == Delivery(2 * BATCH + 1, 0, None)
    assert [len(spans_in(got.message)) for got in receiver.got] == [BATCH, BATCH, 1]


def test_nothing_is_sent_when_there_are_no_spans() -> None:
    with receiving(Receiver()) as receiver:
        assert send(receiver.target(), [], RESOURCE) == Delivery(0, 0, None)
    assert receiver.got == []


def test_headers_are_sent() -> None:
    environment = {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20s3cret,x-team=a"}
    with receiving(Receiver()) as receiver:
        target = open_target(receiver.url, environment)
        assert target is not None
        assert send(target, many(1), RESOURCE).delivered == 1
    assert receiver.got[0].headers["authorization"] == "Bearer s3cret"
    assert receiver.got[0].headers["x-team"] == "a"
    assert receiver.got[0].path == "/v1/traces"


# What goes wrong


def test_the_first_batch_that_fails_ends_the_sending_and_the_account_is_exact() -> None:
    def second_fails(number: int) -> Answer:
        return Answer(503 if number == 2 else 200)

    with receiving(Receiver(second_fails)) as receiver:
        delivery = send(receiver.target(), many(3 * BATCH), RESOURCE)
    assert delivery[:2] == (BATCH, 2 * BATCH)
    assert delivery.problem == f"{receiver.url}/v1/traces: answered 503 Service Unavailable"
    assert len(receiver.got) == 2


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 429, 500, 599])
def test_any_status_but_success_is_no_delivery(status: int) -> None:
    with receiving(Receiver(lambda _: Answer(status))) as receiver:
        delivery = send(receiver.target(), many(1), RESOURCE)
    assert delivery[:2] == (0, 1)
    assert f"answered {status}" in str(delivery.problem)


def test_spans_that_a_collector_rejects_are_not_counted_as_delivered() -> None:
    """A partial success is a 200; the rest of the batches still go."""
    rejected = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=5, error_message="s3cret")
    )

    def answer(number: int) -> Answer:
        return Answer(body=rejected.SerializeToString()) if number == 1 else Answer()

    with receiving(Receiver(answer)) as receiver:
        delivery = send(receiver.target(), many(BATCH + 1), RESOURCE)
    assert delivery[:2] == (BATCH - 4, 5)
    assert delivery.problem == f"{receiver.url}/v1/traces: took a part of the spans only"


def test_a_page_of_html_is_no_collector() -> None:
    with receiving(Receiver(lambda _: Answer(body=b"<!doctype html><html></html>"))) as receiver:
        delivery = send(receiver.target(), many(1), RESOURCE)
    assert delivery[:2] == (0, 1)
    assert "not OTLP" in str(delivery.problem)


@pytest.mark.parametrize(("status", "problem"), [(200, "far too long"), (404, "answered 404")])
def test_a_very_long_answer_is_not_read_and_ends_the_sending(status: int, problem: str) -> None:
    long_success = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(error_message="x" * 1_000_000)
    ).SerializeToString()
    with receiving(Receiver(lambda _: Answer(status, long_success))) as receiver:
        delivery = send(receiver.target(), many(BATCH + 1), RESOURCE)
    assert delivery[:2] == (0, BATCH + 1)
    assert problem in str(delivery.problem)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(("size", "problem"), [(9, "None"), (1_000_000, "far too long")])
def test_an_answer_without_a_length_ends_with_the_connection(size: int, problem: str) -> None:
    body = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(error_message="x" * size)
    ).SerializeToString()

    def until_closed(handler: BaseHTTPRequestHandler, _: threading.Event) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)

    with receiving(Receiver(instead=until_closed)) as receiver:
        delivery = send(receiver.target(), many(BATCH + 1), RESOURCE)
    assert delivery.delivered == (0 if size > 9 else BATCH + 1)
    assert problem in str(delivery.problem)


def test_a_collector_that_never_answers_is_given_up() -> None:
    def silent(_: BaseHTTPRequestHandler, stop: threading.Event) -> None:
        stop.wait()

    with receiving(Receiver(instead=silent)) as receiver:
        delivery = send(receiver.target(timeout=0.2), many(2 * BATCH), RESOURCE)
        assert delivery[:2] == (0, 2 * BATCH)
        assert "no answer within 0.2 s" in str(delivery.problem)
        assert len(receiver.got) == 1


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
        delivery = send(receiver.target(timeout=0.3), many(1), RESOURCE)
    assert delivery[:2] == (0, 1)
    assert "no answer within 0.3 s" in str(delivery.problem)


def test_an_answer_that_is_cut_is_no_acknowledgement() -> None:
    """What is missing may be that spans were rejected."""

    def cut(handler: BaseHTTPRequestHandler, _: threading.Event) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")

    with receiving(Receiver(instead=cut)) as receiver:
        delivery = send(receiver.target(), many(1), RESOURCE)
    assert delivery[:2] == (0, 1)
    assert "is cut" in str(delivery.problem)


def test_a_slow_collector_is_given_up_when_patience_ends() -> None:
    with receiving(Receiver()) as receiver:
        delivery = send(receiver.target(patience=0.0), many(1), RESOURCE)
    assert delivery[:2] == (0, 1)
    assert "too slow" in str(delivery.problem)
    assert receiver.got == []


def test_a_port_that_does_not_speak_http_says_where_otlp_usually_is() -> None:
    def greet(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"\x00\x00\x12\x04\x00 this is something else\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet, args=(server,))
        thread.start()
        target = OtlpTarget("http", "127.0.0.1", server.getsockname()[1], "/v1/traces")
        delivery = send(target, many(1), RESOURCE)
        thread.join()
    assert delivery[:2] == (0, 1)
    assert "4318" in str(delivery.problem)


def test_an_endpoint_that_is_not_there_gives_one_line_and_no_exception() -> None:
    target = OtlpTarget("http", "127.0.0.1", closed_port(), "/v1/traces")
    problem = check(target)
    assert problem == f"http://127.0.0.1:{target.port}/v1/traces: connection refused"
    assert send(target, many(3), RESOURCE) == Delivery(0, 3, problem)


def test_an_endpoint_that_is_there_passes_the_check() -> None:
    with receiving(Receiver()) as receiver:
        assert check(receiver.target()) is None
    assert receiver.got == []


def test_a_name_that_nobody_has_gives_one_line() -> None:
    problem = check(OtlpTarget("http", "collector.invalid", 4318, "/"))
    assert problem is not None
    assert problem.startswith("http://collector.invalid:4318/: ")
    assert "\n" not in problem


@pytest.mark.parametrize("status", [401, 500])
def test_no_account_and_no_target_shows_a_header(status: int) -> None:
    environment = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=s3cret"}
    with receiving(Receiver(lambda _: Answer(status))) as receiver:
        target = open_target(receiver.url + "/?key=s3cret", environment)
        assert target is not None
        delivery = send(target, many(1), RESOURCE)
        assert receiver.got[0].headers["authorization"] == "s3cret"
        assert receiver.got[0].path == "/v1/traces?key=s3cret"
    assert "s3cret" not in f"{delivery} {target} {target!r}"


# Where to send


@pytest.mark.parametrize(
    ("url", "chosen"),
    [
        (BASE, BASE + "/v1/traces"),
        (BASE + "/", BASE + "/v1/traces"),
        (BASE + "/v1/traces", BASE + "/v1/traces"),
        (BASE + "/otlp/", BASE + "/otlp/v1/traces"),
        ("https://collector.example", "https://collector.example:443/v1/traces"),
        ("http://collector.example", "http://collector.example:80/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_a_given_url_gets_the_path_of_traces_where_it_lacks_it(url: str, chosen: str) -> None:
    assert opened(url, {}) == chosen


def test_without_a_url_and_variables_nothing_is_sent() -> None:
    empty = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_SDK_DISABLED": "false",
    }
    assert opened(None, {}) is None
    assert opened(None, empty) is None


def test_the_base_variable_gets_the_path_and_the_traces_variable_is_taken_as_it_is() -> None:
    base = {"OTEL_EXPORTER_OTLP_ENDPOINT": BASE + "/base"}
    assert opened(None, base) == BASE + "/base/v1/traces"
    exact = base | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/custom"}
    assert opened(None, exact) == "http://127.0.0.1:9/custom"
    exact["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "http://127.0.0.1:9"
    assert opened(None, exact) == "http://127.0.0.1:9/"


def test_a_given_url_wins_over_the_variables() -> None:
    environment = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/custom"}
    assert opened(BASE, environment) == BASE + "/v1/traces"


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_a_variable_can_switch_sending_off_and_be_named(environment: dict[str, str]) -> None:
    off = environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": BASE}
    assert opened(None, off) is None
    assert opened(BASE, off) is None
    (name,) = environment
    assert str(switched_off(off)).startswith(f"{name}=")
    assert switched_off({"OTEL_EXPORTER_OTLP_ENDPOINT": BASE}) is None


def test_headers_for_traces_win_over_those_for_all() -> None:
    both = {
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=1",
        "OTEL_EXPORTER_OTLP_HEADERS": "a=2,b=3",
    }
    target = open_target(BASE, both)
    assert target is not None
    assert target.headers == {"a": "1"}


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:4318", "ftp://h", "http://", "http://h:99999", "http://h:x", "http://a..b",
     "http://user:s3cret@h:4318", "http://h/s3cret path", "http://[::1"],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(InputError) as no:
        open_target(url, {})
    assert str(no.value).startswith("--otlp: ")
    assert "s3cret" not in str(no.value)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    "text", ["s3cret", "a=1,b=x%0As3cret", "a=1,b=\u00e9s3cret", "a=1, =s3cret"]
)
def test_headers_that_cannot_be_sent_are_refused_without_their_text(text: str) -> None:
    with pytest.raises(InputError, match=r"OTEL_EXPORTER_OTLP_HEADERS: entry [12] ") as no:
        open_target(BASE, {"OTEL_EXPORTER_OTLP_HEADERS": text})
    assert "s3cret" not in str(no.value)


@given(st.text() | st.text().map(lambda text: f"http://{text}"))
def test_any_address_is_taken_or_refused_in_one_line(url: str) -> None:
    refusal = ""
    try:
        target = open_target(url, {})
    except InputError as error:
        target, refusal = None, str(error)
    assert (target is None) == refusal.startswith("--otlp: ")
    assert "\n" not in refusal
    assert target is None or target.path.partition("?")[0].endswith("/v1/traces")
