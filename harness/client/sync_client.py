"""openai.OpenAI with permits and a retry policy."""

from __future__ import annotations

import contextvars
import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import httpx2
import openai

from harness.client.calls import CallMaker, ClientCall, PassedResponse, ReceivedResponse
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
from harness.engine.blocking_interpreter import BlockingWorld, a_thread_each, run_blocking
from harness.engine.branches import Branch, do_nothing
from harness.engine.effects import EmitRecord, Reply, Send
from harness.engine.permits import ThreadPermits
from harness.limits.section import LimitSection
from harness.transports.exchange import is_encoded
from harness.transports.sockets import SocketTransport
from harness.transports.sync_transport import Watchdog, exchange_blocking, guarded_transport

_T = TypeVar("_T")

_LONGEST_WAIT = 0.25
"""The longest wait in seconds before the main thread handles signals."""
_BEGINNING = threading.Lock()


def _next_item(items: queue.SimpleQueue[_T]) -> _T:
    while True:
        try:
            return items.get(timeout=_LONGEST_WAIT)
        except queue.Empty:
            continue


class _Items(queue.SimpleQueue[bytes | Exception | None]):
    """A queue without a bound: a program that blocks reads in another thread."""

    is_full = False

    def __init__(self) -> None:
        self.on_room: Callable[[], None] = do_nothing


class _Body(httpx2.SyncByteStream):
    """The body of a response that is still arriving."""

    def __init__(self, passed: PassedResponse, items: _Items) -> None:
        self._passed = passed
        self._items = items

    def __iter__(self) -> Iterator[bytes]:
        while (item := _next_item(self._items)) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
        self._items.put(None)  # for another reader

    def close(self) -> None:
        self._passed.close()

    def __del__(self) -> None:
        self._passed.abandoned = True


class _Origins(httpx2.BaseTransport):
    """A transport of its own for each server."""

    def __init__(self) -> None:
        self._transports: dict[str, SocketTransport] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        origin = str(request.url.copy_with(path="/", query=None, fragment=None))
        with self._lock:
            transport = self._transports.get(origin)
            if transport is None:
                transport = self._transports[origin] = guarded_transport(origin, trust_env=True)
        return transport.handle_request(request)

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()


def _end(watchdog: Watchdog, origins: _Origins) -> None:
    """Release what a client that was dropped without being closed has left."""
    watchdog.end()
    origins.close()


class PolicyTransport(httpx2.BaseTransport):
    """Sends each request as a call with attempts, permits and a policy; safe for threads.

    `http`: the client that sends the attempts; None for one on sockets, as measurements use it.
    """

    def __init__(self, settings: ClientSettings, http: httpx2.Client | None) -> None:
        self._calls = CallMaker(settings)
        self._settings = settings
        self._given = http
        self._stamps_sending = http is None
        self._begin()

    def _begin(self) -> None:
        """Create what belongs to one process: permits, connections and the watchdog's thread."""
        now = self._calls.now
        self._permits, self._emit = permits_for(
            self._settings, ThreadPermits, now, self._calls.emit
        )
        origins = _Origins()
        self._http = self._given or httpx2.Client(transport=origins, timeout=None, trust_env=False)
        self._watchdog = Watchdog(self._calls.now)
        self._dropped = weakref.finalize(self, _end, self._watchdog, origins)
        self._dropped.atexit = False
        self._running: dict[Branch, threading.Thread | None] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def _begin_after_fork(self) -> None:
        with _BEGINNING:
            if self._process != os.getpid():
                self._dropped.detach()
                if self._given is None:
                    self._http.close()  # closes no connection of the parent
                self._begin()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response of the attempt that ended the call, or raise its error.

        A response that is passed on while it arrives is received in a thread.
        """
        if self._process != os.getpid():
            self._begin_after_fork()
        call, branch = self._calls.call(request), Branch()
        if not call.passes_on:
            return self._run(call, branch, None)
        first: queue.SimpleQueue[httpx2.Response | BaseException] = queue.SimpleQueue()
        call.hand_over = partial(self._hand_over, first)
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._receive, call, branch, first), name="harness-response",
            daemon=True,
        )  # fmt: skip
        with self._lock:
            self._running[branch] = thread
        thread.start()
        try:
            result = _next_item(first)
        except BaseException:
            branch.cancel()
            raise
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        """Cancel all calls and close the connections."""
        with self._lock:
            running = dict(self._running)
        for branch in running:
            branch.cancel()
        for thread in running.values():
            if thread is not None:
                thread.join()
        self._watchdog.stop()
        self._http.close()

    def _receive(
        self,
        call: ClientCall,
        branch: Branch,
        first: queue.SimpleQueue[httpx2.Response | BaseException],
    ) -> None:
        try:
            first.put(self._run(call, branch, threading.current_thread()))
        except BaseException as error:
            first.put(error)

    def _run(
        self, call: ClientCall, branch: Branch, thread: threading.Thread | None
    ) -> httpx2.Response:
        calls = self._calls
        with self._lock:
            self._running[branch] = thread
        world = BlockingWorld(
            calls.now, self._permits, partial(self._send, call), self._emit, a_thread_each,
            threading.Event(),
        )  # fmt: skip
        try:
            completion = run_blocking(call.program(calls.now()), world, branch)
        except BaseException:
            for bell in call.policy.abandon(calls.now()):
                self._permits.ring(bell)
            raise
        finally:
            with self._lock:
                del self._running[branch]
        return call.result(completion)

    @staticmethod
    def _hand_over(
        first: queue.SimpleQueue[httpx2.Response | BaseException], received: ReceivedResponse
    ) -> PassedResponse:
        items = _Items()
        passed = PassedResponse(items, received)
        first.put(received.arriving(_Body(passed, items)))
        return passed

    def _send(self, call: ClientCall, effect: Send, branch: Branch) -> Reply:
        received = self._calls.begin(call, effect, branch)
        steps = partial(self._exchange, call, received)
        reply = exchange_blocking(received.exchange, branch, self._watchdog, steps)
        received.end(reply)
        return reply

    def _exchange(self, call: ClientCall, received: ReceivedResponse) -> Reply:
        if not self._stamps_sending:
            received.exchange.note_sent()
        try:
            response = self._http.send(call.request_to_send(), stream=True, follow_redirects=False)
            try:
                received.begin(response)
                assert isinstance(response.stream, httpx2.SyncByteStream)
                body = response.iter_bytes() if is_encoded(response.headers) else response.stream
                for data in body:
                    if not received.received(data, received.exchange.now()):
                        break
                return received.finish()
            finally:
                response.close()
        except Exception as error:
            received.fail(error)
            raise


class _Http(httpx2.Client):
    """The HTTP client of the package: it builds requests, and its transport sends them."""

    def __init__(self, settings: ClientSettings, http: httpx2.Client | None) -> None:
        super().__init__(
            transport=PolicyTransport(settings, http),
            **http_options(http),
        )


class OpenAI(openai.OpenAI):
    """openai.OpenAI with permits and a retry policy; safe for threads.

    The keywords are those of `harness.AsyncOpenAI`. `on_record` is called in the thread of the
    attempt. With an `http_client` of the program, which cannot be interrupted, a deadline is
    noticed when the next bytes arrive, or when a timeout of that client ends the wait.
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
        http_client: httpx2.Client | None = None,
        max_retries: int = 0,
        api_key: str | Callable[[], str] | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        settings = ClientSettings(
            permits, retry, permit_scope, timeouts, whole_responses, on_record
        )
        settings.check(max_retries, http_client, httpx2.Client)
        check_options(options)
        if http_client is None:
            options.setdefault("timeout", httpx2.Timeout(timeouts.call, connect=timeouts.connect))
        self._settings = settings
        if not isinstance(http_client, _Http):
            http_client = _Http(settings, http_client)
        super().__init__(api_key=api_key, http_client=http_client, max_retries=0, **options)

    if not TYPE_CHECKING:  # with the parameters of the package

        def copy(self, *, _extra_kwargs: Any = MappingProxyType({}), **options: Any) -> OpenAI:
            """Return a client with other options that shares the permits and the policy.

            With another `http_client`, it has its own.
            """
            return super().copy(
                _extra_kwargs={**self._settings._asdict(), **_extra_kwargs}, **options
            )

        with_options = copy
