"""Waiting in tasks and in threads.

Code that waits is written once, as a generator that yields the time until which to wait. The
functions here run such a generator.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from typing import Protocol, TypeAlias, TypeVar

from harness.engine.branches import Branch
from harness.records.clock import SECOND, ReadClock

_T = TypeVar("_T")
Waits: TypeAlias = Generator[int | None, None, _T]
"""Yields the end of each wait; None waits until woken, after which waits end at once."""


class Turn:
    """A waiting ticket: how to wake it, since when it queues, and whether it keeps a permit.

    `served`: it got its permit from the queue.
    """

    __slots__ = ("keep", "requested", "served", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.requested: int | None = None
        self.keep = False
        self.served = False


def sleeping(turn: Turn, until: int) -> Waits[None]:
    """Wait until a time."""
    yield until


class _Alarm:
    """Wakes one task. Creates a future only when it has to wait."""

    __slots__ = ("_waiter", "woken")

    def __init__(self) -> None:
        self.woken = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """End the current wait and every later one."""
        self.woken = True
        self._go_on()

    async def wait(self, seconds: float | None) -> None:
        """Wait until woken, or for the given number of seconds."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._go_on)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _go_on(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def wait_async(waits: Callable[[Turn], Waits[_T]], branch: Branch, now: ReadClock) -> _T:
    """Run `waits` in a task. Waking it or cancelling the branch ends its wait."""
    alarm = _Alarm()
    steps = waits(Turn(alarm.wake))
    try:
        until = next(steps)
        with branch.waking(alarm.wake):
            while True:
                # Timers of the loop can fire a little early.
                while not alarm.woken and (until is None or now() < until):
                    await alarm.wait(None if until is None else (until - now()) / SECOND)
                until = next(steps)
    except StopIteration as end:
        value: _T = end.value
        return value
    finally:
        steps.close()


_LONGEST_WAIT = 0.25
"""The longest wait of the main thread, in seconds, before it handles signals."""


def wait_for_event(event: threading.Event, seconds: float | None = None) -> None:
    """Wait until `event` is set, for at most `seconds`, and in the main thread for a short time.

    The caller must check its condition and wait again. Python handles signals when the main thread
    runs next; a signal that another thread received, or that came just before the wait, does not
    end it.
    """
    if threading.current_thread() is threading.main_thread():
        seconds = _LONGEST_WAIT if seconds is None else min(_LONGEST_WAIT, seconds)
    event.wait(seconds)


class BlockingWait(Protocol):
    """The way in which blocking code waits."""

    def __call__(self, waits: Callable[[Turn], Waits[_T]], branch: Branch, now: ReadClock) -> _T:
        """Run `waits` and return its result."""
        ...


def wait_blocking(waits: Callable[[Turn], Waits[_T]], branch: Branch, now: ReadClock) -> _T:
    """Run `waits` in a thread. Waking it or cancelling the branch ends its wait."""
    woken = threading.Event()
    steps = waits(Turn(woken.set))
    try:
        until = next(steps)
        with branch.waking(woken.set):
            while True:
                while not woken.is_set() and (until is None or now() < until):
                    wait_for_event(woken, None if until is None else (until - now()) / SECOND)
                until = next(steps)
    except StopIteration as end:
        value: _T = end.value
        return value
    finally:
        steps.close()
