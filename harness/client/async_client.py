"""openai.AsyncOpenAI with permits and a retry policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Unpack

import httpx2
import openai

from harness.client.async_responses import receive, respond
from harness.client.calls import CallMaker, ClientCall, ReceivedResponse
from harness.client.settings import (
    DEFAULT_RETRY,
    DEFAULT_TIMEOUTS,
    ClientOptions,
    ClientSettings,
    HoldPermit,
    Layers,
    check_options,
    http_options,
    permits_for,
)
from harness.config.timeouts import Timeouts
from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.branches import Branch
from harness.engine.call import Completion
from harness.engine.effects import EmitRecord, Reply, Send
from harness.engine.permits import AsyncPermits
from harness.limits.section import LimitSection
from harness.transports.async_transport import aiohttp_transport, exchange_async


async def _closing(http: httpx2.AsyncClient) -> AsyncGenerator[None, None]:
    """Close `http` when the event loop ends, or when the client is dropped in a running loop.

    asyncio finishes asynchronous generators then. A program need not close its client.
    """
    try:
        yield
    finally:
        await http.aclose()


class AsyncPolicyTransport(httpx2.AsyncBaseTransport):
    """Sends each request as a call with attempts, permits and a policy.

    `http`: the client that sends the attempts; None for one on aiohttp, as measurements use it.
    """

    def __init__(self, settings: ClientSettings, http: httpx2.AsyncClient | None) -> None:
        self._calls = CallMaker(settings)
        now = self._calls.now
        self._permits, self._emit = permits_for(settings, AsyncPermits, now, self._calls.emit)
        self._stamps_sending = http is None
        self._http = http or aiohttp_transport(trust_env=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: AsyncGenerator[None, None] | None = None
        self._running: dict[asyncio.Task[None], Branch] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response of the attempt that ended the call, or raise its error.

        If the caller is cancelled, the attempts are too.
        """
        loop = self._use_loop()
        if self._closing is None and self._stamps_sending:
            self._closing = _closing(self._http)
            await anext(self._closing)
        return await respond(self._calls.call(request), self._run, partial(self._spawn, loop))

    def _spawn(
        self, loop: asyncio.AbstractEventLoop, steps: Coroutine[Any, Any, None], branch: Branch
    ) -> None:
        task = loop.create_task(steps)
        self._running[task] = branch
        task.add_done_callback(self._running.pop)

    async def aclose(self) -> None:
        """Cancel all calls and close the connections."""
        self._use_loop()
        for branch in self._running.values():
            branch.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._http.aclose()

    def _use_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:
            raise RuntimeError(
                "harness.AsyncOpenAI: used in a second event loop; create one client in each loop"
            )
        return loop

    async def _run(self, call: ClientCall, branch: Branch) -> Completion:
        calls = self._calls
        world = AsyncWorld(calls.now, self._permits, partial(self._send, call), self._emit)
        return await run_async(call.program(calls.now()), world, branch)

    async def _send(self, call: ClientCall, effect: Send, branch: Branch) -> Reply:
        received = self._calls.begin(call, effect, branch)
        steps = partial(self._exchange, call, received)
        reply = await exchange_async(received.exchange, branch, steps)
        received.end(reply)
        return reply

    async def _exchange(self, call: ClientCall, received: ReceivedResponse) -> Reply:
        if not self._stamps_sending:
            received.exchange.note_sent()
        return await receive(self._http, call.request_to_send(), received)


class _AsyncHttp(httpx2.AsyncClient):
    """The HTTP client of the package: it builds requests, and its transport sends them."""

    def __init__(self, settings: ClientSettings, http: httpx2.AsyncClient | None) -> None:
        super().__init__(
            transport=AsyncPolicyTransport(settings, http),
            **http_options(http),
        )


class AsyncOpenAI(openai.AsyncOpenAI):
    """openai.AsyncOpenAI with permits and a retry policy, for one event loop.

    `permits`: the most requests in flight; others wait, first come, first served. A number, or a
    limit that adapts, such as `harness.limits.Elastic(max=64)`. `retry`: a policy
    of `harness.policies`, or a list of layers, outermost first, that ends with a policy.
    `permit_scope`: "attempt" releases the permit during a backoff, "call" holds it. `timeouts`: see
    `harness.Timeouts`. `timeout`: as in the package, also of one request; it limits each attempt
    besides, for connecting and for the wait for the next text. `whole_responses`: a stream is
    passed on when it is complete, so that a stream that breaks is retried too; the program then
    waits for the last text instead of the first one. Otherwise nothing is retried after the first
    text. `on_record`: called with the record of each attempt and call when it ends (see
    `harness.records.schema`); times are nanoseconds since the client was created. `http_client`: an
    httpx2.AsyncClient that sends the attempts.

    A streamed response is read as fast as it arrives, however slowly the program reads it, and its
    permit is released when it has arrived. A response with status 200 that is a failure raises
    FailedResponseError when the policy gives up. This holds for chat completions, responses and
    embeddings. Other paths have the same permits and policy; their bodies are not classified, and
    they are never hedged.
    """

    def __init__(
        self,
        *,
        permits: int | LimitSection = 8,
        retry: Layers = DEFAULT_RETRY,
        permit_scope: HoldPermit = "attempt",
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        whole_responses: bool = False,
        on_record: EmitRecord | None = None,
        http_client: httpx2.AsyncClient | None = None,
        max_retries: int = 0,
        api_key: str | Callable[[], Awaitable[str]] | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        settings = ClientSettings(
            permits, retry, permit_scope, timeouts, whole_responses, on_record
        )
        settings.check(max_retries, http_client, httpx2.AsyncClient)
        check_options(options)
        if http_client is None:
            options.setdefault("timeout", httpx2.Timeout(timeouts.call, connect=timeouts.connect))
        self._settings = settings
        if not isinstance(http_client, _AsyncHttp):
            http_client = _AsyncHttp(settings, http_client)
        super().__init__(api_key=api_key, http_client=http_client, max_retries=0, **options)

    if not TYPE_CHECKING:  # with the parameters of the package

        def copy(self, *, _extra_kwargs: Any = MappingProxyType({}), **options: Any) -> AsyncOpenAI:
            """Return a client with other options that shares the permits and the policy.

            With another `http_client`, it has its own.
            """
            return super().copy(
                _extra_kwargs={**self._settings._asdict(), **_extra_kwargs}, **options
            )

        with_options = copy
