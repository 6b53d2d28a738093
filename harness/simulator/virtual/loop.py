"""An asyncio loop whose time jumps: when nothing is ready, it is at once the time of what is next.

It never waits for anything outside itself. The selector is asked how long to wait, and instead of
waiting it moves the clock; asked to wait for ever, it knows that nobody is left who could wake
anybody. What `run_in_executor` is given runs at once, in the loop's own thread.

asyncio keeps time in floating-point seconds. Those hold a nanosecond exactly for longer than a
month (2^53 ns is 104 days), so each moment is turned back into the integer that it came from.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, NoReturn, Protocol

from harness.records.clock import SECOND
from harness.records.errors import HarnessError
from harness.simulator.virtual.clock import VirtualClock

_LOOK_EVERY = 256
"""Turns of the loop between two looks at the real file descriptors: signals come that way."""


class DeadlockError(HarnessError):
    """Everything waits and nothing is left that could end a wait."""


class Events(Protocol):
    """What happens by itself, besides the loop's own timers."""

    def next_at(self) -> int | None:
        """Return the moment of the next one, None when there is none."""
        ...

    def happen(self, now: int) -> None:
        """Let happen what is due until `now`."""
        ...


class _Jumping(selectors.BaseSelector):
    """A selector that lets the clock jump where another would wait."""

    def __init__(self, clock: VirtualClock, events: Events) -> None:
        self._clock = clock
        self._events = events
        self._real = selectors.DefaultSelector()
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turns += 1
        if self._turns % _LOOK_EVERY == 0 and (ready := self._real.select(0)):
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
            return self._real.select(0) or self._give_up()
        return []

    def _give_up(self) -> NoReturn:
        raise DeadlockError(
            f"deadlock after {self._clock.now() / SECOND:g} virtual seconds: every task waits for "
            "another and no timer is set"
        )

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock. Raises DeadlockError out of `run_until_complete`.

    At one moment what happens among `events` comes before the loop's timers.
    """

    def __init__(self, clock: VirtualClock, events: Events) -> None:
        super().__init__(_Jumping(clock, events))
        self._clock = clock
        # Half a nanosecond: a timer is due at its own nanosecond and not at the one before.
        self._clock_resolution = 0.5 / SECOND

    def time(self) -> float:
        """Return virtual seconds."""
        return self._clock.now() / SECOND

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call `func` at once: another thread would know nothing of this clock."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done
