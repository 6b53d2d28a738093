"""One attempt over openai.OpenAI in the calling thread.

Timeouts of a socket do not enforce a deadline: each received byte and each tried address restarts
them, so slow headers or keep-alives would never time out. Therefore a watchdog thread shuts the
socket down at the deadline, which ends the blocking wait at once. A cancelled attempt is aborted in
the same way.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import httpx2
import openai

from harness.config.network import tls_context
from harness.config.request_settings import RequestSettings
from harness.engine.branches import Branch
from harness.engine.deadlines import UNWANTED
from harness.engine.effects import Reply, Send
from harness.records.clock import SECOND, ReadClock
from harness.records.failures import CANCELLED
from harness.transports.exchange import (
    Exchange,
    OfHarness,
    client_arguments,
    current,
    is_encoded,
    post_arguments,
    received_texts,
)
from harness.transports.reading import Reading
from harness.transports.sockets import Receive, SocketTransport, receive_bytes, shut_down
from harness.transports.target import Target


class Guard:
    """Watches one attempt and its connection; `close` it before the connection is reused."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange: Exchange | None = exchange
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def use(self, sock: socket.socket) -> None:
        """Note the socket that the attempt will wait for; raise if the attempt was aborted."""
        if sock is self._socket:
            return
        with self._lock:
            if self._exchange is None:
                return
            if self._exchange.expired is not None:
                raise ConnectionAbortedError
            self._socket = sock

    def open(self, exchange: Exchange) -> None:
        """Watch another connection of the attempt."""
        with self._lock:
            self._exchange = exchange

    def close(self) -> None:
        """End the watch; the socket is not shut down after this."""
        with self._lock:
            self._exchange = self._socket = None

    def check(self) -> int | None:
        """Shut the connection down if its deadline has passed; otherwise return the deadline.

        None means that there is nothing left to watch.
        """
        with self._lock:
            if self._exchange is None or self._exchange.expired is not None:
                return None
            if not self._exchange.overdue():
                return self._exchange.limit().at
            self._hang_up()
            return None

    def cancel(self) -> None:
        """Shut the connection down, because the attempt was cancelled."""
        with self._lock:
            if self._exchange is not None and self._exchange.expired is None:
                self._exchange.expired = CANCELLED
                self._hang_up()

    def _hang_up(self) -> None:
        if self._socket is not None:
            shut_down(self._socket)


class Watchdog:
    """A thread that enforces the deadlines of all attempts in flight."""

    def __init__(self, now: ReadClock) -> None:
        self._now = now
        self._order = itertools.count()
        self._heap: list[tuple[int, int, Guard]] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
        self._thread.start()

    def watch(self, guard: Guard, at: int) -> None:
        """Check `guard` at `at`, and again whenever its deadline has moved."""
        entry = (at, next(self._order), guard)
        with self._changed:
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._changed.notify()

    def end(self) -> None:
        """Tell the thread to end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def stop(self) -> None:
        """Stop the thread, and wait for its end."""
        self.end()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                now = self._now()
                while self._heap and self._heap[0][0] <= now:
                    guard = heapq.heappop(self._heap)[2]
                    later = guard.check()
                    if later is not None:
                        heapq.heappush(self._heap, (later, next(self._order), guard))
                wait = (self._heap[0][0] - self._now()) / SECOND if self._heap else None
                self._changed.wait(None if wait is None else max(wait, 0))


def guarded_transport(
    base_url: str,
    trust_env: bool,
    receive: Receive = receive_bytes,
    request: RequestSettings = RequestSettings(),  # noqa: B008 - immutable
) -> SocketTransport:
    """Return a transport without limits for attempts within `exchange_blocking`.

    `trust_env`: use the proxies and certificates of the environment. `receive`: waits for a
    response. `request`: says which certificates to trust.
    """
    return SocketTransport(
        base_url,
        tls=tls_context(trust_env, request.ca_file, verify=request.verify),
        trust_env=trust_env,
        using=lambda sock: _guard.get().use(sock),
        receive=receive,
    )


_guard: ContextVar[Guard] = ContextVar("guard")
"""The guard of the attempt in this thread."""


def exchange_blocking(
    exchange: Exchange, branch: Branch, watchdog: Watchdog, steps: Callable[[], Reply]
) -> Reply:
    """Run the steps of an attempt within its deadlines. A failure is a reply too.

    If `branch` is cancelled, the attempt is aborted with the outcome `cancelled`.
    """
    if branch.cancelled:
        return exchange.reply(CANCELLED, UNWANTED)
    current.set(exchange)
    guard = Guard(exchange)
    _guard.set(guard)
    exchange.rearm = lambda: watchdog.watch(guard, exchange.limit().at)
    exchange.release = guard.close

    def reopen() -> None:
        guard.open(exchange)
        if branch.cancelled:  # while there was nothing to shut down
            guard.cancel()
        exchange.rearm()

    exchange.reopen = reopen
    exchange.first_text = branch.first_text
    try:
        with branch.waking(guard.cancel):
            return steps()
    except Exception as error:
        return exchange.fail(error)
    finally:
        guard.close()


class _OpenAI(OfHarness, openai.OpenAI):
    pass


class SyncClient:
    """Sends attempts to one target, one at a time for each thread. Use it as a context manager.

    `receive`: waits for a response, if there is no `http`. `watch`: called with the reading after
    each part of a body, in the thread of the attempt.
    """

    def __init__(
        self,
        target: Target,
        now: ReadClock,
        http: httpx2.Client | None = None,
        receive: Receive = receive_bytes,
        watch: Callable[[Reading], None] | None = None,
    ) -> None:
        self._target = target
        self._watch = watch
        self._texts = received_texts(target)
        self._now = now
        http = http or httpx2.Client(
            transport=guarded_transport(target.base_url, target.trust_env, receive, target.request),
            timeout=None,
        )
        http.event_hooks["request"].append(_before_request)
        http.event_hooks["response"].append(_after_headers)
        self._watchdog = Watchdog(now)
        self._client = _OpenAI(http_client=http, **client_arguments(target))

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, *error: object) -> None:
        self._watchdog.stop()
        self._client.close()

    def send(self, effect: Send, branch: Branch | None = None) -> Reply:
        """Send one attempt and read the whole response. A failure is a reply too.

        If `branch` is cancelled, the attempt is aborted with the outcome `cancelled`.
        """
        target = self._target
        exchange = Exchange(
            target.stream, effect.deadlines, self._now, target.anchor, target.reading, self._texts
        )
        return exchange_blocking(
            exchange, branch or Branch(), self._watchdog, lambda: self._exchange(exchange, effect)
        )

    def _exchange(self, exchange: Exchange, effect: Send) -> Reply:
        response: httpx2.Response = self._client.post(
            stream_cls=openai.Stream[Any], **post_arguments(self._target, effect)
        )
        try:
            exchange.begin_reading(response.request.url.path)
            assert isinstance(response.stream, httpx2.SyncByteStream)
            body = response.iter_bytes() if is_encoded(response.headers) else response.stream
            for received in body:
                goes_on = exchange.received(received, self._now())
                if self._watch is not None and exchange.reading is not None:
                    self._watch(exchange.reading)
                if not goes_on:
                    break
            return exchange.finish()
        finally:
            response.close()


def _before_request(request: httpx2.Request) -> None:
    current.get().begin_request(request)


def _after_headers(response: httpx2.Response) -> None:
    current.get().note_response(response.status_code, response.headers)
