"""A server that does to a client, over real TCP, exactly what a script says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, TypeAlias

PATIENCE = 20.0
"""Seconds after which a test gives up; nothing here ever takes so long."""


class Write(NamedTuple):
    """Send these bytes."""

    data: bytes


class Slowly(NamedTuple):
    """Send these bytes one at a time, each in a packet of its own."""

    data: bytes


class Drip(NamedTuple):
    """Send these bytes again and again, `every` so many seconds, until the client hangs up."""

    data: bytes
    every: float


class Pause(NamedTuple):
    """Say nothing for so many seconds."""

    seconds: float


class Until(NamedTuple):
    """Say nothing until this is so, as far as the server can see."""

    is_so: Callable[[], bool]


class Tunnel(NamedTuple):
    """Pass on whatever comes from now on to a port of this machine, and back."""

    port: int


class Hold(NamedTuple):
    """Say nothing more until the client hangs up."""


class Cut(NamedTuple):
    """Close the connection as if all had been said."""


class Reset(NamedTuple):
    """Break the connection off: the client receives a TCP reset."""


Step: TypeAlias = Write | Slowly | Drip | Pause | Until | Tunnel | Hold | Cut | Reset


class Seen(NamedTuple):
    """One request: when its last byte had come (`time.monotonic_ns`), and what it was."""

    arrived: int
    connection: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, None without it."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.strip().lower() == name:
                return value.strip()
        return None


Answer = Callable[[Seen], Sequence[Step]]


class FaultServer:
    """Answers each request by a script, on a free port of 127.0.0.1. Use it as a context manager.

    After a script that neither cuts, resets nor holds the connection can be used again. The
    numbers may be read at any time; `settled` waits for them.
    """

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-server")
        self._changed = threading.Condition()
        self._news = asyncio.Event()
        self.port = 0
        self.seen: list[Seen] = []
        self.connections = 0
        self.open = 0
        self.in_service = 0
        self.most_in_service = 0

    @property
    def base_url(self) -> str:
        """What the openai clients are given."""
        scheme, host = ("https", "localhost") if self._tls else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.port}/v1"

    def __enter__(self) -> FaultServer:
        self._thread.start()
        assert self.settled(lambda: self.port != 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def settled(self, is_so: Callable[[], bool]) -> bool:
        """Wait until `is_so`, or give up; return whether it is so."""
        with self._changed:
            return self._changed.wait_for(is_so, PATIENCE)

    def tell(self, note: Callable[[], None]) -> None:
        """Run `note` in the server's own thread; what an `Until` waits for may be so after it."""

        def noting() -> None:
            with self._noting():
                note()

        self._loop.call_soon_threadsafe(noting)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        # A failed handshake is the business of the client under test.
        self._loop.set_exception_handler(lambda loop, context: None)
        server = await asyncio.start_server(
            self._connection, "127.0.0.1", ssl=self._tls, backlog=1024
        )
        with self._noting():
            self.port = server.sockets[0].getsockname()[1]
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()
        self._news.set()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._noting():
            self.connections += 1
            self.open += 1
            number = self.connections
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while await self._request(number, reader, writer):
                pass
        writer.transport.abort()
        with self._noting():
            self.open -= 1

    async def _request(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; return whether another may follow."""
        head = await reader.readuntil(b"\r\n\r\n")
        seen = Seen(0, number, head, b"")
        body = await reader.readexactly(int(seen.header("content-length") or 0))
        seen = Seen(time.monotonic_ns(), number, head, body)
        with self._noting():
            self.seen.append(seen)
            self.in_service += 1
            self.most_in_service = max(self.most_in_service, self.in_service)
        try:
            for step in self._answer(seen):
                if not await self._play(step, reader, writer):
                    return False
        finally:
            with self._noting():
                self.in_service -= 1
        return True

    async def _play(
        self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Do one step; return whether the connection is still good."""
        match step:
            case Write():
                writer.write(step.data)
                await writer.drain()
            case Slowly():
                for at in range(len(step.data)):
                    writer.write(step.data[at : at + 1])
                    await writer.drain()
                    await asyncio.sleep(0)
            case Drip():
                while not reader.at_eof():
                    writer.write(step.data)
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(), step.every)
                return False
            case Pause():
                await asyncio.sleep(step.seconds)
            case Until():
                async with asyncio.timeout(PATIENCE):
                    while not step.is_so():
                        self._news.clear()
                        await self._news.wait()
            case Tunnel():
                await _tunnel(step.port, reader, writer)
                return False
            case Hold():
                await reader.read()
                return False
            case Cut():
                writer.close()
                await writer.wait_closed()
                return False
            case Reset():
                linger = struct.pack("ii", 1, 0)
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return False
        return True


async def _tunnel(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()

    try:
        async with asyncio.TaskGroup() as group:
            back = group.create_task(pump(far_reader, writer))
            await pump(reader, far_writer)
            back.cancel()
    finally:
        far_writer.transport.abort()


def head(status: int = 200, *headers: tuple[str, str]) -> bytes:
    """The head of a response whose body comes in chunks of its own length."""
    lines = [f"HTTP/1.1 {status} So", "transfer-encoding: chunked"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode()


def framed(piece: bytes) -> bytes:
    """A piece of such a body on the wire (RFC 9112, section 7.1)."""
    return b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""


END = b"0\r\n\r\n"
"""The end of such a body."""
