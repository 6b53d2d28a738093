"""Whatever a collector answers, nothing is raised, the account is exact and the time is bounded.

The clock counts: it moves by 20 ms for each operation on a socket, so two seconds
are a hundred operations, however slow this machine is.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.network import limited_http
from harness.telemetry.collector_reply import DeliveryClock
from harness.telemetry.otlp_protobuf import batches
from harness.telemetry.otlp_target import OtlpTarget
from harness.telemetry.outbox import Delivery, Outbox
from tests.telemetry.otlp import Receiver, receiving
from tests.telemetry.test_otlp_http import RESOURCE, many, partial

SECONDS = 2.0
STEP = 0.02
Behaviour = Callable[[BaseHTTPRequestHandler, threading.Event], None]


class CountingClock:
    """Time that moves with each operation. `real`: seconds that an operation really may take."""

    def __init__(self, real: float = 60.0) -> None:
        self.time = 0.0
        self._real = real

    def as_clock(self) -> DeliveryClock:
        return DeliveryClock(lambda: self.time, self._sleep, self._limit)

    def _sleep(self, seconds: float) -> None:
        self.time += seconds

    def _limit(self, used: socket.socket, left: float) -> None:
        assert 0 < left <= SECONDS
        self.time += STEP
        used.settimeout(self._real)


def deliver(target: OtlpTarget, clock: CountingClock) -> Delivery:
    """Send three spans in two requests within two seconds."""
    outbox = Outbox(target, lambda *_: None, clock.as_clock())
    outbox.put(batches(many(3), RESOURCE, most_spans=2), 3)
    delivery = outbox.send(SECONDS)
    outbox.close()
    assert delivery.delivered + delivery.refused + delivery.undelivered == 3
    assert clock.time <= SECONDS + STEP
    assert "\n" not in str(delivery.problem)
    return delivery


def says(*parts: bytes) -> Behaviour:
    """Answer these bytes, and close."""

    def answer(handler: BaseHTTPRequestHandler, _: threading.Event) -> None:
        with contextlib.suppress(OSError):
            for part in parts:
                handler.wfile.write(part)

    return answer


def status(line: str, *headers: str, body: bytes = b"", kind: str = "") -> Behaviour:
    """Answer well-formed HTTP."""
    lines = [f"HTTP/1.1 {line}", *headers, f"content-length: {len(body)}"]
    lines += [f"content-type: {kind}"] if kind else []
    return says("\r\n".join([*lines, "", ""]).encode() + body)


def endless(head: bytes, part: bytes) -> Behaviour:
    """Answer `part` again and again."""

    def answer(handler: BaseHTTPRequestHandler, stop: threading.Event) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(head)
            while not stop.is_set():
                handler.wfile.write(part)

    return answer


def silent(_: BaseHTTPRequestHandler, stop: threading.Event) -> None:
    stop.wait()


def half(handler: BaseHTTPRequestHandler, stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    stop.wait()


def dies(number: list[int]) -> Behaviour:
    """Take the first request, and hang up from then on."""

    def answer(handler: BaseHTTPRequestHandler, stop: threading.Event) -> None:
        number.append(1)
        if len(number) == 1:
            status("200 OK")(handler, stop)

    return answer


class Mood(NamedTuple):
    """How a collector behaves, and the account afterwards: delivered, refused, undelivered."""

    name: str
    behaviour: Behaviour
    account: tuple[int, int, int]
    problem: str = ""
    real: float = 60.0


OTLP = "application/x-protobuf"
HUGE_YEAR = "Mon, 01 Jan 99999999999 00:00:00 GMT"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
ALL, NONE = (3, 0, 0), (0, 0, 3)
STOPPED = (0, 2, 1)
MOODS = [
    Mood("accepts", status("200 OK"), ALL),
    Mood("accepts with 202", status("202 Accepted", body=partial(), kind=OTLP), ALL),
    Mood("a part", status("200 OK", body=partial(rejected_spans=1), kind=OTLP), (1, 2, 0), "part"),
    Mood("rejects too many", status("200 OK", body=partial(rejected_spans=9)), (0, 3, 0), "part"),
    Mood("rejects -5", status("200 OK", body=partial(rejected_spans=-5)), ALL),
    Mood("rejects 2**63-1", status("200 OK", body=partial(rejected_spans=2**63 - 1)), (0, 3, 0)),
    Mood("only warns", status("200 OK", body=partial(error_message="s3cret")), ALL),
    Mood("bad request", status("400 Bad Request"), (0, 3, 0), "answered 400"),
    Mood("too large", status("413 Too Large"), (0, 3, 0), "answered 413"),
    Mood("unauthorized", status("401 Unauthorized"), STOPPED, "answered 401"),
    Mood("not found", status("404 Not Found"), STOPPED, "answered 404"),
    Mood("redirects", status("302 Found", "location: http://127.0.0.1:9/"), STOPPED, "302"),
    Mood("unknown status", status("799 What"), STOPPED, "answered 799"),
    Mood("busy", status("429 Slow down"), NONE, "answered 429"),
    Mood("year 99999999999", status("429 No", f"retry-after: {HUGE_YEAR}"), NONE, "429"),
    Mood("seconds of 400 digits", status("503 No", f"retry-after: {'9' * 400}"), NONE, "503"),
    Mood("5000 digits", status("503 No", f"retry-after: {'9' * 5000}"), NONE, "503"),
    Mood("negative wait", status("503 No", "retry-after: -7"), NONE, "503"),
    Mood("wait of words", status("504 No", "retry-after: soon, \u00e9"), NONE, "504"),
    Mood("a page", status("200 OK", body=b"<html></html>", kind="text/html"), STOPPED, "not OTLP"),
    Mood("JSON", status("200 OK", body=b"{}", kind="application/json"), STOPPED, "not OTLP"),
    Mood("nonsense", status("200 OK", body=b"\xff\xff", kind=OTLP), STOPPED, "not OTLP"),
    Mood("gzip unasked", status("200 OK", body=b"\x1f\x8b\x08\x00abc"), STOPPED, "not OTLP"),
    Mood("a huge answer", status("200 OK", body=b"\n" * 1_000_000), NONE, "too long"),
    Mood("no end", endless(b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 9999), NONE, "too long"),
    Mood("no last chunk", endless(CHUNKED, b"4\r\nabcd\r\n"), NONE),
    Mood("broken chunks", says(CHUNKED, b"zz\r\nabcd\r\n"), NONE),
    Mood("negative chunk", says(CHUNKED, b"-4\r\nabcd\r\n"), NONE),
    Mood("cut", says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), NONE, "incomplete"),
    Mood("length -1", says(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"), ALL),
    Mood("length of words", says(b"HTTP/1.1 200 OK\r\ncontent-length: long\r\n\r\n"), ALL),
    Mood("drips headers", endless(b"HTTP/1.1 200 OK\r\n", b"x"), NONE),
    Mood("100,000 headers", endless(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 500), NONE),
    Mood("only continues", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), NONE),
    Mood("hangs up", says(), NONE, "hangs up"),
    Mood("not HTTP", says(b"\x00\x00\x12\x04\x00 something else\r\n\r\n"), NONE, "4318"),
    Mood("a status of letters", says(b"HTTP/1.1 OK 200\r\n\r\n"), NONE),
    Mood("HTTP/9.9", says(b"HTTP/9.9 200 OK\r\n\r\n"), NONE),
    Mood("dies after the first", dies([]), (2, 0, 1), "hangs up"),
    Mood("silent", silent, NONE, "no answer within", 0.03),
    Mood("stops within the headers", half, NONE, "no answer within", 0.03),
]


@pytest.mark.parametrize("mood", MOODS, ids=[mood.name for mood in MOODS])
def test_a_mood_of_a_collector_costs_two_seconds_at_most_and_is_accounted_for(mood: Mood) -> None:
    with receiving(Receiver(instead=mood.behaviour)) as receiver:
        delivery = deliver(receiver.target(), CountingClock(mood.real))
    assert delivery[:3] == mood.account
    is_out_of_time = mood.account == NONE and "no answer within" in str(delivery.problem)
    assert mood.problem in str(delivery.problem) or is_out_of_time
    assert (delivery.problem is None) == (mood.account == ALL)
    assert "s3cret" not in str(delivery)


def test_dripping_is_cut_by_the_number_of_reads() -> None:
    """One byte a read: without a limit of the whole, these would be as many as the header has."""
    reads = [0]

    def drip(handler: BaseHTTPRequestHandler, stop: threading.Event) -> None:
        endless(b"HTTP/1.1 200 OK\r\nx: ", b"x")(handler, stop)

    class Counting(CountingClock):
        def _limit(self, used: socket.socket, left: float) -> None:
            super()._limit(used, left)
            reads[0] += 1

    with receiving(Receiver(instead=drip)) as receiver:
        assert deliver(receiver.target(), Counting())[:3] == NONE
    assert reads[0] <= SECONDS / STEP + 1


@contextmanager
def answered(answer: bytes) -> Iterator[None]:
    """Let each connection be one that has this answer waiting, and its end."""

    def opened(*_: object) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        others.append(theirs)
        return ours

    others: list[socket.socket] = []
    with patch.object(limited_http, "open_socket", opened):
        yield
    for other in others:
        other.close()


HEADER = st.sampled_from(
    ["retry-after", "content-type", "content-length", "transfer-encoding", "connection", "date"]
)
VALUE = st.sampled_from(
    ["", "0", "-1", "9" * 30, "1e9", HUGE_YEAR, "Mon, 32 Foo 2026 99:99:99 GMT", "chunked", "close",
     "text/html", OTLP, "Thu, 01 Jan 1970 00:00:00 +9999", "; ;=",
     "Fri, 31 Dec 9999 23:59:59 -2359"]
) | st.text(st.characters(codec="latin-1", exclude_characters="\r\n"))  # fmt: skip
HEADERS = st.lists(st.tuples(HEADER, VALUE), max_size=4)
STATUS = st.sampled_from([200, 202, 204, 301, 400, 404, 429, 500, 503]) | st.integers(100, 999)
BODY = st.binary(max_size=50) | st.integers(-(2**63), 2**63 - 1).map(
    lambda count: partial(rejected_spans=count)
)


@given(STATUS, HEADERS, BODY)
def test_any_answer_is_accounted_for(
    code: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    lines = [f"HTTP/1.1 {code} Why", *(f"{name}: {value}" for name, value in headers), "", ""]
    with answered("\r\n".join(lines).encode("latin-1") + body):
        deliver(OtlpTarget("http", "h", 4318, "/v1/traces"), CountingClock())


@given(st.binary(max_size=300))
def test_any_bytes_are_accounted_for(answer: bytes) -> None:
    with answered(answer):
        delivery = deliver(OtlpTarget("http", "h", 4318, "/v1/traces"), CountingClock())
    assert delivery[:3] == NONE
