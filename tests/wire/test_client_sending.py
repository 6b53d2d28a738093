"""`sent` is when a request's bytes go out, and nothing but permits limits how many are out."""

from __future__ import annotations

import asyncio
import base64
import functools
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import aiohttp
import httpx2
import pytest

from harness.engine.effects import Message, Reply, Request
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.ids import attempt_span, traceparent, workflow_trace
from harness.records.keys import AttemptKey
from harness.transports.async_transport import AsyncClient, aiohttp_transport
from harness.transports.sync_transport import SyncClient
from tests.transports.attempts import ANCHOR, KEY, make_deadlines, make_send, make_target
from tests.transports.bodies import EVENT_STREAM
from tests.wire.clients import BOTH, Sending, now, send_sync, trusted, with_client
from tests.wire.fault_server import (
    END,
    PATIENCE,
    Cut,
    FaultServer,
    Hold,
    Pause,
    Step,
    Tunnel,
    Until,
    Write,
    framed,
    head,
)
from tests.wire.faults import GOOD
from tests.wire.test_client_deadlines import full

HEAD = Write(head(200, ("content-type", EVENT_STREAM)))
ANSWER: Sequence[Step] = [HEAD, Write(framed(b"".join(GOOD))), Write(END)]
BURST = 64
MANY = 300


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:9"], ids=["direct", "behind a proxy"])
async def test_the_openai_package_still_makes_its_session_where_ours_goes_in(
    proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transport is private: when this fails, `sent` is a guess and 100 requests are a limit."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    if proxy is not None:
        monkeypatch.setenv("http_proxy", proxy)
    http = aiohttp_transport(trust_env=True)
    used: Any = http._transport_for_url(httpx2.URL("http://elsewhere.invalid"))
    assert (used.proxy is None) == (proxy is None)
    assert isinstance(used.client, functools.partial)
    session = used.get_client()
    assert isinstance(session, aiohttp.ClientSession)
    assert session.connector is not None
    assert session.connector.limit == 0
    assert [len(trace.on_request_chunk_sent) for trace in session.trace_configs] == [1]
    await session.close()
    await http.aclose()


@BOTH
def test_the_answer_is_waited_for_after_sent(sending: Sending) -> None:
    with FaultServer(lambda _: [Pause(0.05), *ANSWER]) as server:
        [reply] = sending(make_target(server.base_url), make_send())
        [seen] = server.seen
    arrived = seen.arrived - ANCHOR.monotonic_ns
    assert reply.sent is not None
    assert reply.headers is not None
    assert reply.sent <= arrived <= reply.headers - 50_000_000


def test_a_connection_is_made_before_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the sync client; what the async one does before its bytes go out shows in a burst."""
    look_up = socket.getaddrinfo

    def slow_look_up(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.05)
        return look_up(*args, **kwargs)

    with FaultServer(lambda _: ANSWER) as server:
        monkeypatch.setattr(socket, "getaddrinfo", slow_look_up)
        began = now()
        [reply] = send_sync(make_target(server.base_url), make_send())
    assert reply.sent is not None
    assert reply.sent >= began + 50_000_000


@BOTH
def test_a_proxy_of_the_environment_is_obeyed_and_stamped_alike(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FaultServer(lambda _: ANSWER) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        target = make_target("http://elsewhere.invalid/v1", simulated=False)
        began = now()
        [reply] = sending(target, make_send())
        [seen] = proxy.seen
    assert reply.outcome == OK
    assert seen.head.startswith(b"POST http://elsewhere.invalid/v1/chat/completions ")
    assert reply.sent is not None
    assert began < reply.sent <= seen.arrived - ANCHOR.monotonic_ns


@BOTH
def test_asking_a_proxy_for_a_tunnel_is_a_part_of_connecting(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with trusted(monkeypatch) as tls, FaultServer(lambda _: ANSWER, tls) as server:
        opened: list[Step] = [Pause(0.05), Write(b"HTTP/1.1 200 Go\r\n\r\n"), Tunnel(server.port)]
        with FaultServer(lambda _: opened) as proxy:
            monkeypatch.setenv("https_proxy", proxy.base_url.removesuffix("/v1"))
            began = now()
            [reply] = sending(make_target(server.base_url, simulated=False), make_send())
            [seen] = server.seen
    assert reply.outcome == OK
    assert reply.sent is not None
    assert began + 50_000_000 <= reply.sent <= seen.arrived - ANCHOR.monotonic_ns


@BOTH
def test_a_proxy_that_opens_no_tunnel_is_given_up_on_time(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FaultServer(lambda _: [Hold()]) as proxy:
        monkeypatch.setenv("https_proxy", proxy.base_url.removesuffix("/v1"))
        target = make_target("https://elsewhere.invalid/v1", simulated=False)
        [reply] = sending(target, make_send(make_deadlines(connect=100_000_000)))
        assert (reply.outcome, reply.sent) == ("connect_timeout", None)


def test_a_proxy_gets_the_credentials_of_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the sync client, whether it forwards a request or opens a tunnel."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    refused = [Write(b"HTTP/1.1 407 Who\r\ncontent-length: 0\r\n\r\n")]
    expected = "Basic " + base64.b64encode(b"me:se cret").decode()
    with FaultServer(lambda _: refused) as proxy:
        for scheme, status in (("http", 407), ("https", None)):
            url = proxy.base_url.removesuffix("/v1").replace("://", "://me:se%20cret@")
            monkeypatch.setenv(f"{scheme}_proxy", url)
            target = make_target(f"{scheme}://elsewhere.invalid/v1", simulated=False)
            [reply] = send_sync(target, make_send())
            assert reply.status == status
            assert (reply.sent is None) == (scheme == "https")
        assert [seen.header("proxy-authorization") for seen in proxy.seen] == [expected] * 2


def test_blocking_code_reaches_no_server_over_tls_within_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request to a server without TLS may go to a proxy over TLS."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with trusted(monkeypatch) as tls, FaultServer(lambda _: ANSWER, tls) as proxy:
        for scheme, outcome in (("http", OK), ("https", "connect_failed")):
            monkeypatch.setenv(f"{scheme}_proxy", proxy.base_url.removesuffix("/v1"))
            target = make_target(f"{scheme}://elsewhere.invalid/v1", simulated=False)
            [reply] = send_sync(target, make_send())
            assert reply.outcome == outcome
        assert len(proxy.seen) == 1


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used_again() -> None:
    """In the sync client; aiohttp is told of it by the loop."""
    with (
        FaultServer(lambda _: [*ANSWER, Cut()]) as server,
        SyncClient(make_target(server.base_url), now) as client,
    ):
        for number in (1, 2):
            assert client.send(make_send()).outcome == OK
            assert server.settled(lambda: server.open == 0)
            assert server.connections == number


@BOTH
@pytest.mark.parametrize(("reuse", "connections"), [(True, 1), (False, 2)])
def test_a_connection_is_used_again_unless_the_target_says_not_to(
    reuse: bool, connections: int, sending: Sending
) -> None:
    with FaultServer(lambda _: ANSWER) as server:
        target = make_target(server.base_url, reuse_connections=reuse)
        replies = sending(target, make_send(), make_send())
        assert [reply.outcome for reply in replies] == [OK, OK]
        assert server.connections == connections


@BOTH
def test_the_simulator_is_never_behind_a_proxy(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer(lambda _: ANSWER) as server:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        [reply] = sending(make_target(server.base_url), make_send())
    assert reply.outcome == OK


async def gathered(client: AsyncClient, count: int) -> list[Reply]:
    sends = [make_send(key=KEY._replace(workflow=number)) for number in range(count)]
    return await asyncio.gather(*map(client.send, sends))


def test_in_a_burst_each_request_is_stamped_when_its_own_bytes_go_out() -> None:
    """The time that a client needs to get to it is no service time."""

    async def burst(client: AsyncClient) -> tuple[int, list[Reply]]:
        await gathered(client, BURST)  # connections are there
        server.seen.clear()
        return now(), await gathered(client, BURST)

    with FaultServer(lambda _: [Until(lambda: len(server.seen) == BURST), *ANSWER]) as server:
        began, replies = with_client(make_target(server.base_url), burst)
        arrived = {
            seen.header("traceparent"): seen.arrived - ANCHOR.monotonic_ns for seen in server.seen
        }
    on_the_way, in_the_client = [], []
    for number, reply in enumerate(replies):
        key = KEY._replace(workflow=number)
        context = traceparent(workflow_trace("run", key), attempt_span("run", AttemptKey(*key, 1)))
        assert reply.sent is not None
        assert reply.sent <= arrived[context]
        on_the_way.append(arrived[context] - reply.sent)
        in_the_client.append(reply.sent - began)
    assert median(on_the_way) < median(in_the_client) / 4


def test_no_connection_pool_limits_how_many_streams_are_in_flight() -> None:
    """No stream is answered before all of them have arrived."""
    steps = [HEAD, Until(lambda: server.most_in_service == MANY), *ANSWER[1:]]
    with FaultServer(lambda _: steps) as server:
        replies = with_client(make_target(server.base_url), lambda c: gathered(c, MANY))
        assert [reply.outcome for reply in replies] == [OK] * MANY
        assert (server.most_in_service, server.connections) == (MANY, MANY)
        assert server.settled(lambda: server.open == 0)


def test_sixty_attempts_cancelled_at_once_leave_no_connection_open() -> None:
    async def cancelled(client: AsyncClient) -> None:
        task = asyncio.ensure_future(gathered(client, 60))
        assert await asyncio.to_thread(server.settled, lambda: server.in_service == 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.settled, lambda: server.open == 0)

    with FaultServer(lambda _: [HEAD, Hold()]) as server:
        with_client(make_target(server.base_url), cancelled)


@BOTH
@pytest.mark.parametrize(
    ("exceptions", "proxied"),
    [
        ("127.0.0.1", False),
        ("127.0.0.1:{port}", False),
        ("127.0.0.1:1", True),
        ("127.0.0.0/8", False),
        ("other.invalid, http://127.0.0.1", False),
        ("other.invalid", True),
        ("*", False),
    ],
)
def test_the_environment_excepts_servers_from_the_proxy(
    exceptions: str, proxied: bool, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    with FaultServer(lambda _: ANSWER) as server, FaultServer(lambda _: ANSWER) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", exceptions.format(port=server.port))
        [reply] = sending(make_target(server.base_url, simulated=False), make_send())
        assert reply.outcome == OK
        assert (len(proxy.seen), len(server.seen)) == (proxied, not proxied)


def test_an_address_that_does_not_respond_leaves_time_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the sync client; aiohttp tries the next address after 250 ms."""
    with FaultServer(lambda _: ANSWER) as server, full() as silent:
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
            for address in (silent, ("127.0.0.1", server.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        deadlines = make_deadlines(connect=1_000_000_000)
        [reply] = send_sync(make_target("http://two.invalid/v1"), make_send(deadlines))
    assert reply.outcome == OK


@BOTH
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_refusal_ends_the_sending_of_a_long_request(
    secured: bool, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server reads no more of it, and keeps the connection open."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    done = threading.Event()

    def refuse(listener: socket.socket, tls: ssl.SSLContext) -> None:
        sock, _ = listener.accept()
        with tls.wrap_socket(sock, server_side=True) if secured else sock as connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.sendall(b"HTTP/1.1 413 Too long\r\ncontent-length: 0\r\n\r\n")
            assert done.wait(PATIENCE)

    with trusted(monkeypatch) as tls, socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=refuse, args=(listener, tls))
        server.start()
        scheme = "https" if secured else "http"
        url = f"{scheme}://localhost:{listener.getsockname()[1]}/v1"
        book = Request((Message("user", "word " * 4_000_000),))
        limits = make_deadlines(end=now() + int(PATIENCE * SECOND))
        [reply] = sending(make_target(url, simulated=False), make_send(limits, request=book))
        done.set()
        server.join()
    assert reply.status == 413
    assert reply.done < limits.end


@BOTH
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_long_request_arrives_whole(
    secured: bool, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    book = Request((Message("user", "word " * 2_000_000),))
    with (
        trusted(monkeypatch) as tls,
        FaultServer(lambda _: ANSWER, tls if secured else None) as server,
    ):
        target = make_target(server.base_url, simulated=False)
        replies = sending(target, make_send(request=book), make_send(request=book))
        assert [reply.outcome for reply in replies] == [OK, OK]
        assert server.connections == 1
        assert [seen.body.count(b"word ") for seen in server.seen] == [2_000_000] * 2
