"""A connection of the wire client: an asyncio protocol that stamps bytes before it parses them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol, cast

import httpx2

from harness.engine.effects import Reply
from harness.records.clock import SECOND, ReadClock
from harness.records.failures import OK, of_status
from harness.transports.exchange import Exchange, is_encoded
from harness.transports.framed_chunks import FramedChunks, ends_with_chunk
from harness.transports.reading import Reading
from harness.transports.response_parser import ResponseParser
from harness.transports.unasked import HasFileNumber, has_unacknowledged

_AT_ONCE = SECOND // 4000
"""How long pieces are processed between two looks at the sockets, in nanoseconds. With 1,000
streams in step, the median time to first token was 0.8 ms later with a millisecond, and the 99th
percentile 3 ms later with none."""
_MOST_TRIES = 4
"""How often so few pieces are collected before a response is read one by one."""
ROOM_CHECK_SECONDS = 0.1
"""Seconds between two looks whether a response that waits for its reader was dropped."""
_NO_BODY = httpx2.ByteStream(b"")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by their name in lower case; the values of equal names are joined."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name, text = raw.decode("latin-1").lower(), value.decode("utf-8", "replace")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


class ResponseReader(Protocol):
    """Reads the body of a response: an exchange, or a receiver."""

    def received(self, data: bytes, at: int, *, is_last: bool = False) -> bool:
        """Process bytes of the body that arrived at `at`; return whether to continue reading."""
        ...

    def finish(self) -> Reply:
        """Return the reply for a body that is complete or is not read further."""
        ...


class ResponseReceiver(ResponseReader, Protocol):
    """Takes a whole response, with any status, as it arrives."""

    @property
    def is_head(self) -> bool:
        """Whether it is the response to a HEAD request, which has no body."""
        ...

    def begin(self, head: httpx2.Response) -> None:
        """Take the status and the headers."""
        ...

    def waits_for_room(self, resume: Callable[[], None]) -> bool:
        """Return whether so much waits for its reader that no more should be received.

        `resume` is called when there is room. It may be called at other times.
        """
        ...


class _EncodedBody(httpx2.AsyncByteStream):
    """A body that has to be decoded, which the sender does: a few bytes can become many."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._arrived: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._response = httpx2.Response(status, headers=headers, stream=self)

    def add(self, body: bytes, *, is_last: bool) -> None:
        """Add bytes that have arrived."""
        if body:
            self._arrived.put_nowait(body)
        if is_last:
            self._arrived.put_nowait(None)

    def fail(self, error: Exception) -> None:
        """End the body with an error."""
        self._arrived.put_nowait(error)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (item := await self._arrived.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def pieces(self) -> AsyncIterator[bytes]:
        """Iterate over the decoded bytes."""
        return self._response.aiter_bytes()


class PieceBacklog:
    """What has arrived and is not processed yet, of all connections of an event loop.

    A loop that processed each piece when it reads it would read the sockets that are ready after
    that one later, and stamp their bytes late. So it only stamps them, and processes them when all
    have been read, for a quarter of a millisecond between looks at the sockets.
    """

    def __init__(self, now: ReadClock) -> None:
        self._now = now
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_due = False

    def add(self, process: Callable[[], None]) -> None:
        """Call `process` when the sockets that are ready have been read."""
        self._waiting.append(process)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        until = self._now() + _AT_ONCE
        while self._waiting:
            self._waiting.popleft()()
            if self._now() >= until and self._waiting:
                asyncio.get_running_loop().call_soon(self._run)
                return
        self._is_due = False


class WireConnection(asyncio.Protocol):
    """A connection to the server, which has one request at a time.

    `closed`: is called when it is closed. `path`: of the requests. `backlog`: of all connections of
    the event loop. `idle_since`: the time of the
    event loop when its last response was complete.
    """

    def __init__(
        self,
        now: ReadClock,
        path: str,
        closed: Callable[[WireConnection], None],
        backlog: PieceBacklog,
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self._now = now
        self._socket: HasFileNumber | None = None
        self._path = path
        self._closed = closed
        self._parser = ResponseParser(is_early=self._is_early)
        self._exchange: Exchange | None = None
        self._ended: asyncio.Future[Reply | None] | None = None
        self._is_closing = False
        self._is_tunnel = False
        self._follows = False
        self._refusal: bytearray | None = None
        self._encoded: _EncodedBody | None = None
        self._reader: ResponseReader | None = None
        self._receiver: ResponseReceiver | None = None
        self._is_head = False
        self._is_paused = False
        self._room: asyncio.Future[None] | None = None
        self._reading: Reading | None = None
        self._frames: FramedChunks | None = None
        self._tries = 0
        self._backlog = backlog
        self._arrived: list[tuple[bytes, int]] = []

    @property
    def is_open(self) -> bool:
        """Whether the connection can be written to."""
        return self.transport is not None and not self.transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        """Whether another request can follow the last response."""
        parser = self._parser
        return (
            parser.complete and parser.reusable and not self._is_closing and self.is_open
            and self.transport is not None and self.transport.get_write_buffer_size() == 0
        )  # fmt: skip

    def abort(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    async def tunnel(self, request: bytes) -> int:
        """Send a request for a tunnel; return the status of the proxy's response."""
        assert self.transport is not None, "it is connected"
        self._is_tunnel = True
        self._ended = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._ended
        status = self._parser.status
        self._is_tunnel, self._ended = False, None
        self._parser = ResponseParser(is_early=self._is_early)
        return status

    async def send(
        self,
        request: bytes,
        exchange: Exchange,
        receiver: ResponseReceiver | None = None,
        *,
        close: bool,
        follow: bool,
    ) -> Reply | None:
        """Send a request and read the response; return the reply, None for a redirect to `follow`.

        `receiver`: takes the response; without one it is read for the reply alone. `close`: it asks
        the server to close the connection afterwards. Raises what ended the connection. The caller
        aborts the connection if this is cancelled.
        """
        assert self.transport is not None, "it is connected"
        parser = self._parser
        parser.restart()
        parser.longest_head = exchange.terms.limits.head
        self._exchange, self._receiver, self._reader = exchange, receiver, receiver or exchange
        self._is_head = receiver is not None and receiver.is_head
        self._is_closing, self._follows = close or self._is_head, follow
        self._refusal = self._encoded = None
        self._tries = 0
        self._ended = asyncio.get_running_loop().create_future()
        exchange.catch_up = self.catch_up
        exchange.note_sent()
        self.transport.write(request)
        try:
            reply = await self._ended
            encoded = self._encoded_body()
            return reply if encoded is None else await self._decoded(encoded, self._reader)
        finally:
            self._resume()
            if self._arrived:  # after the response: it is not that of the next request
                self._is_closing = True
                self._arrived.clear()
            self._read_frames()
            self._exchange = self._ended = self._encoded = self._reading = None
            self._reader = self._receiver = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport (asyncio)."""
        self.transport = cast(asyncio.Transport, transport)  # that of uvloop is no subclass
        self._socket = transport.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        """Stamp bytes, which are processed when all sockets have been read (asyncio)."""
        at = self._now()
        frames = self._frames
        if frames is not None and not self._arrived and frames.takes(data, at):
            return
        if self._ended is None:  # bytes that no request asked for
            self.abort()
            return
        if not self._arrived:
            self._backlog.add(self.catch_up)
        self._arrived.append((data, at))

    def catch_up(self) -> None:
        """Process the bytes that have arrived."""
        arrived, self._arrived = self._arrived, []
        for data, at in arrived:
            if self._ended is None:
                self.abort()
                return
            try:
                self._process(data, at)
            except Exception as error:
                self._fail(error)
        frames, reading = self._frames, self._reading
        if frames is not None and frames.stamps and reading is not None:  # its next deadline
            reading.last_token = frames.stamps[-1]

    def eof_received(self) -> None:
        """Process the end of what the server sends (asyncio)."""
        self.catch_up()
        if self._ended is None or self._ended.done():
            return
        try:
            self._process(b"", self._now())
        except Exception as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        """End the request if the connection was lost (asyncio)."""
        self.catch_up()
        if self._ended is not None and not self._ended.done():
            if error is None:
                self.eof_received()
            else:
                lost = httpx2.ReadError(str(error))
                lost.__cause__ = error
                self._fail(lost)
        self._closed(self)

    def _is_early(self) -> bool:
        transport = self.transport
        return (
            transport is None
            or self._socket is None
            or transport.get_write_buffer_size() > 0
            or has_unacknowledged(self._socket)
        )

    def _process(self, data: bytes, at: int) -> None:
        """Parse bytes that arrived at `at`; no bytes mean the end of the connection."""
        parser, exchange = self._parser, self._exchange
        self._read_frames()
        if self._is_done():
            self._is_closing = True  # more than the response
            return
        parser.feed(data)
        if self._is_tunnel:
            if parser.status:
                self._end(None)
            return
        assert exchange is not None, "a request has been sent"
        if exchange.headers is None:
            if not parser.status:
                return
            self._begin_response(exchange, at)
        body, reader = parser.take_body(), self._reader
        assert reader is not None, "a request has been sent"
        if self._receiver is not None:
            self._pass_on(self._receiver, body, at)
        elif self._encoded is not None:
            self._encoded.add(body, is_last=parser.complete)
        elif self._refusal is not None:
            self._refusal += body[: exchange.terms.limits.body - len(self._refusal)]
            if parser.complete:
                self._end(self._refused(exchange, self._refusal))
        elif (body and not exchange.received(body, at, is_last=parser.complete)) or parser.complete:
            self._end(exchange.finish())
        elif self._tries < _MOST_TRIES and ends_with_chunk(data, body):
            self._collect()

    def _pass_on(self, receiver: ResponseReceiver, body: bytes, at: int) -> None:
        """Give the receiver a part of the body, unless it has to be decoded or is a redirect."""
        is_last = self._parser.complete or self._is_head
        if self._is_followed():
            if is_last:
                self._end(None)
        elif self._encoded is not None:
            self._encoded.add(body, is_last=is_last)
        elif (body and not receiver.received(body, at, is_last=is_last)) or is_last:
            self._end(receiver.finish())
        elif receiver.waits_for_room(self._resume):
            self._pause()

    def _pause(self) -> None:
        """Read no more until the reader of the response has room."""
        transport, exchange = self.transport, self._exchange
        if not self._is_paused and self.is_open and transport is not None and exchange is not None:
            self._is_paused = True
            transport.pause_reading()
            exchange.pause_reading()
            asyncio.get_running_loop().call_later(ROOM_CHECK_SECONDS, self._look_for_room)

    def _look_for_room(self) -> None:
        """Read on if the reader was dropped, which calls nothing."""
        receiver = self._receiver
        if receiver is None or not receiver.waits_for_room(self._resume):
            self._resume()
        elif self._is_paused:
            asyncio.get_running_loop().call_later(ROOM_CHECK_SECONDS, self._look_for_room)

    def _resume(self) -> None:
        if not self._is_paused:
            return
        self._is_paused = False
        if self._exchange is not None:
            self._exchange.resume_reading()
        if self.transport is not None and self.is_open:
            self.transport.resume_reading()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def _decoded(self, encoded: _EncodedBody, reader: ResponseReader) -> Reply:
        """Read a body that has to be decoded, and return the reply."""
        receiver = self._receiver
        async for data in encoded.pieces():
            if not reader.received(data, self._now()):
                break
            if receiver is not None and receiver.waits_for_room(self._resume):
                self._pause()
            if self._is_paused:
                self._room = asyncio.get_running_loop().create_future()
                await self._room
            else:
                await asyncio.sleep(0)  # other attempts go on
        return reader.finish()

    def _collect(self) -> None:
        """Collect the pieces to come, as long as they have the form that is known by now."""
        reading = self._reading
        if reading is None or reading.last_token is None:
            return
        before, after = reading.chunks_around
        if before:
            self._tries += 1
            self._frames = FramedChunks(before, after, reading.last_token)

    def _read_frames(self) -> None:
        """Read the chunks that were collected."""
        frames, reading = self._frames, self._reading
        self._frames = None
        if frames is None or not frames.stamps:
            return
        assert reading is not None, "they belong to a response"
        reading.last_token = frames.since
        if reading.take_alike(frames.texts, frames.stamps):
            self._tries = 0 if len(frames.stamps) > _MOST_TRIES else self._tries
            return
        tries, self._tries = self._tries, _MOST_TRIES  # none are collected meanwhile
        for text, at in zip(frames.texts, frames.stamps, strict=True):
            self._process(frames.chunk(text), at)
        self._tries = tries

    def _begin_response(self, exchange: Exchange, at: int) -> None:
        status, headers = self._parser.status, _by_name(self._parser.headers)
        exchange.note_response(status, headers, at)
        if self._receiver is not None:
            self._begin_receiving(self._receiver, exchange)
            return
        if of_status(status) != OK:
            self._refusal = bytearray()
            return
        exchange.begin_reading(self._path)
        self._reading = exchange.reading
        if exchange.decodes:
            self._encoded = _EncodedBody(status, self._parser.headers)
            self._end(None)

    def _begin_receiving(self, receiver: ResponseReceiver, exchange: Exchange) -> None:
        """Give the receiver the head of a response."""
        if self._is_followed():
            return
        status, headers = self._parser.status, self._parser.headers
        head = httpx2.Response(status, headers=headers, stream=_NO_BODY)  # without it, 0.1 ms more
        receiver.begin(head)
        if is_encoded(exchange.response_headers):
            self._encoded = _EncodedBody(status, headers)
            self._end(None)

    def _is_followed(self) -> bool:
        """Return whether the response is a redirect that is followed."""
        exchange = self._exchange
        if not self._follows or exchange is None or self._parser.status not in _REDIRECTS:
            return False
        return "location" in exchange.response_headers

    def _refused(self, exchange: Exchange, body: bytearray) -> Reply | None:
        return None if self._is_followed() else exchange.refused(bytes(body))

    def _encoded_body(self) -> _EncodedBody | None:
        return self._encoded

    def _is_done(self) -> bool:
        ended = self._ended
        return self._encoded is None and ended is not None and ended.done()

    def _end(self, reply: Reply | None) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(reply)

    def _fail(self, error: Exception) -> None:
        self._is_closing = True
        if self._encoded is not None:
            self._encoded.fail(error)
        elif self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
        self.abort()
