"""No byte of a request is sent when the seconds of the budget were over after connecting."""

from __future__ import annotations

import socket
import threading

import pytest
from msgspec.structs import replace

from harness.engine.deadlines import TOO_LATE
from harness.records.clock import SECOND
from harness.transports.exchange import Exchange
from tests.transports.attempts import make_deadlines, make_send, make_target
from tests.wire import clients
from tests.wire.clients import BOTH, Sending


@BOTH
@pytest.mark.parametrize("is_late", [True, False], ids=["late", "in time"])
def test_a_request_that_has_its_connection_too_late_is_not_sent(
    sending: Sending, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_by = clients.now() + 3600 * SECOND
    connecting = Exchange.note_connecting

    def and_time_passes(exchange: Exchange) -> None:
        connecting(exchange)
        before = exchange.now
        exchange.now = lambda: before() + 3600 * SECOND * is_late

    monkeypatch.setattr(Exchange, "note_connecting", and_time_passes)
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            connection, _ = server.accept()
            with connection:
                received.append(connection.recv(65536))

        thread = threading.Thread(target=accept)
        thread.start()
        target = make_target(f"http://127.0.0.1:{server.getsockname()[1]}/v1")
        deadlines = replace(make_deadlines(), send_by=send_by)
        (reply,) = sending(target, make_send(deadlines))
        thread.join()
    if is_late:
        assert received == [b""]
        assert (reply.outcome, reply.sent) == (TOO_LATE, None)
    else:
        assert received[0].startswith(b"POST ")
        assert reply.sent is not None
