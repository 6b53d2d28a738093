"""One attempt over openai.OpenAI, for the calling thread.

Up to the headers the socket's own timeouts keep the deadlines: before each step they are set to the
time that is left. After the headers they cannot: each byte starts a read timeout anew, so a
keep-alive drip would never time out. A watchdog thread then shuts the socket down on time, which
ends the blocking read at once.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import socket
import threading
import weakref
from types import TracebackType
from typing import Any, cast

import httpx2
import openai

from harness.client.exchange import (
    KEEP_ALIVE_SECONDS,
    PATH,
    Exchange,
    Target,
    current,
    tls_context,
)
from harness.clock import SECOND, Now
from harness.workflow.effects import Reply, Send


class Guard:
    """One response under watch; `close` it before its connection is used again."""

    def __init__(self, exchange: Exchange, sock: socket.socket) -> None:
        self._exchange: Exchange | None = exchange
        self._socket = sock
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the watch; after this the socket is left alone."""
        with self._lock:
            self._exchange = None

    def check(self) -> int | None:
        """Break the connection off if its deadline has passed; else return the deadline.

        None: there is nothing more to watch.
        """
        with self._lock:
            if self._exchange is None:
                return None
            if not self._exchange.overdue():
                return self._exchange.limit().at
            self._exchange = None
            _shut_down(self._socket)
            return None


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side may have been faster
        # Past an SSLSocket's own shutdown, which would pull the TLS state from under its reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Watchdog:
    """A thread that keeps the deadlines of all open responses."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._order = itertools.count()
        self._heap: list[tuple[int, int, Guard]] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
        self._thread.start()

    def watch(self, guard: Guard, at: int) -> None:
        """Look after `guard` at `at`, and then whenever its deadline has moved to."""
        entry = (at, next(self._order), guard)
        with self._changed:
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._changed.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
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


def default_transport(target: Target) -> httpx2.Client:
    """Return an HTTP client that limits nothing; what it waits for is timed by its user."""
    trust_env = target.trust_env
    return httpx2.Client(
        timeout=None,
        limits=httpx2.Limits(
            max_connections=None,
            max_keepalive_connections=None,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
        ),
        verify=tls_context(trust_env),
        trust_env=trust_env,
    )


class SyncClient:
    """Sends attempts to one target, one at a time for each thread. Use it as a context manager."""

    def __init__(self, target: Target, now: Now, http: httpx2.Client | None = None) -> None:
        self._target = target
        self._now = now
        http = http or default_transport(target)
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._sockets_lock = threading.Lock()
        http.event_hooks["request"].append(self._before_request)
        http.event_hooks["response"].append(self._after_headers)
        self._watchdog = Watchdog(now)
        self._client = openai.OpenAI(
            api_key=target.api_key,
            base_url=target.base_url,
            max_retries=0,
            http_client=http,
        )

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watchdog.stop()
        self._client.close()

    def send(self, effect: Send) -> Reply:
        """Send one attempt and read all of the response; a failure is a reply too."""
        exchange = Exchange(self._target, effect, self._now)
        current.set(exchange)
        try:
            return self._exchange(exchange)
        except Exception as error:
            return exchange.fail(error)

    def abort(self) -> None:
        """Break every connection off: whoever reads from one stops waiting at once."""
        with self._sockets_lock:
            sockets = list(self._sockets)
        for sock in sockets:
            _shut_down(sock)

    def _exchange(self, exchange: Exchange) -> Reply:
        stream = self._client.post(
            PATH,
            cast_to=httpx2.Response,
            body=exchange.body(),
            stream=True,
            stream_cls=openai.Stream[Any],
            options=exchange.options(httpx2.Timeout(None)),
        )
        response = cast(httpx2.Response, stream)  # what `cast_to` asks for
        try:
            exchange.begin_reading(response)
            for received in response.iter_bytes():
                if not exchange.received(received, self._now()):
                    break
            return exchange.finish()
        finally:
            response.close()

    def _after_headers(self, response: httpx2.Response) -> None:
        exchange = current.get()
        exchange.note_response(response)
        # The reads of the body take their timeout from here; the watchdog keeps time from now on.
        response.request.extensions["timeout"]["read"] = None
        stream = response.extensions.get("network_stream")
        if stream is None:
            return
        guard = Guard(exchange, stream.get_extra_info("socket"))
        exchange.release = guard.close
        exchange.rearm = lambda: self._watchdog.watch(guard, exchange.limit().at)
        exchange.rearm()

    def _before_request(self, request: httpx2.Request) -> None:
        exchange = current.get()
        exchange.handed = exchange.now()
        timeouts = request.extensions["timeout"]
        request.extensions["trace"] = functools.partial(self._trace, exchange, timeouts)

    def _trace(
        self, exchange: Exchange, timeouts: dict[str, float], event: str, info: dict[str, Any]
    ) -> None:
        match exchange.note_step(event, info):
            case "connect_tcp.started" | "start_tls.started":
                info["timeout"] = _seconds_left(exchange)
            case "connect_tcp.complete" | "start_tls.complete":
                with self._sockets_lock:
                    self._sockets.add(info["return_value"].get_extra_info("socket"))
            case "send_request_headers.started" | "send_request_body.started":
                timeouts["write"] = _seconds_left(exchange)
            case "receive_response_headers.started":
                timeouts["read"] = _seconds_left(exchange)
            case "response_closed.started":
                exchange.release()


def _seconds_left(exchange: Exchange) -> float:
    return max((exchange.limit().at - exchange.now()) / SECOND, 0.001)
