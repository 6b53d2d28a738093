"""Failures of the way to a server have classes of their own, in both clients."""

from __future__ import annotations

import socket
import ssl

import pytest

from harness.config.network import cached_tls_context
from harness.records.clock import SECOND
from tests.transports.attempts import make_deadlines, make_send, make_target
from tests.wire.clients import BOTH, CERTIFICATE, Sending
from tests.wire.fault_server import END, Cut, FaultServer, Seen, Step, Write, head

ALERT = Write(b"\x15\x03\x01\x00\x02\x02\x46")
"""What a server that speaks TLS alone may answer to plain HTTP."""


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context


@BOTH
def test_a_certificate_is_not_trusted(sending: Sending, tls: ssl.SSLContext) -> None:
    with FaultServer(lambda _: [], tls) as server:
        [unknown] = sending(make_target(server.base_url), make_send())
        assert server.seen == []
    assert unknown.outcome == "certificate_error"


@BOTH
def test_http_to_a_port_of_https(sending: Sending) -> None:
    with FaultServer(lambda _: [ALERT, Cut()]) as server:
        [reply] = sending(make_target(server.base_url), make_send())
    assert reply.outcome == "wrong_protocol"


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@BOTH
def test_a_proxy_refuses_or_cannot_be_reached(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    cached_tls_context.cache_clear()

    def refuse(_: Seen) -> list[Step]:
        return [Write(head(407)), Write(END)]

    with FaultServer(refuse) as proxy:
        where = proxy.base_url.removesuffix("/v1")
        for name in (where, f"http://127.0.0.1:{closed_port()}"):
            monkeypatch.setenv("https_proxy", name)
            target = make_target("https://api.invalid/v1", simulated=False)
            [reply] = sending(target, make_send(make_deadlines(connect=5 * SECOND)))
            assert reply.outcome == "proxy_error", name
