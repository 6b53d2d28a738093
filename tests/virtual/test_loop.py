from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.clock import SECOND
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.loop import DeadlockError, Events, VirtualLoop

T = TypeVar("T")


class Nothing:
    """No events of their own."""

    def next_at(self) -> int | None:
        return None

    def happen(self, now: int) -> None:
        raise AssertionError("there is nothing")


class Bells:
    """Events at given moments; keeps when they happened."""

    def __init__(self, clock: VirtualClock, *moments: int) -> None:
        self.left = list(moments)
        self.heard: list[tuple[int, int]] = []
        self.clock = clock

    def next_at(self) -> int | None:
        return self.left[0] if self.left else None

    def happen(self, now: int) -> None:
        while self.left and self.left[0] <= now:
            self.heard.append((self.left.pop(0), self.clock.now()))


def run(clock: VirtualClock, main: Coroutine[Any, Any, T], events: Events | None = None) -> T:
    loop = VirtualLoop(clock, events or Nothing())
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=20))
def test_every_sleep_ends_at_its_own_nanosecond(waits: list[int]) -> None:
    """Sleeps of up to 11 days, all at once, for longer than any test could wait."""
    clock = VirtualClock()

    async def sleep(wait: int) -> int:
        await asyncio.sleep(wait / SECOND)
        return clock.now()

    async def main() -> list[int]:
        return await asyncio.gather(*map(sleep, waits))

    assert run(clock, main()) == waits


def test_those_who_wake_at_one_moment_wake_in_the_same_order_again() -> None:
    woke: list[int] = []

    async def sleep(number: int) -> None:
        await asyncio.sleep(1)
        woke.append(number)

    async def main() -> None:
        await asyncio.gather(*map(sleep, range(5)))

    run(VirtualClock(), main())
    once, woke[:] = list(woke), []
    run(VirtualClock(), main())
    assert woke == once
    assert sorted(woke) == list(range(5))


def test_a_timeout_of_asyncio_is_exact() -> None:
    clock = VirtualClock()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.123456789):
                await asyncio.sleep(1)

    run(clock, main())
    assert clock.now() == 123_456_789


def test_events_happen_at_their_moment_and_before_timers_of_the_same() -> None:
    clock = VirtualClock()
    bells = Bells(clock, 5, 7, 7, 9)

    async def main() -> list[tuple[int, int]]:
        await asyncio.sleep(7 / SECOND)
        return list(bells.heard)

    assert run(clock, main(), bells) == [(5, 5), (7, 7), (7, 7)]
    assert clock.now() == 7


def test_a_deadlock_is_a_clear_error() -> None:
    async def main() -> None:
        await asyncio.sleep(2)
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="deadlock after 2 virtual seconds"):
        run(VirtualClock(), main())


def test_what_an_executor_is_given_is_done_at_once() -> None:
    async def main() -> tuple[int, int]:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(divmod, 1, 0)
        return await asyncio.to_thread(divmod, 7, 2)

    assert run(VirtualClock(), main()) == (3, 1)
