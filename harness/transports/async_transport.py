"""One attempt over openai.AsyncOpenAI, with aiohttp as its HTTP client."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import httpx2
import openai
from aiohttp.client_proto import ResponseHandler

from harness.config.network import tls_context
from harness.config.request_settings import RequestSettings
from harness.engine.branches import Branch, do_nothing
from harness.engine.deadlines import UNWANTED
from harness.engine.effects import Reply, Send
from harness.records.clock import SECOND, ReadClock
from harness.records.connections import KEEP_ALIVE_SECONDS
from harness.records.failures import CANCELLED
from harness.transports.aiohttp_parser import ResponseProtocol
from harness.transports.exchange import (
    Exchange,
    OfHarness,
    client_arguments,
    current,
    is_encoded,
    post_arguments,
    received_texts,
)
from harness.transports.target import Target


def aiohttp_transport(
    trust_env: bool,
    *,
    reuse_connections: bool = True,
    request: RequestSettings = RequestSettings(),  # noqa: B008 - immutable
) -> httpx2.AsyncClient:
    """Return an HTTP client on aiohttp without limits that stamps when a request is sent.

    `trust_env`: use the proxies and certificates of the environment. `request`: says which
    certificates to trust.

    The public API of the openai package accepts no aiohttp session. Its transport calls `client` to
    make one, so ours is passed there.
    """
    tls = tls_context(trust_env, request.ca_file, verify=request.verify)
    http = openai.DefaultAioHttpClient(timeout=None, verify=tls, trust_env=trust_env)
    transports: list[Any] = [http._transport, *http._mounts.values()]
    for transport in transports:
        if transport is not None:
            transport.client = functools.partial(_session, tls, reuse_connections)
    return http


def _session(tls: ssl.SSLContext, reuse: bool) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(_connecting)
    trace.on_request_chunk_sent.append(_chunk_sent)
    kept: dict[str, Any] = {"keepalive_timeout": KEEP_ALIVE_SECONDS} if reuse else {}
    connector = _Connector(limit=0, force_close=not reuse, ssl=tls, **kept)
    # No timeouts here: the harness enforces every deadline itself.
    return aiohttp.ClientSession(
        connector=connector,
        trace_configs=[trace],
        timeout=aiohttp.ClientTimeout(total=None),
    )


class _Connector(aiohttp.TCPConnector):
    """A connector whose connections can be aborted at once and parse responses as in all modes.

    Closing a transport waits until its data is sent and, with TLS, until the peer answers. A
    stalled server does neither.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        protocol: type[ResponseHandler] = ResponseProtocol
        self._factory = functools.partial(protocol, loop=self._loop)

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*args, **kwargs)
        if connection.transport is not None:
            current.get().release = functools.partial(_hang_up, connection.transport)
        if isinstance(connection.protocol, ResponseProtocol):
            connection.protocol.is_connected_through = True
        try:
            current.get().check_budget()
        except OSError:
            connection.close()
            raise
        return connection


def _hang_up(transport: asyncio.Transport) -> None:
    if transport.is_closing():
        transport.abort()


async def _connecting(*_: object) -> None:
    current.get().note_connecting()


async def _chunk_sent(*_: object) -> None:
    current.get().note_sent()


async def _before_request(request: httpx2.Request) -> None:
    current.get().begin_request(request)


async def _after_headers(response: httpx2.Response) -> None:
    current.get().note_response(response.status_code, response.headers)


class _Watch:
    """Expires `deadline` when the next deadline of the exchange has passed.

    Each text chunk moves the idle deadline. One timer that checks again at the old deadline is
    cheaper than a new timer for each chunk.
    """

    def __init__(self, exchange: Exchange, deadline: asyncio.Timeout) -> None:
        self._exchange = exchange
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0

    def arm(self) -> None:
        """Start a timer for the next deadline, unless one runs that comes first."""
        at = self._exchange.limit().at
        if self._timer is not None:
            if at >= self._at:
                return
            self._timer.cancel()
        wait = at - self._exchange.now()
        self._timer, self._at = self._loop.call_later(max(wait, 0) / SECOND, self._check), at

    def disarm(self) -> None:
        """Stop the timer, and drop the references that only the garbage collector would free."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # its context refers to the exchange
        self._exchange.rearm = do_nothing

    def cancel(self) -> None:
        """Expire the deadline now, because the attempt was cancelled."""
        if not self._deadline.expired():
            self._exchange.catch_up()
            self._exchange.expired = CANCELLED
            self._deadline.reschedule(self._loop.time())

    def _check(self) -> None:
        self._timer = None
        if not self._exchange.overdue():
            self.arm()
        elif not self._deadline.expired():  # a cancellation can have come first
            self._deadline.reschedule(self._loop.time())


async def exchange_async(
    exchange: Exchange, branch: Branch, steps: Callable[[], Awaitable[Reply]]
) -> Reply:
    """Run the steps of an attempt within its deadlines. A failure is a reply too.

    If `branch` is cancelled, the attempt is aborted with the outcome `cancelled`.
    """
    if branch.cancelled:
        return exchange.reply(CANCELLED, UNWANTED)
    current.set(exchange)
    deadline = asyncio.timeout(None)
    watch = _Watch(exchange, deadline)
    exchange.rearm = watch.arm
    exchange.first_text = branch.first_text
    try:
        async with deadline:
            watch.arm()
            with branch.waking(watch.cancel):
                return await steps()
    except asyncio.CancelledError:
        if not branch.survives():
            raise
        return exchange.reply(CANCELLED, UNWANTED)
    except Exception as error:
        return exchange.fail(error)
    finally:
        watch.disarm()
        exchange.release()


class _AsyncOpenAI(OfHarness, openai.AsyncOpenAI):
    pass


class AsyncClient:
    """Sends attempts to one target. Use it as an async context manager."""

    def __init__(
        self, target: Target, now: ReadClock, http: httpx2.AsyncClient | None = None
    ) -> None:
        self._target = target
        self._texts = received_texts(target)
        self._now = now
        http = http or aiohttp_transport(
            target.trust_env, reuse_connections=target.reuse_connections, request=target.request
        )
        self.http = http
        http.event_hooks["request"].append(_before_request)
        http.event_hooks["response"].append(_after_headers)
        self._client = _AsyncOpenAI(http_client=http, **client_arguments(target))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()

    async def send(self, effect: Send, branch: Branch | None = None) -> Reply:
        """Send one attempt and read the whole response. A failure is a reply too.

        If `branch` is cancelled, the attempt is aborted with the outcome `cancelled`.
        """
        target = self._target
        exchange = Exchange(
            target.stream, effect.deadlines, self._now, target.anchor, target.reading, self._texts
        )
        return await exchange_async(
            exchange, branch or Branch(), lambda: self._exchange(exchange, effect)
        )

    async def _exchange(self, exchange: Exchange, effect: Send) -> Reply:
        response: httpx2.Response = await self._client.post(
            stream_cls=openai.AsyncStream[Any], **post_arguments(self._target, effect)
        )
        try:
            exchange.begin_reading(response.request.url.path)
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            body = response.aiter_bytes() if is_encoded(response.headers) else response.stream
            async for received in body:
                if not exchange.received(received, self._now()):
                    break
                if exchange.decodes:  # a few bytes can become many, with no wait between them
                    await asyncio.sleep(0)
            return exchange.finish()
        finally:
            await response.aclose()
