"""The connections of the wire client: opening them, also through proxies, and keeping them."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

import aiohappyeyeballs
import httpx2

from harness.config.network import environment_proxy, tls_context
from harness.records.clock import ReadClock
from harness.records.connections import KEEP_ALIVE_SECONDS
from harness.transports.http_requests import (
    connect_request,
    host_and_port,
    require_proxy,
    require_tunnel,
)
from harness.transports.target import Target
from harness.transports.wire_connection import PieceBacklog, WireConnection

_RESOLVED_SECONDS = 10.0
"""How long the addresses of a host are used; resolving a name takes a thread each time."""
_NEXT_ADDRESS_SECONDS = 0.25
"""How long an address has to accept before the next one is tried too (RFC 8305, section 5)."""
_HANDSHAKE_SECONDS = 86_400.0
"""Never: the deadlines of the attempt limit the handshake."""


class WirePool:
    """Opens connections to one server, and keeps idle ones. The latest is used first.

    `url`: of the requests. There is no limit on their number.
    """

    def __init__(self, target: Target, now: ReadClock, url: httpx2.URL) -> None:
        request = target.request
        self._url = url
        self._now = now
        self._tls = tls_context(target.trust_env, request.ca_file, verify=request.verify)
        self._tls.set_alpn_protocols(["http/1.1"])
        self.proxy = environment_proxy(url) if target.trust_env else None
        self._idle: list[WireConnection] = []
        self._backlog = PieceBacklog(now)
        self._open: set[WireConnection] = set()
        self._addresses: tuple[float, list[Any]] = (0.0, [])
        self._all_closed: asyncio.Event | None = None

    def reuse(self) -> WireConnection | None:
        """Return an idle connection; None if there is none."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and now <= connection.idle_since + KEEP_ALIVE_SECONDS:
                return connection
            connection.abort()
        return None

    def keep(self, connection: WireConnection) -> None:
        """Keep a connection for another request, or close it if it cannot have one."""
        if connection.is_reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.abort()

    async def connect(self) -> WireConnection:
        """Open a connection. Raises ConnectError, ProxyError or UnsupportedProtocol."""
        if self.proxy is not None:
            require_proxy(self._url, self.proxy)
        try:
            return await self._connected(self.proxy)
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error

    async def close(self) -> None:
        """Close all connections, and wait until they are closed."""
        self._idle.clear()
        if self._open:
            self._all_closed = asyncio.Event()
            for connection in list(self._open):
                connection.abort()
            await self._all_closed.wait()

    async def _connected(self, proxy: httpx2.Proxy | None) -> WireConnection:
        is_secure = self._url.scheme == "https"
        if proxy is None:
            return await self._open_to(self._url, is_secure=is_secure)
        try:
            connection = await self._open_to(proxy.url, is_secure=proxy.url.scheme == "https")
        except ConnectionError as error:
            raise httpx2.ProxyError(f"the proxy cannot be reached: {error}") from error
        if not is_secure:
            return connection
        try:
            require_tunnel(await connection.tunnel(connect_request(self._url, proxy)))
            assert connection.transport is not None, "it is connected"
            connection.transport = await asyncio.get_running_loop().start_tls(
                connection.transport, connection, self._tls,
                server_hostname=host_and_port(self._url)[0],
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
            )  # fmt: skip
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _open_to(self, url: httpx2.URL, *, is_secure: bool) -> WireConnection:
        loop = asyncio.get_running_loop()
        host, port = host_and_port(url)
        addresses = await self._resolved(host, port)
        secure: dict[str, Any] = {}
        if is_secure:
            secure = {"ssl": self._tls, "ssl_handshake_timeout": _HANDSHAKE_SECONDS}
            secure["server_hostname"] = host
        create = partial(WireConnection, self._now, self._url.path, self._forget, self._backlog)
        if len(addresses) == 1:  # the usual case, in which the event loop connects by itself
            address = addresses[0][4]
            _, connection = await loop.create_connection(create, address[0], address[1], **secure)
        else:
            sock = await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, loop=loop
            )
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                _, connection = await loop.create_connection(create, sock=sock, **secure)
            except BaseException:
                sock.close()
                raise
        self._open.add(connection)
        return connection

    async def _resolved(self, host: str, port: int) -> list[Any]:
        """Return the addresses of a host, which are kept for a while."""
        loop = asyncio.get_running_loop()
        until, known = self._addresses
        if not known or loop.time() > until:
            known = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._addresses = loop.time() + _RESOLVED_SECONDS, known
        return known

    def _forget(self, connection: WireConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._all_closed is not None and not self._open:
            self._all_closed.set()
