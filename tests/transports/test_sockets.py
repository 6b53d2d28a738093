"""The connections of blocking clients, where the timing of a real server would be random."""

from __future__ import annotations

import socket

import httpx2
import pytest

from harness.records.clock import monotonic_since
from harness.transports.exchange import tls_context
from harness.transports.sockets import SocketTransport
from harness.transports.sync_transport import SyncClient
from tests.transports.attempts import ANCHOR, make_send, make_target

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
