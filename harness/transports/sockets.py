"""Connections of blocking code that another thread can shut down at any time.

httpx2 reports a connection only when it is established, and not which one a request reuses. Here
the sender of an attempt learns which socket it is about to wait for. So exactly this socket can be
shut down while it connects, performs the TLS handshake, sends, or waits for the headers or the
body.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

import httpcore2
import httpx2
from httpcore2._backends.sync import SyncStream

Using = Callable[[socket.socket], None]
"""Called in the thread that is about to wait for this socket; can raise OSError to prevent it."""


def shut_down(sock: socket.socket) -> None:
    """Shut a connection down; a thread that waits for it continues at once."""
    with contextlib.suppress(OSError):  # the peer may have closed it already
        # Not SSLSocket.shutdown, which would discard the TLS state while another thread reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def report_sockets(http: httpx2.Client, using: Using) -> None:
    """Make the new client `http` report the sockets that its requests wait for.

    The public API of its transports accepts no network backend.
    """
    backend = _Backend(using)
    transports: list[Any] = [http._transport, *http._mounts.values()]
    for transport in transports:
        if transport is not None:
            transport._pool._network_backend = backend


class _Backend(httpcore2.SyncBackend):
    def __init__(self, using: Using) -> None:
        self._using = using

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of `host` that accepts."""
        last: Exception = httpcore2.ConnectError(f"no address of {host}")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(error) from error
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                for option in socket_options or ():
                    sock.setsockopt(*option)
                if local_address is not None:
                    sock.bind((local_address, 0))
                sock.settimeout(timeout)
                self._using(sock)
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _Stream(SyncStream(sock), self._using)
            except OSError as error:
                sock.close()
                timed_out = isinstance(error, TimeoutError)
                last = (
                    httpcore2.ConnectTimeout(error) if timed_out else httpcore2.ConnectError(error)
                )
                last.__context__ = error
        raise last


class _Stream(httpcore2.NetworkStream):
    """A connection that reports each wait for its socket."""

    def __init__(self, stream: httpcore2.NetworkStream, using: Using) -> None:
        self._stream = stream
        self._using = using
        self._socket: socket.socket = stream.get_extra_info("socket")

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._using(self._socket)
        return self._stream.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._using(self._socket)
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        # TLS takes the socket over, so a duplicate handle is what can be shut down meanwhile.
        with socket.socket(fileno=os.dup(self._socket.fileno())) as handle:
            self._using(handle)
            stream = self._stream.start_tls(ssl_context, server_hostname, timeout)
            secured = _Stream(stream, self._using)
            self._using(secured._socket)
        return secured

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
