"""A minimal HTTP/1.1 server on asyncio protocols and httptools (llhttp), without tasks.

The handler gets a request when its body is complete. The response writes directly to the transport,
so the time of each write is known and there is no delay between the timer of the simulation and the
socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple, cast

import httptools

MOST_BODY = 16 * 1024 * 1024
"""Maximum size of a request body in bytes; a larger one is answered with 413."""

MOST_HEAD = 64 * 1024
"""Maximum size of a request line with headers in bytes; a larger one is answered with 431."""

REQUEST_SECONDS = 30.0
"""How long a connection may take for a complete request; then it is answered with 408.

It counts from the connection or, for a later request, from its first byte.
"""

_LINGER_SECONDS = 2.0
"""How long the rest of a refused request is read and dropped.

A connection that is closed with unread bytes is reset, and then its client may not get the answer.
"""

NO_LINGER = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing the socket resets its connection."""

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


_WITHOUT_BODY = (204, 304)
"""Statuses whose responses have no body (RFC 9110, section 6.4.1)."""


def _status_line(status: int) -> bytes:
    """Return the first line of a response; of an unregistered status, without a phrase."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


class HttpRequest(NamedTuple):
    """One complete request. Header names are in lower case; `path` excludes the `query`."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes
    query: str = ""


class HttpResponse:
    """One response: call either `send`, or `begin`, any number of `write`, and `end`.

    `to_head`: it answers a HEAD request, so that its body is not written.
    """

    __slots__ = ("_bodiless", "_chunked", "_connection", "_keep_alive", "on_close", "on_room")

    def __init__(
        self, connection: Connection, keep_alive: bool, chunked: bool, to_head: bool = False
    ) -> None:
        self._connection = connection
        self._keep_alive = keep_alive and chunked
        self._chunked = chunked
        self._bodiless = to_head
        self.on_room: Callable[[], None] | None = None
        """Called when the client has read so much that `is_full` is no longer true."""
        self.on_close: Callable[[], None] | None = None
        """Called if the client disconnects before the end of the response."""

    @property
    def is_full(self) -> bool:
        """Whether so much is written that the client has not read that the writer should wait."""
        return self._connection.is_full

    def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Write a complete response."""
        self._bodiless = self._bodiless or status in _WITHOUT_BODY
        framing = "" if status in _WITHOUT_BODY else f"content-length: {len(body)}\r\n"
        head = self._head(status, headers, framing)
        self._connection.write(head if self._bodiless else head + body)
        self._connection.reply_ended(self._keep_alive)

    def begin(self, status: int, headers: Mapping[str, str], data: bytes = b"") -> None:
        """Write the head of a response of unknown length, and `data` if not empty."""
        self._bodiless = self._bodiless or status in _WITHOUT_BODY
        framing = "transfer-encoding: chunked\r\n" if self._chunked and not self._bodiless else ""
        self._connection.write(self._head(status, headers, framing) + self._framed(data))

    def write(self, data: bytes) -> None:
        """Write at least one byte of the body."""
        self._connection.write(self._framed(data))

    def end(self, data: bytes = b"") -> None:
        """Write the last bytes of the body."""
        is_chunked = self._chunked and not self._bodiless
        self._connection.write(self._framed(data) + (b"0\r\n\r\n" if is_chunked else b""))
        self._connection.reply_ended(self._keep_alive)

    def abort(self) -> None:
        """Close the connection at once, in the middle of the response."""
        self.on_close = None
        self._connection.abort()

    def cut(self) -> None:
        """Close the connection in the middle of the response, after the written bytes are sent."""
        self.on_close = None
        self._connection.close()

    def keep(self) -> None:
        """Mark the connection as a control connection, which faults do not abort."""
        self._connection.for_control = True

    def reset(self) -> None:
        """End the connection with a TCP reset, after the written bytes are sent."""
        self.on_close = None
        self._connection.reset()

    def _head(self, status: int, headers: Mapping[str, str], framing: str) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        closing = "" if self._keep_alive else "connection: close\r\n"
        return _status_line(status) + f"{lines}{framing}{closing}\r\n".encode("latin-1")

    def _framed(self, data: bytes) -> bytes:
        if self._bodiless:
            return b""
        if not self._chunked or not data:
            return data
        return b"%x\r\n%b\r\n" % (len(data), data)


Handler = Callable[[HttpRequest, HttpResponse], None]
CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]


class Connection(asyncio.Protocol):
    """One client connection. Pipelined requests are answered one after another.

    `call_later`: of the event loop; without it, a request may take any time. `most_body`: the
    maximum size of a request body in bytes. `most_unread`: the written bytes that may wait for the
    client before `is_full` is true; None for what the event loop chooses. `error_body`: returns the
    body, in JSON, of a response that the connection makes itself; without it, they have none.
    """

    def __init__(
        self,
        handle: Handler,
        open_connections: set[Connection],
        call_later: CallLater | None = None,
        most_body: int = MOST_BODY,
        most_unread: int | None = None,
        error_body: Callable[[int], bytes] | None = None,
    ) -> None:
        self._call_later = call_later
        self._most_body = most_body
        self._most_unread = most_unread
        self._error_body = error_body
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0  # bytes of an incomplete head
        self._is_complete, self._in_head = True, False
        self._handle = handle
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[HttpRequest, HttpResponse]] = deque()
        self._reply: HttpResponse | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self.for_control = False
        self.is_full = False
        self._is_refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport (asyncio)."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop has its own class
        if self._most_unread is not None:
            self._transport.set_write_buffer_limits(self._most_unread)
        self._open.add(self)
        self._set_timer()

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than it is written to (asyncio)."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Let the writer of the current response go on (asyncio)."""
        self.is_full = False
        if self._reply is not None and self._reply.on_room is not None:
            self._reply.on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the current response that its client has disconnected (asyncio)."""
        self._open.discard(self)
        self._transport = None
        self._cancel_timer()
        self._waiting.clear()
        reply, self._reply = self._reply, None
        if reply is not None and reply.on_close is not None:
            reply.on_close()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; answer invalid HTTP with 400 (asyncio)."""
        if self._is_refused:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._give_up(400)
        else:
            if not self._is_complete:
                self._check_head(len(data))
            self._next()  # outside the parser, which would report a handler's error as its own

    def _check_head(self, received: int) -> None:
        """Limit the size of a head that is not complete, and the time of its request."""
        if self._timer is None:
            self._set_timer()
        if self._in_head and not self._is_refused:
            self._head += received
            if self._head > MOST_HEAD:
                self._give_up(431)

    def _set_timer(self) -> None:
        if self._call_later is not None:
            self._timer = self._call_later(REQUEST_SECONDS, self._time_is_up)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        self._timer = None
        self._give_up(408)

    def on_message_begin(self) -> None:
        """Start a request (httptools)."""
        self._is_complete, self._in_head, self._head = False, True, 0
        self._url, self._headers, self._body, self._size = b"", {}, [], 0

    def on_url(self, url: bytes) -> None:
        """Add a part of the request target (httptools)."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store one header (httptools)."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Answer `Expect: 100-continue` (httptools)."""
        self._in_head = False
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Add a part of the body (httptools)."""
        if self._is_refused:
            return
        self._size += len(body)
        if self._size > self._most_body:
            self._give_up(413)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Queue the complete request (httptools)."""
        self._is_complete = True
        self._cancel_timer()
        path, _, query = self._url.decode("latin-1").partition("?")
        request = HttpRequest(
            self._parser.get_method().decode("latin-1"),
            path,
            self._headers,
            b"".join(self._body),
            query,
        )
        chunked = self._parser.get_http_version() != "1.0"
        self._waiting.append(
            (
                request,
                HttpResponse(
                    self, self._parser.should_keep_alive(), chunked, request.method == "HEAD"
                ),
            )
        )

    def write(self, data: bytes) -> None:
        """Write bytes to the transport; do nothing if the client has disconnected."""
        if self._transport is not None:
            self._transport.write(data)

    def reply_ended(self, keep_alive: bool) -> None:
        """End the current response: continue with the next request, or close."""
        if self._reply is not None:
            self._reply.on_close = self._reply.on_room = None  # break the reference cycles
            self._reply = None
        if keep_alive:
            self._next()
        else:
            self.close()

    def close(self) -> None:
        """Close the connection after all written bytes are sent."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Reset the connection in the next iteration of the loop, after pending writes."""
        asyncio.get_running_loop().call_soon(self._reset)

    def _reset(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER
            )
            self._transport.abort()

    def _next(self) -> None:
        while self._waiting and self._reply is None and not self._is_refused:
            if self._transport is None:
                return
            request, self._reply = self._waiting.popleft()
            self._handle(request, self._reply)

    def _give_up(self, status: int) -> None:
        self._cancel_timer()
        if self._reply is None:
            body = b"" if self._error_body is None else self._error_body(status)
            kind = b"content-type: application/json\r\n" if body else b""
            length = b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.write(_status_line(status) + kind + length + body)
            if body and self._call_later is not None and self._transport is not None:
                self._is_refused = True
                self._transport.write_eof()
                self._timer = self._call_later(_LINGER_SECONDS, self.close)
                return
        self.close()


class Refusal(asyncio.Protocol):
    """A connection above the limit: it is answered with 503, whatever it asks, and closed."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer, and close the connection (asyncio)."""
        accepted = cast(asyncio.Transport, transport)  # uvloop has its own class
        accepted.write(
            _status_line(503)
            + b"content-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(self._answer)
            + self._answer
        )
        accepted.close()
