"""Waiting: the one thing that the modes do in different ways.

What waits is written once, as a generator that yields until when; here it is waited.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from typing import Protocol, TypeAlias, TypeVar

from harness.engine.branches import Branch
from harness.records.clock import SECOND, ReadClock

T = TypeVar("T")
Waits: TypeAlias = Generator[int | None, None, T]
"""Yields until when to wait, None for until it is woken. Once woken, no wait is one any more."""


class Turn:
    """One who waits: how to wake it, since when it stands in line, whether it keeps a permit."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.asked: int | None = None
        self.keep = False


def sleeping(turn: Turn, until: int) -> Waits[None]:
    """Wait until a moment."""
    yield until


class _Alarm:
    """Wakes one task. A loop makes a future dearer than a look whether one is needed."""

    __slots__ = ("_waiter", "woken")

    def __init__(self) -> None:
        self.woken = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """End the wait that there is, and every later one."""
        self.woken = True
        self._go_on()

    async def wait(self, seconds: float | None) -> None:
        """Wait until woken, or for so many seconds."""
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


async def wait_async(waits: Callable[[Turn], Waits[T]], branch: Branch, now: ReadClock) -> T:
    """Wait in a task, as `waits` says; whoever is woken or cancelled goes on at once."""
    alarm = _Alarm()
    steps = waits(Turn(alarm.wake))
    try:
        until = next(steps)
        with branch.waking(alarm.wake):
            while True:
                # A loop's timer may be a little early.
                while not alarm.woken and (until is None or now() < until):
                    await alarm.wait(None if until is None else (until - now()) / SECOND)
                until = next(steps)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()


_LOOK = 0.25
"""Seconds that the main thread waits at most before it looks up."""


def wait_for_event(event: threading.Event, seconds: float | None = None) -> None:
    """Wait until `event` is set, for so many seconds, or in the main thread a little while.

    Its caller looks again what it waits for. Signals are handled in the main thread, when that runs
    next: one that another thread took, or that came in the moment before a wait, ends no wait.
    """
    if threading.current_thread() is threading.main_thread():
        seconds = _LOOK if seconds is None else min(_LOOK, seconds)
    event.wait(seconds)


class BlockingWait(Protocol):
    """How blocking code waits."""

    def __call__(self, waits: Callable[[Turn], Waits[T]], branch: Branch, now: ReadClock) -> T:
        """Wait as `waits` says and return what comes of it."""
        ...


def wait_blocking(waits: Callable[[Turn], Waits[T]], branch: Branch, now: ReadClock) -> T:
    """Wait in a thread, as `waits` says; whoever is woken or cancelled goes on at once."""
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
        value: T = end.value
        return value
    finally:
        steps.close()
