"""An asyncio loop in virtual time: if no task is ready, the clock jumps to the next event.

The loop never waits. asyncio asks the selector to wait until the next timer, and the selector
advances the clock instead. If asyncio asks it to wait without a timer, and no event is scheduled,
there is a deadlock. `run_in_executor` runs its function at once, in the thread of the loop.

asyncio uses floating-point seconds. They represent nanoseconds exactly for up to 104 days (2^53
ns), so each time is converted back to its integer without error.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NoReturn, Protocol

from harness.records.clock import SECOND
from harness.records.errors import HarnessError
from harness.simulator.virtual.clock import VirtualClock

_ITERATIONS = 256
"""Iterations between two checks of the real file descriptors, through which signals arrive."""


class DeadlockError(HarnessError):
    """Every task waits, and no event or timer can end a wait. `now`: the virtual time."""

    def __init__(self, now: int, why: str) -> None:
        super().__init__(f"deadlock after {now / SECOND:g} virtual seconds: {why}")


class Events(Protocol):
    """A source of events besides the loop's own timers."""

    def next_at(self) -> int | None:
        """Return the time of the next event; None if there is none."""
        ...

    def happen(self, now: int) -> None:
        """Process the events until `now`."""
        ...


class _Jumping(selectors.DefaultSelector):
    """A selector that advances the clock instead of waiting."""

    def __init__(self, clock: VirtualClock, events: Events) -> None:
        super().__init__()
        self._clock = clock
        self._events = events
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turns += 1
        if self._turns % _ITERATIONS == 0 and (ready := super().select(0)):
            return ready
        if timeout is not None and timeout <= 0:
            return []
        now, due = self._clock.now(), self._events.next_at()
        timer = None if timeout is None else now + round(timeout * SECOND)
        if due is not None and (timer is None or due <= timer):
            self._clock.go_to(due)
            self._events.happen(self._clock.now())
        elif timer is not None:
            self._clock.go_to(timer)
        else:
            return super().select(0) or self._give_up()
        return []

    def _give_up(self) -> NoReturn:
        why = "every task waits for another and no timer is set"
        raise DeadlockError(self._clock.now(), why)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock. `run_until_complete` can raise DeadlockError.

    At equal times, `events` come before the loop's timers.
    """

    def __init__(self, clock: VirtualClock, events: Events) -> None:
        super().__init__(_Jumping(clock, events))
        self._clock = clock
        # Half a nanosecond, so that no timer is due one nanosecond early.
        self._clock_resolution = 0.5 / SECOND

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._clock.now() / SECOND

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call `func` at once, because another thread cannot use the virtual clock."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done
