"""HTTP with one time limit and one size limit for a whole exchange.

A timeout of a socket limits a single operation, so a server that sends a byte a second could take
hours. Here each operation has only the time that is left, from resolving the host to the last byte
of the answer.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from email.message import Message
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple

_MOST_SENT = 65_536
"""Bytes for one operation on the socket."""

HTTP_ERRORS = (OSError, HTTPException, ValueError, OverflowError)
"""What a server can make `LimitedHttp.exchange` raise."""


class SocketClock(NamedTuple):
    """A clock in seconds, and how to limit an operation of a socket."""

    now: Callable[[], float] = time.monotonic
    limit: Callable[[socket.socket, float], None] = socket.socket.settimeout


REAL = SocketClock()


class HttpAnswer(NamedTuple):
    """An answer. `body`: None if it is cut or too long."""

    status: int
    headers: Message
    body: bytes | None


class LimitedHttp:
    """A persistent connection, which is opened when it is needed. `tls`: None for plain HTTP."""

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, clock: SocketClock = REAL
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._clock = clock
        self._socket: _LimitedSocket | None = None
        self._http: Any = HTTPConnection(host, port)
        self._http.auto_open = 0  # it would open a connection without these limits

    def close(self) -> None:
        """Close the connection; `exchange` opens it again."""
        self._http.close()

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        seconds: float,
        most: int,
    ) -> HttpAnswer:
        """Send a request and read an answer of at most `most` bytes within `seconds`.

        Raises one of HTTP_ERRORS. The connection is closed then.
        """
        until = self._clock.now() + seconds
        is_reused = self._http.sock is not None
        try:
            try:
                return self._exchange(method, path, body, headers, until, most)
            except ConnectionError:
                if not is_reused:
                    raise
                self.close()  # it was closed meanwhile
                return self._exchange(method, path, body, headers, until, most)
        except HTTP_ERRORS:
            self.close()
            raise

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        until: float,
        most: int,
    ) -> HttpAnswer:
        if self._socket is None or self._http.sock is None:
            left = until - self._clock.now()
            opened = open_socket(self._host, self._port, left, self._clock)
            self._http.sock = self._socket = _LimitedSocket(opened, self._clock, until)
            if self._tls is not None:
                self._socket.secure(self._tls, self._host)
        self._socket.until = until
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered
            self._http.request(method, path, body, headers)
        with contextlib.closing(self._http.getresponse()) as response:
            answer = response.read(most + 1)
            is_whole = len(answer) <= most and not response.length
        if not is_whole:
            self.close()
        return HttpAnswer(response.status, response.headers, answer if is_whole else None)


class _LimitedSocket:
    """A socket for http.client; each operation has the time that is left until `until`."""

    def __init__(self, raw: socket.socket, clock: SocketClock, until: float) -> None:
        self._raw = raw
        self._clock = clock
        self._reader: _Reader | None = None
        self._is_closed = False
        self.until = until

    def secure(self, tls: ssl.SSLContext, host: str) -> None:
        """Begin TLS; the handshake as a whole has the timeout of the socket."""
        self._raw = tls.wrap_socket(self._limited(), server_hostname=host)

    def _limited(self) -> socket.socket:
        left = self.until - self._clock.now()
        if left <= 0:
            raise TimeoutError
        self._clock.limit(self._raw, left)
        return self._raw

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._limited().send(rest[:_MOST_SENT]) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        self._reader = _Reader(self)
        return io.BufferedReader(self._reader)

    def read_into(self, buffer: Any) -> int:
        return self._limited().recv_into(buffer)

    def close(self) -> None:
        """Close the socket, after its reader: http.client closes it before it reads the body."""
        self._is_closed = True
        if self._reader is None or self._reader.closed:
            self._raw.close()

    def reader_closed(self) -> None:
        if self._is_closed:
            self._raw.close()


class _Reader(io.RawIOBase):
    def __init__(self, source: _LimitedSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.read_into(buffer)

    def close(self) -> None:
        super().close()
        self._source.reader_closed()


def open_socket(host: str, port: int, seconds: float, clock: SocketClock = REAL) -> socket.socket:
    """Open a TCP connection within `seconds`. Raises OSError."""
    until = clock.now() + seconds
    failed: OSError = TimeoutError()
    for family, kind, protocol, _, address in _addresses(host, port, seconds):
        opened = socket.socket(family, kind, protocol)
        try:
            left = until - clock.now()
            if left <= 0:
                raise TimeoutError
            clock.limit(opened, left)
            opened.connect(address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return opened
        except OSError as error:
            opened.close()
            failed = error
    raise failed


def _addresses(host: str, port: int, seconds: float) -> list[Any]:
    """Resolve the host: a name in a thread, because the system's resolver has no timeout."""
    kind = socket.SOCK_STREAM
    with contextlib.suppress(socket.gaierror):
        return socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)
    found: list[list[Any] | OSError] = []

    def resolve() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=kind))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if not found:
        raise TimeoutError
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]
