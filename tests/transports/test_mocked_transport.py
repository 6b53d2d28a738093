"""Both clients come to the same outcomes over a mocked transport: the openai package is real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

import httpx2
import openai
import pytest
import respx

from harness.config.network import tls_context
from harness.engine.effects import Reply, Send
from harness.records.clock import monotonic_since
from harness.transports.async_transport import AsyncClient
from harness.transports.sync_transport import SyncClient
from harness.transports.target import Target
from tests.transports.attempts import ANCHOR, make_send, make_target
from tests.wire.faults import FAULTS, Fault, check

URL = "http://test/v1/chat/completions"
now = monotonic_since(ANCHOR)
TLS = tls_context(False)

Sending: TypeAlias = Callable[[Target, Send], Reply]


def send_sync(target: Target, send: Send) -> Reply:
    with SyncClient(target, now, httpx2.Client(verify=TLS)) as client:
        return client.send(send)


def send_async(target: Target, send: Send) -> Reply:
    async def whole() -> Reply:
        async with AsyncClient(target, now, httpx2.AsyncClient(verify=TLS)) as client:
            return await client.send(send)

    return asyncio.run(whole())


BOTH = pytest.mark.parametrize("sending", [send_sync, send_async], ids=["sync", "async"])


class Pieces(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body in pieces, which breaks at its end if the fault says so."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def __iter__(self) -> Iterator[bytes]:
        yield from self._fault.pieces
        if self._fault.ending != "end":
            raise httpx2.ReadError("broken")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


@BOTH
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.status is not None], ids=str)
@respx.mock
def test_a_fault_leads_to_its_record(fault: Fault, sending: Sending) -> None:
    def answer(_: object) -> Any:
        assert fault.status is not None
        return httpx2.Response(fault.status, headers=fault.all_headers(), stream=Pieces(fault))

    route = respx.post(URL).mock(side_effect=answer)
    began = now()
    reply = sending(make_target(stream=fault.stream), make_send())
    check(fault, reply, began, now())
    assert route.call_count == 1  # no retry and no redirect behind our back


@BOTH
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (httpx2.ConnectError("refused"), "connect_failed"),
        (httpx2.ProxyError("no"), "proxy_error"),
        (httpx2.UnsupportedProtocol("what"), "connect_failed"),
        (RuntimeError("a bug"), "client_error"),
    ],
)
@respx.mock
def test_a_connection_that_fails_is_a_reply_and_not_an_exception(
    error: Exception, outcome: str, sending: Sending
) -> None:
    route = respx.post(URL).mock(side_effect=error)
    reply = sending(make_target(), make_send())
    assert reply.outcome == outcome
    assert (reply.status, reply.sent, reply.headers) == (None, None, None)
    assert route.call_count == 1


@BOTH
@respx.mock
def test_the_request_is_authenticated_traced_and_in_the_shape_of_the_api(sending: Sending) -> None:
    route = respx.post(URL).respond(500)
    sending(make_target(extra_body={"thinking": {"type": "enabled"}}), make_send())
    request: Any = route.calls.last.request
    assert request.headers["authorization"] == "Bearer sk-test"
    assert request.headers["traceparent"].startswith("00-")
    assert request.headers["x-harness-repeat"] == "1"
    assert b'"thinking":{"type":"enabled"}' in request.content
    assert b'"stream":true' in request.content


@BOTH
@pytest.mark.parametrize(
    ("value", "said"), [("true", True), ("false", False), ("perhaps", None), (None, None)]
)
@respx.mock
def test_what_the_server_says_of_retrying_and_its_request_id_are_kept(
    value: str | None, said: bool | None, sending: Sending
) -> None:
    headers = {"x-request-id": "req-1"} | ({"x-should-retry": value} if value else {})
    respx.post(URL).respond(503, headers=headers)
    reply = sending(make_target(), make_send())
    assert (reply.should_retry, reply.request_id) == (said, "req-1")


def test_the_openai_package_still_knows_the_exceptions_that_outcomes_are_made_from() -> None:
    assert issubclass(openai.APITimeoutError, openai.APIConnectionError)
    assert not issubclass(openai.APIStatusError, openai.APIConnectionError)
