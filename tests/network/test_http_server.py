"""The edge between sockets and the face, with a transport that only remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from harness.network.http_server import (
    MOST_BODY,
    MOST_HEAD,
    Connection,
    HttpRequest,
    HttpResponse,
)


class Transport(asyncio.Transport):
    """Keeps what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = "closed"

    def abort(self) -> None:
        self.closed = "aborted"


class Server:
    """Takes requests and answers none by itself."""

    def __init__(self) -> None:
        self.asked: list[tuple[HttpRequest, HttpResponse]] = []
        self.open: set[Connection] = set()
        self.transport = Transport()
        self.connection = Connection(lambda *asked: self.asked.append(asked), self.open)
        self.connection.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    def written(self) -> bytes:
        data, self.transport.written = self.transport.written, b""
        return data


GET = b"GET /x?y=1 HTTP/1.1\r\nHost: h\r\nX-Some: Value\r\n\r\n"


def test_a_request_is_whole_before_it_is_handed_on_however_it_is_cut() -> None:
    server = Server()
    for byte in b"POST /p HTTP/1.1\r\nX-Some: Value\r\nContent-Length: 3\r\n\r\nab":
        server.send(bytes([byte]))
    assert not server.asked
    server.send(b"c")
    (request, _) = server.asked[0]
    assert (request.method, request.path, request.body) == ("POST", "/p", b"abc")
    assert request.headers[b"x-some"] == b"Value"


def test_the_query_is_no_part_of_the_path() -> None:
    server = Server()
    server.send(GET)
    assert server.asked[0][0][::4] == ("GET", "y=1")
    assert server.asked[0][0].path == "/x"


def test_a_whole_reply_has_a_length_and_the_connection_stays() -> None:
    server = Server()
    server.send(GET)
    server.asked[0][1].send(200, {"a": "b"}, b"body")
    assert server.written() == b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 4\r\n\r\nbody"
    assert not server.transport.closed


def test_a_reply_of_unknown_length_is_chunked() -> None:
    server = Server()
    server.send(GET)
    reply = server.asked[0][1]
    reply.begin(200, {}, b"first")
    assert server.written() == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    )
    reply.write(b"x" * 17)
    assert server.written() == b"11\r\n" + b"x" * 17 + b"\r\n"
    reply.end(b"end")
    assert server.written() == b"3\r\nend\r\n0\r\n\r\n"
    assert not server.transport.closed


def test_a_reply_that_is_cut_has_no_end_but_all_that_was_written() -> None:
    server = Server()
    server.send(GET)
    reply = server.asked[0][1]
    reply.begin(529, {}, b"a")
    reply.cut()
    assert server.written() == b"HTTP/1.1 529 \r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
    assert server.transport.closed == "closed"


def test_pipelined_requests_are_answered_one_after_another() -> None:
    server = Server()
    server.send(GET + GET.replace(b"/x", b"/second"))
    assert [request.path for request, _ in server.asked] == ["/x"]
    server.asked[0][1].send(200, {}, b"")
    assert [request.path for request, _ in server.asked] == ["/x", "/second"]


def test_the_connection_closes_after_the_reply_when_the_client_asks_for_that() -> None:
    server = Server()
    server.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    server.asked[0][1].send(200, {}, b"")
    assert b"connection: close\r\n" in server.written()
    assert server.transport.closed == "closed"


def test_http_1_0_gets_an_unframed_body_that_ends_with_the_connection() -> None:
    server = Server()
    server.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    reply = server.asked[0][1]
    reply.begin(200, {}, b"a")
    reply.write(b"b")
    reply.end(b"c")
    assert server.written() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"
    assert server.transport.closed == "closed"


def test_a_client_that_waits_for_leave_gets_it() -> None:
    server = Server()
    server.send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    assert server.written() == b"HTTP/1.1 100 Continue\r\n\r\n"
    server.send(b"x")
    assert server.asked[0][0].body == b"x"


def test_what_is_not_http_is_answered_with_400_and_closed() -> None:
    server = Server()
    server.send(b"\x16\x03\x01 hello\r\n\r\n")
    assert server.written().startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert server.transport.closed == "closed"


def test_a_body_without_end_is_answered_with_413() -> None:
    server = Server()
    server.send(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY + 1))
    server.send(b"x" * MOST_BODY)
    assert not server.written()
    server.send(b"x")
    assert server.written().startswith(b"HTTP/1.1 413 ")
    assert not server.asked


def test_a_client_that_goes_during_its_reply_is_noticed_once_and_later_writes_do_nothing() -> None:
    server = Server()
    server.send(GET)
    reply = server.asked[0][1]
    gone: list[bool] = []
    reply.on_close = lambda: gone.append(True)
    reply.begin(200, {})
    server.connection.connection_lost(None)
    assert gone == [True]
    assert not server.open
    before = server.transport.written
    reply.write(b"x")
    reply.end()
    assert server.transport.written == before


def test_a_client_that_goes_after_its_reply_is_no_loss() -> None:
    server = Server()
    server.send(GET)
    reply = server.asked[0][1]
    gone: list[bool] = []
    reply.on_close = lambda: gone.append(True)
    reply.send(200, {}, b"")
    server.connection.connection_lost(None)
    assert not gone


def test_an_aborted_reply_drops_the_connection_without_calling_back() -> None:
    server = Server()
    server.send(GET)
    reply = server.asked[0][1]
    gone: list[bool] = []
    reply.on_close = lambda: gone.append(True)
    reply.abort()
    server.connection.connection_lost(None)
    assert server.transport.closed == "aborted"
    assert not gone


def test_an_error_of_the_handler_is_not_taken_for_bad_http() -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    connection, transport = Connection(fail, set()), Transport()
    connection.connection_made(transport)
    with pytest.raises(ZeroDivisionError):
        connection.data_received(GET)
    assert not transport.written


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX-Long: ", b"G"])
def test_a_head_that_does_not_end_is_refused(start: bytes) -> None:
    server = Server()
    server.send(start)
    for _ in range(MOST_HEAD // 4096 + 1):
        if not server.transport.closed:
            server.send(b"E" * 4096 if start == b"G" else b"x" * 4096)
    assert server.transport.closed == "closed"
    assert server.written().startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert not server.asked


class Timers:
    """The timers of an event loop that a test makes pass."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.set: list[asyncio.TimerHandle] = []

    def call_later(self, seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        self.set.append(asyncio.TimerHandle(seconds, act, (), self.loop))
        return self.set[-1]

    def pass_time(self) -> None:
        for timer in self.set:
            if not timer.cancelled():
                timer._run()
        self.loop.close()


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /", GET + b"GET /", GET[:-2], b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1"],
)
def test_a_request_that_is_not_complete_in_time_is_refused(sent: bytes) -> None:
    timers, server = Timers(), Server()
    connection = Connection(lambda *asked: server.asked.append(asked), set(), timers.call_later)
    connection.connection_made(server.transport)
    connection.data_received(sent)
    for _, reply in server.asked:
        reply.send(200, {}, b"")
    server.written()
    timers.pass_time()
    assert server.written().startswith(b"HTTP/1.1 408 ")
    assert server.transport.closed == "closed"


def test_a_complete_request_may_be_answered_at_any_time() -> None:
    timers, server = Timers(), Server()
    connection = Connection(lambda *asked: server.asked.append(asked), set(), timers.call_later)
    connection.connection_made(server.transport)
    for byte in GET:
        connection.data_received(bytes([byte]))
    timers.pass_time()
    assert not server.transport.closed
    assert len(server.asked) == 1
