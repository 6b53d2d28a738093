"""What lets clients in: the listening socket, which an outage can shut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from harness.config.faults import FaultKind
from harness.records.errors import HarnessError
from harness.simulator.http_server import NO_LINGER

BACKLOG = 4096
_TRIES = 100


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
        self.shut_by = kind
        self._stop_accepting()
        self._let_go_of_filler()
        if kind.name == "connect_timeout":
            self._fill_queue()
        else:
            self._listener = _bound_alone(self._listener)

    def open(self) -> None:
        """Let clients in again; nothing happens when it is open."""
        if self.shut_by is None:
            return
        self.shut_by = None
        self._let_go_of_filler()
        self._listener.listen(BACKLOG)
        self._opening = asyncio.get_running_loop().create_task(self._accept())
        self._opening.add_done_callback(lambda opening: opening.result())  # tell the loop's handler

    def close(self) -> None:
        """Let nobody in any more."""
        self._closing = self._server
        self._stop_accepting()
        self._let_go_of_filler()
        self._listener.close()

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

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _fill_queue(self) -> None:
        """Have a connection of our own take the only place in the queue."""
        self._listener.listen(0)
        for _ in range(_TRIES):
            _turn_away(self._listener)
            self._let_go_of_filler()
            self._filler = filler = socket.socket(self._listener.family, socket.SOCK_STREAM)
            filler.setblocking(False)
            filler.connect_ex(self._listener.getsockname())
            with contextlib.suppress(OSError):  # not connected: somebody was faster
                filler.getpeername()
                return

    def _let_go_of_filler(self) -> None:
        if self._filler is not None:
            self._filler.close()
            self._filler = None


def _bound_alone(listener: socket.socket) -> socket.socket:
    """Return a socket that has the port of `listener`, and neither listens."""
    address = listener.getsockname()
    with contextlib.suppress(OSError):  # not every system shuts down what only listens
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    bound = socket.socket(listener.family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setblocking(False)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise HarnessError(
            f"port {address[1]}: cannot be kept through an outage ({error.strerror}); run again"
        ) from None
    return bound


def _turn_away(listener: socket.socket) -> None:
    """Break off the connections that wait to be accepted."""
    with contextlib.suppress(OSError):
        while True:
            waiting, _ = listener.accept()
            waiting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            waiting.close()
