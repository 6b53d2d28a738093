"""Permits: at most so many attempts in flight in the whole process, first come first served.

Who gets the next permit is decided by `Line`, which never waits; the classes below wait for it,
one for each way of waiting.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Generic, TypeVar

from harness.clock import SECOND, Now
from harness.workflow.effects import Grant

Ticket = TypeVar("Ticket")


class Line(Generic[Ticket]):
    """Free permits and those who wait for one, in the order they came."""

    def __init__(self, permits: int) -> None:
        self._free = permits
        self._waiting: deque[Ticket] = deque()

    def take(self) -> bool:
        """Take a free permit if there is one; as long as anybody waits there is none."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def queue(self, ticket: Ticket) -> None:
        """Wait at the end of the line."""
        self._waiting.append(ticket)

    def leave(self, ticket: Ticket) -> bool:
        """Stop waiting; False when the ticket is no longer in the line, so its turn had come."""
        try:
            self._waiting.remove(ticket)
        except ValueError:
            return False
        return True

    def give_back(self) -> Ticket | None:
        """Return the ticket whose turn it is with this permit; None when nobody waits."""
        if self._waiting:
            return self._waiting.popleft()
        self._free += 1
        return None


def _too_late(now: int, deadline: int | None) -> bool:
    return deadline is not None and now >= deadline


class AsyncPermits:
    """Permits for the tasks of one event loop."""

    def __init__(self, permits: int, now: Now) -> None:
        self._line: Line[asyncio.Future[None]] = Line(permits)
        self._now = now

    async def acquire(self, deadline: int | None) -> Grant:
        """Wait for a permit, until `deadline` at most; `granted` is None if that came first."""
        requested = self._now()
        if _too_late(requested, deadline):
            return Grant(requested, None)
        if self._line.take():
            await self._let_others_ask()
            return Grant(requested, requested)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.queue(turn)
        wait = None if deadline is None else (deadline - requested) / SECOND
        try:
            await asyncio.wait([turn], timeout=wait)
        except asyncio.CancelledError:
            if not self._line.leave(turn):
                self.release()  # the permit came together with the cancellation
            raise
        if self._line.leave(turn):
            return Grant(requested, None)
        return Grant(requested, self._now())

    async def _let_others_ask(self) -> None:
        """Let every branch of a fan-out ask for its permit before the first builds its request.

        Building takes a millisecond and more; without this it would delay the siblings' asking,
        where no wait accounts for it, instead of their sending, where the client wait does.
        """
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.release()
            raise

    def release(self) -> None:
        """Hand the permit to the next in line."""
        turn = self._line.give_back()
        if turn is not None:
            turn.set_result(None)


class ThreadPermits:
    """Permits for the threads of a process."""

    def __init__(self, permits: int, now: Now) -> None:
        self._line: Line[threading.Event] = Line(permits)
        self._lock = threading.Lock()
        self._now = now

    def acquire(self, ready: int, deadline: int | None) -> Grant:
        """Wait for a permit, until `deadline` at most; `granted` is None if that came first."""
        requested = self._now()
        if _too_late(requested, deadline):
            return Grant(requested, None)
        with self._lock:
            if self._line.take():
                return Grant(requested, requested)
            turn = threading.Event()
            self._line.queue(turn)
        turn.wait(None if deadline is None else (deadline - requested) / SECOND)
        with self._lock:
            if self._line.leave(turn):
                return Grant(requested, None)
        return Grant(requested, self._now())

    def release(self) -> None:
        """Hand the permit to the next in line."""
        with self._lock:
            turn = self._line.give_back()
        if turn is not None:
            turn.set()

    def wake_all(self) -> None:
        """End every wait of a run that has been stopped: whoever waited goes on, to its end."""
        with self._lock:
            waiting, self._line = self._line, Line(0)
        while (turn := waiting.give_back()) is not None:
            turn.set()


class Turns:
    """The one permit of a program that makes one call after another: its turn.

    Whoever is ready has been waiting for it since then, so the wait is counted from there.
    """

    def __init__(self, now: Now) -> None:
        self._now = now

    def acquire(self, ready: int, deadline: int | None) -> Grant:
        """Return at once; `granted` is None when the turn came after `deadline`."""
        now = self._now()
        return Grant(ready, None if _too_late(now, deadline) else now)

    def release(self) -> None:
        """The next call has its turn."""
