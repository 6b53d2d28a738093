"""One attempt over openai.OpenAI, for the calling thread.

Before the headers a read timeout keeps the deadline. After them a read timeout cannot: each byte
starts it anew, so a keep-alive drip would never time out. A watchdog thread then shuts the socket
down on time, which ends the blocking read at once.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import socket
import threading
import weakref
from types import TracebackType
from typing import Any, cast

import httpx2
import openai

from harness.client.exchange import PATH, Exchange, Target, current
from harness.clock import SECOND, Now
from harness.workflow.effects import Reply, Send


class Guard:
    """One response under watch; `close` it before its connection can be used again."""

    def __init__(self, exchange: Exchange, sock: socket.socket) -> None:
        self._exchange: Exchange | None = exchange
        self._socket = sock
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the watch; after this the socket is left alone."""
        with self._lock:
            self._exchange = None

    def check(self, now: int) -> int | None:
        """Break the connection off if its deadline has passed by `now`; else return the deadline.

        None: there is nothing more to watch.
        """
        with self._lock:
            if self._exchange is None:
                return None
            limit = self._exchange.limit()
            if limit.at > now:
                return limit.at
            self._exchange.expired = limit.outcome
            self._exchange = None
            with contextlib.suppress(OSError):  # the other side may have been faster
                self._socket.shutdown(socket.SHUT_RDWR)
            return None


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
                    later = guard.check(now)
                    if later is not None:
                        heapq.heappush(self._heap, (later, next(self._order), guard))
                wait = (self._heap[0][0] - self._now()) / SECOND if self._heap else None
                self._changed.wait(None if wait is None else max(wait, 0))


class SyncClient:
    """Sends attempts to one target, one at a time for each thread. Use it as a context manager."""

    def __init__(self, target: Target, now: Now, http: httpx2.Client | None = None) -> None:
        self._target = target
        self._now = now
        http = http or httpx2.Client(
            timeout=None,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=not target.simulated,
        )
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
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
        finally:
            exchange.release()

    def abort(self) -> None:
        """Break every connection off: whoever reads from one stops waiting at once."""
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _exchange(self, exchange: Exchange) -> Reply:
        deadlines = exchange.effect.deadlines
        first = min(deadlines.first_token, deadlines.end - self._now())
        stream = self._client.post(
            PATH,
            cast_to=httpx2.Response,
            body=exchange.body(),
            stream=True,
            stream_cls=openai.Stream[Any],
            options={
                "headers": exchange.extra_headers(),
                "timeout": httpx2.Timeout(
                    None, connect=deadlines.connect / SECOND, read=max(first / SECOND, 0.001)
                ),
            },
        )
        response = cast(httpx2.Response, stream)  # what `cast_to` asks for
        try:
            exchange.begin_reading(response)
            for received in response.iter_bytes():
                if not exchange.received(received, self._now()):
                    break
            return exchange.finish()
        finally:
            exchange.release()
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
        request.extensions["trace"] = self._trace

    def _trace(self, name: str, info: dict[str, Any]) -> None:
        if name == "http11.send_request_body.started":
            current.get().note_sent()
        elif name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._sockets.add(info["return_value"].get_extra_info("socket"))
