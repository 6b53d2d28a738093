"""The connections of blocking clients, where the timing of a real server would be random."""

from __future__ import annotations

import socket
import ssl
import threading

import httpx2
import pytest

from harness.config.network import tls_context
from harness.records.clock import monotonic_since
from harness.transports.exchange import Exchange, current
from harness.transports.sockets import SocketTransport
from harness.transports.sync_transport import SyncClient
from tests.transports.attempts import ANCHOR, make_deadlines, make_send, make_target

now = monotonic_since(ANCHOR)


def test_a_refusal_that_does_not_wait_for_the_request_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection, on which the request is missing, is not used again."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"HTTP/1.1 413 Too long\r\ncontent-length: 0\r\n\r\n")
    monkeypatch.setattr(SocketTransport, "_connected", lambda _: ours)
    with SyncClient(make_target(), now) as client:
        assert client.send(make_send()).status == 413
        assert ours.fileno() == -1


def test_no_header_with_a_line_break_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SocketTransport, "_connected", lambda _: pytest.fail("connected"))
    transport = SocketTransport(
        "http://test", tls=tls_context(False), trust_env=False, using=lambda _: None
    )
    request = httpx2.Request("POST", "http://test", headers=[(b"x", b"1\r\ny: 2")])
    with pytest.raises(httpx2.LocalProtocolError):
        transport.handle_request(request)


def respond(server: socket.socket) -> None:
    """Respond to requests, without a body, until the connection is closed."""
    with server:
        while server.recv(1000):
            server.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def test_a_connection_that_another_request_can_use_is_not_watched_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the end of the first attempt could shut down the connection of the second one."""
    pairs = [socket.socketpair(), socket.socketpair()]
    servers = [threading.Thread(target=respond, args=(theirs,)) for _, theirs in pairs]
    left = [ours for ours, _ in pairs]
    monkeypatch.setattr(SocketTransport, "_connected", lambda _: left.pop())
    transport = SocketTransport(
        "http://test", tls=tls_context(False), trust_env=False, using=lambda _: None
    )
    for server in servers:
        server.start()

    def send() -> None:
        response = transport.handle_request(httpx2.Request("POST", "http://test"))
        assert response.read() == b""
        response.close()

    def while_watched() -> None:
        exchange.release = lambda: released.append(len(left))
        send()

    released: list[int] = []
    exchange = Exchange(True, make_deadlines(), now, ANCHOR)
    exchange.release = while_watched
    current.set(exchange)
    send()
    transport.close()
    for ours, _ in pairs:
        ours.close()
    for server in servers:
        server.join()
    assert released == [0]  # the second request has made a connection of its own


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_interrupted_connection_is_closed(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    made: list[socket.socket] = []
    tls_context(False)
    place = socket.socket if scheme == "http" else ssl.SSLSocket
    monkeypatch.setattr(place, "connect" if scheme == "http" else "do_handshake", interrupted)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        SocketTransport(
            f"{scheme}://127.0.0.1:{server.getsockname()[1]}",
            tls=tls_context(False),
            trust_env=False,
            using=made.append,
        ) as transport,
    ):
        current.set(Exchange(True, make_deadlines(), now, ANCHOR))
        with pytest.raises(KeyboardInterrupt):
            transport.handle_request(httpx2.Request("POST", "http://test"))
    assert {sock.fileno() for sock in made} == {-1}
