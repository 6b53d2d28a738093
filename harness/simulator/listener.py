"""The listening socket, which a fault can shut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from harness.config.faults import FaultKind
from harness.network.http_server import NO_LINGER
from harness.records.errors import HarnessError

BACKLOG = 4096
_TRIES = 100


class Listener:
    """Accepts connections on a port, refuses them, or leaves them without an answer.

    The port stays bound while it is shut, so that no other process can take it. A bound port that
    does not listen refuses connections (RFC 9293, section 3.10.7.1). A listening port with a full
    queue leaves further connections without an answer on Linux; other systems may refuse them.
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
        """Start to accept connections, each with a new `protocol`."""
        self._protocol = protocol
        await self._accept()

    def shut(self, kind: FaultKind) -> None:
        """Prevent new connections; existing ones are not affected."""
        self.shut_by = kind
        self._stop_accepting()
        self._close_filler()
        if kind.name == "connect_timeout":
            self._fill_queue()
        else:
            self._listener = _bound_without_listening(self._listener)

    def open(self) -> None:
        """Accept connections again; do nothing if the listener is open."""
        if self.shut_by is None:
            return
        self.shut_by = None
        self._close_filler()
        self._listener.listen(BACKLOG)
        self._opening = asyncio.get_running_loop().create_task(self._accept())
        self._opening.add_done_callback(lambda opening: opening.result())  # raises errors

    def close(self) -> None:
        """Stop listening and close the socket."""
        self._closing = self._server
        self._stop_accepting()
        self._close_filler()
        self._listener.close()

    async def wait_closed(self) -> None:
        """Wait until all connections are closed."""
        if self._closing is not None:
            await self._closing.wait_closed()

    async def _accept(self) -> None:
        if self._is_shut():
            return  # shut again before it could open
        # The loop closes the socket that it gets; this one must stay bound.
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
        """Fill the only place in the queue with a connection of our own."""
        self._listener.listen(0)
        for _ in range(_TRIES):
            _reset_waiting(self._listener)
            self._close_filler()
            self._filler = filler = socket.socket(self._listener.family, socket.SOCK_STREAM)
            filler.setblocking(False)
            filler.connect_ex(self._listener.getsockname())
            with contextlib.suppress(OSError):  # not connected: a client was faster
                filler.getpeername()
                return

    def _close_filler(self) -> None:
        if self._filler is not None:
            self._filler.close()
            self._filler = None


def _bound_without_listening(listener: socket.socket) -> socket.socket:
    """Close `listener` and return a socket that is bound to its port and does not listen."""
    address = listener.getsockname()
    with contextlib.suppress(OSError):  # some systems cannot shut down a listening socket
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


def _reset_waiting(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            waiting, _ = listener.accept()
            waiting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            waiting.close()
