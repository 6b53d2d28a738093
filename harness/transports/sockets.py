"""An HTTP client for blocking code on sockets that another thread can shut down at any time.

The sender of an attempt learns which socket it is about to wait for. So exactly this socket can be
shut down while it connects, performs the TLS handshake, sends, or waits for the headers or the
body. The transport of httpx2 does not report which connection a request reuses. It also takes
several times the processor time, measured by `python -m benchmarks.http_calls`: its parser is
written in Python, and it sets the timeout of the socket before each read.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator

import httpx2

from harness.config.network import environment_proxy
from harness.records.connections import KEEP_ALIVE_SECONDS
from harness.transports.exchange import current
from harness.transports.http_requests import (
    connect_request,
    host_and_port,
    proxy_headers,
    request_head,
    require_proxy,
    require_tunnel,
)
from harness.transports.response_parser import ResponseParser
from harness.transports.unasked import has_unacknowledged

Using = Callable[[socket.socket], None]
"""Called in the thread that is about to wait for this socket; can raise OSError to prevent it."""

Receive = Callable[[socket.socket, int], bytes]
"""Waits for at most so many bytes from a socket and returns them."""

_READ_BYTES = 64 * 1024
_WRITE_BYTES = 16 * 1024
"""Few enough that a writable socket accepts them all at once; one record of TLS."""


def shut_down(sock: socket.socket) -> None:
    """Shut a connection down; a thread that waits for it continues at once."""
    with contextlib.suppress(OSError):  # the peer may have closed it already
        # Not SSLSocket.shutdown, which would discard the TLS state while another thread reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def receive_bytes(sock: socket.socket, most: int) -> bytes:
    """Wait for at most `most` bytes and return them."""
    return sock.recv(most)


class _Connection:
    """A connection to the server, possibly through a proxy."""

    def __init__(self, sock: socket.socket, receive: Receive) -> None:
        self.sock = sock
        self._receive = receive
        self.parser = ResponseParser(is_early=self._is_early)
        self.idle_since = 0.0
        self._closing = False
        self._written = False

    def write(self, request: bytes, close: bool) -> None:
        """Send a request. `close`: it asks the server to close the connection afterwards."""
        self._closing, self._written = close, False
        try:
            for at in range(0, len(request), _WRITE_BYTES):
                if at and self._responded_early():
                    self._closing = True
                    return
                self.sock.sendall(request[at : at + _WRITE_BYTES])
            self._written = True
        except OSError:  # the server may have responded before it read the whole request
            self._closing = True

    def _is_early(self) -> bool:
        return not self._written or has_unacknowledged(self.sock)

    def _responded_early(self) -> bool:
        """Wait until more of the request can be sent, unless the response makes it unnecessary."""
        ready = select.poll()
        ready.register(self.sock, select.POLLIN | select.POLLOUT)
        while not ready.poll()[0][1] & select.POLLOUT:
            self.sock.settimeout(0)  # with TLS, a readable socket may have no data
            try:
                received = self.sock.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            finally:
                self.sock.settimeout(None)
            self.parser.feed(received)
            if self.parser.status >= 300 or self.parser.complete:
                return True
        return False

    def read(self) -> None:
        """Wait for bytes and parse them."""
        try:
            received = self._receive(self.sock, _READ_BYTES)
        except OSError as error:
            raise httpx2.ReadError(str(error)) from error
        self.parser.feed(received)

    @property
    def reusable(self) -> bool:
        """Whether another request can follow the current response."""
        return self.parser.complete and self.parser.reusable and not self._closing

    def still_open(self) -> bool:
        """Return whether the idle connection is still open, and not idle for too long."""
        if time.monotonic() > self.idle_since + KEEP_ALIVE_SECONDS:
            return False
        closed = select.poll()  # an idle connection is readable only when the server closes it
        closed.register(self.sock, select.POLLIN)
        return not closed.poll(0)


class _Body(httpx2.SyncByteStream):
    def __init__(self, connection: _Connection, release: Callable[[_Connection], None]) -> None:
        self._connection: _Connection | None = connection
        self._release = release

    def __iter__(self) -> Iterator[bytes]:
        connection = self._connection
        assert connection is not None, "only an open response is read"
        parser = connection.parser
        while True:
            if body := parser.take_body():
                yield body
            if parser.complete:
                return
            connection.read()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._release(connection)


class SocketTransport(httpx2.BaseTransport):
    """Sends requests to one server, over HTTP/1.1; a request reuses an idle connection.

    It takes the time stamps of the current exchange, and calls `using` before it waits for a
    socket. Sockets have a timeout only until they are connected: the sender shuts them down at its
    deadlines. `trust_env`: use the proxies of the environment. `receive`: waits for a response.
    """

    def __init__(
        self,
        base_url: str,
        *,
        tls: ssl.SSLContext,
        trust_env: bool,
        using: Using,
        receive: Receive = receive_bytes,
    ) -> None:
        self._url = httpx2.URL(base_url)
        self._tls = tls
        self._using = using
        self._receive = receive
        self._proxy = environment_proxy(self._url) if trust_env else None
        self._idle: list[_Connection] = []
        tls.set_alpn_protocols(["http/1.1"])

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; return the response when its headers have arrived."""
        data = self._head(request) + request.read()
        connection = self._reuse() or self._connect()
        parser = connection.parser
        try:
            self._using(connection.sock)
            exchange = current.get()
            parser.longest_head = exchange.terms.limits.head
            exchange.check_budget()
            exchange.note_sent()
            connection.write(data, request.headers.get("connection", "").lower() == "close")
            while not parser.status:
                connection.read()
        except BaseException:
            self._release(connection)
            raise
        body = _Body(connection, self._release)
        return httpx2.Response(parser.status, headers=parser.headers, stream=body)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().sock.close()

    def _head(self, request: httpx2.Request) -> bytes:
        method, headers = request.method.encode("ascii"), request.headers.raw
        if self._proxy is None or self._url.scheme == "https":
            return request_head(method, request.url.raw_path, headers)
        target = str(request.url).encode("ascii")
        return request_head(method, target, [*headers, *proxy_headers(self._proxy)])

    def _reuse(self) -> _Connection | None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if connection.still_open():
                connection.parser.restart()
                return connection
            connection.sock.close()
        return None

    def _release(self, connection: _Connection) -> None:
        current.get().release()
        if connection.reusable:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.sock.close()

    def _connect(self) -> _Connection:
        current.get().note_connecting()
        try:
            return _Connection(self._connected(), self._receive)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error

    def _connected(self) -> socket.socket:
        proxy, secure = self._proxy, self._url.scheme == "https"
        peer = self._url if proxy is None else proxy.url
        if proxy is not None:
            require_proxy(self._url, proxy)
        try:
            sock = self._connect_tcp(peer)
        except ConnectionError as error:
            if proxy is not None:
                raise httpx2.ProxyError(f"the proxy cannot be reached: {error}") from error
            raise
        try:
            if proxy is not None and secure:
                self._open_tunnel(sock, proxy)
            if secure or peer.scheme == "https":
                host, _ = host_and_port(self._url if secure else peer)
                sock = secured = self._tls.wrap_socket(
                    sock, server_hostname=host, do_handshake_on_connect=False
                )
                self._using(secured)  # the socket before it has given its handle away
                secured.do_handshake()
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return sock

    def _connect_tcp(self, url: httpx2.URL) -> socket.socket:
        """Connect to the first address that accepts; each has an equal share of the time left."""
        host, port = host_and_port(url)
        last: BaseException = OSError(f"no address of {host}")
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(current.get().seconds_left() / (len(addresses) - tried))
                self._using(sock)
                sock.connect(address)
                sock.settimeout(current.get().seconds_left())
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            except BaseException as error:  # an interruption too leaves no socket open
                sock.close()
                if not isinstance(error, OSError):
                    raise
                last = error
        raise last

    def _open_tunnel(self, sock: socket.socket, proxy: httpx2.Proxy) -> None:
        """Ask the proxy for a connection to the server."""
        parser = ResponseParser()
        sock.sendall(connect_request(self._url, proxy))
        while not parser.status:
            parser.feed(sock.recv(_READ_BYTES))
        require_tunnel(parser.status)
