"""Sends requests over the connections of the wire client, and follows redirects."""

from __future__ import annotations

from collections.abc import Callable

import httpx2

from harness.engine.effects import Reply
from harness.records.clock import ReadClock
from harness.transports.exchange import Exchange
from harness.transports.http_requests import proxy_headers, request_head
from harness.transports.target import Target
from harness.transports.wire_connection import ResponseReceiver
from harness.transports.wire_pool import WirePool

_MOST_REDIRECTS = 20
_CHANGES_METHOD = frozenset({302, 303})
"""The redirects after which clients send GET; after 301 they do so instead of POST."""

RequestBytes = Callable[[httpx2.URL], bytes]
"""Returns the whole request to a URL: its head and its body."""


class WireSender:
    """Sends requests to the server of one target. `url`: of one of them, for their connections."""

    def __init__(self, target: Target, now: ReadClock, url: httpx2.URL) -> None:
        self._target = target
        self._pool = WirePool(target, now, url)

    async def close(self) -> None:
        """Close all connections, and wait until they are closed."""
        await self._pool.close()

    def head(self, method: str, url: httpx2.URL, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the head of a request. Raises LocalProtocolError for a line break in it."""
        proxy, named = self._pool.proxy, [(b"host", url.netloc), *headers]
        if proxy is None or url.scheme != "http":
            return request_head(method.encode("ascii"), url.raw_path, named)
        target = str(url).encode("ascii")
        return request_head(method.encode("ascii"), target, [*named, *proxy_headers(proxy)])

    async def send(
        self,
        request: httpx2.Request,
        message: RequestBytes,
        exchange: Exchange,
        receiver: ResponseReceiver | None = None,
    ) -> Reply:
        """Send a request and return the reply. A redirect of the same origin can be followed.

        `request`: its method and URL. `receiver`: takes the response; without one it is read for
        the reply alone. Raises what ended the connection.
        """
        exchange.begin_request(request)
        reply = await self._send_once(request, message, exchange, receiver)
        for _ in range(_MOST_REDIRECTS):
            if reply is not None:
                return reply
            url = request.url.join(exchange.response_headers["location"])
            request = httpx2.Request(_method_after(exchange.status, request.method), url)
            exchange.begin_request(request)
            reply = await self._send_once(request, message, exchange, receiver)
        if reply is None:
            raise httpx2.TooManyRedirects("more than 20 redirects")
        return reply

    async def _send_once(
        self,
        request: httpx2.Request,
        message: RequestBytes,
        exchange: Exchange,
        receiver: ResponseReceiver | None,
    ) -> Reply | None:
        """Send a request over one connection; return None for a redirect."""
        target, pool = self._target, self._pool
        data, connection = message(request.url), pool.reuse()
        if connection is None:
            exchange.note_connecting()
            connection = await pool.connect()
        try:
            exchange.check_budget()
            reply = await connection.send(
                data, exchange, receiver, close=not target.reuse_connections,
                follow=target.request.follow_redirects,
            )  # fmt: skip
        except BaseException:
            connection.abort()
            raise
        pool.keep(connection)
        return reply


def _method_after(status: int | None, method: str) -> str:
    """Return the method of the request that follows a redirect."""
    is_changed = status in _CHANGES_METHOD or (status == 301 and method == "POST")
    return "GET" if is_changed and method != "HEAD" else method
