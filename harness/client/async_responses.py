"""Responses in an event loop: receiving them, and passing them on to the caller of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import httpx2

from harness.client.calls import ClientCall, PassedResponse, ReceivedResponse
from harness.engine.branches import Branch
from harness.engine.call import Completion
from harness.engine.effects import Reply
from harness.transports.exchange import is_encoded

RunCall = Callable[[ClientCall, Branch], Awaitable[Completion]]
"""Runs the program of a call."""
Spawn = Callable[[Coroutine[Any, Any, None], Branch], None]
"""Runs steps in a task of their own, which the cancellation of the branch ends."""


MOST_WAITING = 1024 * 1024
"""Bytes of a response that wait for its reader; with more, no more is received meanwhile."""

_LOOK_EVERY = 0.1
"""Seconds between two looks whether a program has dropped a response that waits for its reader."""


class _Pieces:
    """A queue of what a reader of a response gets: bytes, an exception, and None at the end."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._size = 0
        self._room: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the reader that no more should be received."""
        return self._size > MOST_WAITING

    def put_nowait(self, item: bytes | Exception | None, /) -> None:
        """Add an item, also if the queue is full."""
        if isinstance(item, bytes):
            self._size += len(item)
        self._queue.put_nowait(item)

    async def get(self) -> bytes | Exception | None:
        """Wait for the next item and return it."""
        item = await self._queue.get()
        if isinstance(item, bytes):
            self._size -= len(item)
        if self._room is not None and not self.is_full and not self._room.done():
            self._room.set_result(None)
        return item

    async def room(self) -> None:
        """Wait until the queue is not full, or for `_LOOK_EVERY` seconds."""
        self._room = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._room,), timeout=_LOOK_EVERY)


class _Body(httpx2.AsyncByteStream):
    """The body of a response that is still arriving."""

    def __init__(self, passed: PassedResponse, queue: _Pieces) -> None:
        self._passed = passed
        self._queue = queue

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
        self._queue.put_nowait(None)  # for another reader

    async def aclose(self) -> None:
        self._passed.close()

    def __del__(self) -> None:
        self._passed.abandoned = True


class _Answer:
    """The response that a caller waits for, or an error.

    Nothing refers to the response after it has been taken, so that dropping it is noticed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ready: asyncio.Future[None] = loop.create_future()
        self._given: list[httpx2.Response | Exception] = []

    def give(self, result: httpx2.Response | Exception) -> None:
        """Wake the caller; has no effect if it is gone or has been given something."""
        if not self.ready.done():
            self._given.append(result)
            self.ready.set_result(None)

    def hand_over(self, received: ReceivedResponse) -> PassedResponse:
        """Give the caller a response that is still arriving."""
        queue = _Pieces()
        passed = PassedResponse(queue, received)
        self.give(received.arriving(_Body(passed, queue)))
        return passed

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
    branch, answer = Branch(), _Answer(asyncio.get_running_loop())
    call.hand_over = answer.hand_over
    spawn(_run(call, branch, answer, run), branch)
    try:
        return await answer.taken()
    except asyncio.CancelledError:
        branch.cancel()
        raise


async def _run(call: ClientCall, branch: Branch, answer: _Answer, run: RunCall) -> None:
    try:
        completion = await run(call, branch)
        if call.passed is None:
            answer.give(call.result(completion))
    except Exception as error:
        answer.give(error)
    finally:
        answer.ready.cancel()  # only if nothing was given: the loop is closing


async def _wait_for_room(passed: PassedResponse, received: ReceivedResponse) -> None:
    """Wait as long as too much of a response waits for its reader."""
    queue = passed.queue
    assert isinstance(queue, _Pieces), "hand_over() has made it"
    while queue.is_full and not passed.abandoned:
        with received.exchange.reading_paused():
            await queue.room()


async def receive(
    http: httpx2.AsyncClient,
    request: httpx2.Request,
    received: ReceivedResponse,
    *,
    follow_redirects: bool = False,
) -> Reply:
    """Send the request of an attempt, and receive the response to it."""
    try:
        response = await http.send(request, stream=True, follow_redirects=follow_redirects)
        try:
            received.begin(response)
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            body = response.aiter_bytes() if is_encoded(response.headers) else response.stream
            async for data in body:
                if not received.take(data):
                    break
                if (passed := received.passed) is not None:
                    await _wait_for_room(passed, received)
            return received.finish()
        finally:
            await response.aclose()
    except Exception as error:
        received.fail(error)
        raise
