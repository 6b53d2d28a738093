"""Permits: at most so many attempts in flight in the whole process, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque

from harness.clock import SECOND, Now
from harness.workflow.effects import Grant


class AsyncPermits:
    """Permits for the tasks of one event loop.

    A waiter that gives up leaves the queue; the permit that is freed goes to the next in line and
    to nobody who comes later.
    """

    def __init__(self, permits: int, now: Now) -> None:
        self._free = permits
        self._now = now
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self, deadline: int | None) -> Grant:
        """Wait for a permit, until `deadline` at most; `granted` is None if that came first."""
        requested = self._now()
        if self._free > 0:
            self._free -= 1
            return Grant(requested, requested)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        wait = None if deadline is None else (deadline - requested) / SECOND
        try:
            await asyncio.wait_for(turn, wait)
        except TimeoutError:
            return Grant(requested, None)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the permit came together with the cancellation
            raise
        return Grant(requested, self._now())

    def release(self) -> None:
        """Hand the permit to the next in line."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
