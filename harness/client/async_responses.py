"""Responses in an event loop: receiving them, and passing them on to the caller of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import httpx2

from harness.client.calls import ClientCall, Outlet, PassedResponse, ReceivedResponse
from harness.engine.branches import Branch, do_nothing
from harness.engine.call import Completion
from harness.engine.effects import Reply
from harness.transports.exchange import is_encoded
from harness.transports.wire_connection import ROOM_CHECK_SECONDS

RunCall = Callable[[ClientCall, Branch], Awaitable[Completion]]
"""Runs the program of a call."""
Spawn = Callable[[Coroutine[Any, Any, None], Branch], None]
"""Runs steps in a task of their own, which the cancellation of the branch ends."""

TakeResult = Callable[[httpx2.Response | Exception | None], None]
"""Takes the response to a request when it begins, or what was raised instead.

None: there will be no result, because the event loop ends.
"""

MOST_WAITING = 1024 * 1024
"""Bytes of a response that wait for its reader; with more, no more is received meanwhile."""


class ArrivingPieces:
    """A queue of what a reader of a response gets: bytes, an exception, and None at the end."""

    def __init__(self) -> None:
        self.on_room: Callable[[], None] = do_nothing
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._size = 0
        self._outlet: Outlet | None = None

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the reader that no more should be received."""
        return self._size > MOST_WAITING if self._outlet is None else self._outlet.is_full

    def put_nowait(self, item: bytes | Exception | None, /) -> None:
        """Add an item, also if the queue is full."""
        if self._outlet is not None:
            self._outlet.put_nowait(item)
            return
        if isinstance(item, bytes):
            self._size += len(item)
        self._queue.put_nowait(item)

    async def get(self) -> bytes | Exception | None:
        """Wait for the next item and return it."""
        item = await self._queue.get()
        if isinstance(item, bytes):
            was_full = self.is_full
            self._size -= len(item)
            if was_full and not self.is_full:
                self.on_room()
        return item

    def lead_to(self, outlet: Outlet) -> None:
        """Put all items into an outlet, at once, now and later. Nothing else gets them."""
        outlet.on_room = lambda: self.on_room()
        while not self._queue.empty():
            outlet.put_nowait(self._queue.get_nowait())
        self._outlet = outlet
        if not outlet.is_full:
            self.on_room()


class ArrivingBody(httpx2.AsyncByteStream):
    """The body of a response that is still arriving: its pieces, and what they belong to."""

    def __init__(self, passed: PassedResponse, pieces: ArrivingPieces) -> None:
        self.pieces = pieces
        self._passed = passed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (item := await self.pieces.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
        self.pieces.put_nowait(None)  # for another reader

    async def aclose(self) -> None:
        """Cancel the attempt, unless its response is complete."""
        self._passed.close()

    def __del__(self) -> None:
        self._passed.abandoned = True


def start_call(
    call: ClientCall, run: RunCall, spawn: Spawn, take: TakeResult
) -> Callable[[], None]:
    """Start a call; return the function that cancels it, unless its response is complete."""
    branch = Branch()

    def hand_over(received: ReceivedResponse) -> PassedResponse:
        pieces = ArrivingPieces()
        passed = PassedResponse(pieces, received)
        take(received.arriving(ArrivingBody(passed, pieces)))
        return passed

    def cancel() -> None:
        if call.passed is None:
            branch.cancel()
        else:
            call.passed.close()

    call.hand_over = hand_over
    spawn(_run(call, branch, take, run), branch)
    return cancel


async def _run(call: ClientCall, branch: Branch, take: TakeResult, run: RunCall) -> None:
    result: httpx2.Response | Exception | None = None
    try:
        completion = await run(call, branch)
        if call.passed is None:
            result = call.result(completion)
    except Exception as error:
        result = error
    finally:
        if call.passed is None:
            take(result)


class _Answer:
    """The response that a caller waits for, or an error.

    Nothing refers to the response after it has been taken, so that dropping it is noticed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ready: asyncio.Future[None] = loop.create_future()
        self._given: list[httpx2.Response | Exception] = []

    def give(self, result: httpx2.Response | Exception | None) -> None:
        """Wake the caller; has no effect if it is gone. None: there is no result."""
        if result is None:
            self.ready.cancel()
        elif not self.ready.done():
            self._given.append(result)
            self.ready.set_result(None)

    async def taken(self) -> httpx2.Response:
        """Wait for the response and return it, or raise the error."""
        await self.ready
        result = self._given.pop()
        if isinstance(result, Exception):
            raise result
        return result


async def respond(call: ClientCall, run: RunCall, spawn: Spawn) -> httpx2.Response:
    """Return the response of the attempt that ended the call, or raise its error.

    If the caller is cancelled, the attempts are too.
    """
    answer = _Answer(asyncio.get_running_loop())
    cancel = start_call(call, run, spawn, answer.give)
    try:
        return await answer.taken()
    except asyncio.CancelledError:
        cancel()
        raise


async def _wait_for_room(received: ReceivedResponse) -> None:
    """Wait as long as too much of a response waits for its reader."""
    room = asyncio.Event()
    while received.waits_for_room(room.set):
        with received.exchange.reading_paused(), suppress(TimeoutError):
            await asyncio.wait_for(room.wait(), ROOM_CHECK_SECONDS)
        room.clear()


async def receive(
    http: httpx2.AsyncClient,
    request: httpx2.Request,
    received: ReceivedResponse,
) -> Reply:
    """Send the request of an attempt, and receive the response to it."""
    try:
        response = await http.send(request, stream=True, follow_redirects=False)
        try:
            received.begin(response)
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            body = response.aiter_bytes() if is_encoded(response.headers) else response.stream
            async for data in body:
                if not received.received(data, received.exchange.now()):
                    break
                await _wait_for_room(received)
            return received.finish()
        finally:
            await response.aclose()
    except Exception as error:
        received.fail(error)
        raise
