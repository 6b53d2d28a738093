"""What lets clients in: the listening socket, which an outage can shut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from harness.errors import HarnessError
from harness.faults import FaultKind

BACKLOG = 4096


class Door:
    """Accepts connections on a port, or refuses them, or leaves them waiting.

    Shut, its port stays bound: nobody else can get it meanwhile. A port that is bound and does not
    listen refuses (RFC 9293, section 3.10.7.1). One that listens with a queue that is full and
    never emptied leaves the others without an answer: so Linux does it, other systems may refuse.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._protocol: Callable[[], asyncio.BaseProtocol] = asyncio.Protocol
        self._server: asyncio.AbstractServer | None = None
        self._filler: socket.socket | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closing: asyncio.AbstractServer | None = None
        self.shut_by: FaultKind | None = None

    async def start(self, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Accept connections from now on, each with a `protocol` of its own."""
        self._protocol = protocol
        await self._accept()

    def shut(self, kind: FaultKind) -> None:
        """Keep new clients out; those inside are not touched."""
        address, family = self._listener.getsockname(), self._listener.family
        self._stop()
        self.shut_by = kind
        self._listener = listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise HarnessError(
                f"port {address[1]}: cannot be kept through an outage ({error.strerror}); run again"
            ) from None
        listener.setblocking(False)
        if kind.name == "connect_timeout":
            listener.listen(0)
            self._filler = socket.socket(family, socket.SOCK_STREAM)
            self._filler.setblocking(False)
            self._filler.connect_ex(address)

    def open(self) -> None:
        """Let clients in again; nothing happens when it is open."""
        if self.shut_by is None:
            return
        self.shut_by = None
        self._let_go_of_filler()
        self._listener.listen(BACKLOG)
        self._opening = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Let nobody in any more."""
        self._closing = self._server
        self._stop()
        self._let_go_of_filler()

    async def wait_closed(self) -> None:
        """Wait until those inside are out."""
        if self._closing is not None:
            await self._closing.wait_closed()

    async def _accept(self) -> None:
        if self._is_shut():
            return  # shut again before it could open
        # The loop closes the socket that it is given; ours shall stay bound.
        self._server = await asyncio.get_running_loop().create_server(
            self._protocol, sock=self._listener.dup(), backlog=BACKLOG
        )
        if self._is_shut():
            self._server.close()

    def _is_shut(self) -> bool:
        return self.shut_by is not None

    def _stop(self) -> None:
        with contextlib.suppress(OSError):  # not every system shuts down what only listens
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._server is not None:
            self._server.close()
            self._server = None
        self._listener.close()

    def _let_go_of_filler(self) -> None:
        if self._filler is not None:
            self._filler.close()
            self._filler = None
