"""The thin edge between sockets and the face: HTTP/1.1 over httptools (llhttp), no tasks.

A request is handed on when its body is whole; its reply writes straight to the transport, so the
moment of a write is known and nothing stands between the model's timer and the socket.
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
"""Bytes of a request's body; more is answered with 413."""

NO_LINGER = struct.pack("ii", 1, 0)
"""For SO_LINGER: a socket that is closed resets its connection."""

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class HttpRequest(NamedTuple):
    """One whole request; header names are in lower case, `path` is without its query."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes


class HttpResponse:
    """One response. Either `send`, or `begin`, any number of `write` and `end`."""

    __slots__ = ("_chunked", "_connection", "_keep_alive", "on_close")

    def __init__(self, connection: Connection, keep_alive: bool, chunked: bool) -> None:
        self._connection = connection
        self._keep_alive = keep_alive and chunked
        self._chunked = chunked
        self.on_close: Callable[[], None] | None = None
        """Called when the client goes before the response has ended."""

    def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Write a whole response."""
        head = self._head(status, headers, f"content-length: {len(body)}\r\n")
        self._connection.write(head + body)
        self._connection.reply_ended(self._keep_alive)

    def begin(self, status: int, headers: Mapping[str, str], data: bytes = b"") -> None:
        """Write the head of a response of unknown length, and its first bytes if any."""
        framing = "transfer-encoding: chunked\r\n" if self._chunked else ""
        self._connection.write(self._head(status, headers, framing) + self._framed(data))

    def write(self, data: bytes) -> None:
        """Write some bytes of the body; at least one."""
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self, data: bytes = b"") -> None:
        """Write the last bytes of the body."""
        self._connection.write(self._framed(data) + (b"0\r\n\r\n" if self._chunked else b""))
        self._connection.reply_ended(self._keep_alive)

    def abort(self) -> None:
        """Drop the connection in the middle of the response."""
        self.on_close = None
        self._connection.abort()

    def keep(self) -> None:
        """Let this connection outlast what breaks off those of clients: it is for control."""
        self._connection.for_control = True

    def reset(self) -> None:
        """Break the connection off with a TCP reset, once what was written is out."""
        self.on_close = None
        self._connection.reset()

    def _head(self, status: int, headers: Mapping[str, str], framing: str) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        closing = "" if self._keep_alive else "connection: close\r\n"
        return _STATUS_LINES[status] + f"{lines}{framing}{closing}\r\n".encode("latin-1")

    def _framed(self, data: bytes) -> bytes:
        if not self._chunked or not data:
            return data
        return b"%x\r\n%b\r\n" % (len(data), data)


Handler = Callable[[HttpRequest, HttpResponse], None]


class Connection(asyncio.Protocol):
    """One client connection. Requests that are pipelined are answered one after another."""

    def __init__(self, handle: Handler, open_connections: set[Connection]) -> None:
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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio)."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but class
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the reply under way that its client has gone (asyncio)."""
        self._open.discard(self)
        self._transport = None
        self._waiting.clear()
        reply, self._reply = self._reply, None
        if reply is not None and reply.on_close is not None:
            reply.on_close()

    def data_received(self, data: bytes) -> None:
        """Parse what came; what is not HTTP is answered with 400 (asyncio)."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._give_up(400)
        else:
            self._next()  # not inside the parser, which would take a handler's error for its own

    def on_message_begin(self) -> None:
        """Start a request (httptools)."""
        self._url, self._headers, self._body, self._size = b"", {}, [], 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the target (httptools)."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header (httptools)."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Let a client go on that waits for leave to send its body (httptools)."""
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a part of the body (httptools)."""
        self._size += len(body)
        if self._size > MOST_BODY:
            self._give_up(413)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Put the request behind those before it (httptools)."""
        request = HttpRequest(
            method=self._parser.get_method().decode("latin-1"),
            path=self._url.partition(b"?")[0].decode("latin-1"),
            headers=self._headers,
            body=b"".join(self._body),
        )
        chunked = self._parser.get_http_version() != "1.0"
        self._waiting.append(
            (request, HttpResponse(self, self._parser.should_keep_alive(), chunked))
        )

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; nothing happens once the client has gone."""
        if self._transport is not None:
            self._transport.write(data)

    def reply_ended(self, keep_alive: bool) -> None:
        """The current response is whole: go on with the next request, or close."""
        if self._reply is not None:
            self._reply.on_close = None  # it leads back to the reply: leave no cycle to collect
            self._reply = None
        if keep_alive:
            self._next()
        else:
            self.close()

    def close(self) -> None:
        """Close once everything that was written is out."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Reset the connection in the loop's next round: this round's writes go out before."""
        asyncio.get_running_loop().call_soon(self._reset)

    def _reset(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER
            )
            self._transport.abort()

    def _next(self) -> None:
        while self._waiting and self._reply is None and self._transport is not None:
            request, self._reply = self._waiting.popleft()
            self._handle(request, self._reply)

    def _give_up(self, status: int) -> None:
        if self._reply is None:
            self.write(_STATUS_LINES[status] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        self.close()
