"""The interpreter for virtual time: exact times, a defined order, and clean ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.budget_gate import Gate
from harness.engine.effects import (
    Acquire,
    Cancelled,
    FanOut,
    Program,
    Reply,
    Send,
    acquire,
    fan_out,
    now,
    park,
    release,
    ring,
    sleep,
)
from harness.engine.ledger import Amount, BudgetLimits
from harness.engine.permits import Turnstile
from harness.records.clock import SECOND
from harness.records.schema import Record
from harness.simulator.virtual.clock import DeadlockError, VirtualClock
from harness.simulator.virtual.provider import VirtualProvider
from harness.simulator.virtual.scheduler import Scheduler
from tests.virtual.single import attempt, trial

T = TypeVar("T")


class Counting:
    """Counts attempts."""

    most = Amount()

    def worst(self, effect: Send) -> Amount:
        return Amount(1)

    def used(self, worst: Amount, reply: Reply) -> Amount:
        return Amount(1)


class World:
    """A scheduler with what it uses."""

    def __init__(self, permits: int = 1) -> None:
        self.clock = VirtualClock()
        self.records: list[Record] = []
        self.permits = Turnstile(permits, self.clock.now)
        self.gate = Gate(BudgetLimits(), Counting(), self.clock.now)
        self.scheduler = Scheduler(
            self.clock, VirtualProvider(trial()), self.permits, self.gate, self.records.append
        )

    def run(self, program: Program[T]) -> T:
        return self.scheduler.run(program)

    def free(self) -> int:
        """Take and count the free permits."""
        count = 0
        while (grant := self.permits.at_once(None)) is not None and grant.granted is not None:
            count += 1
        return count


def slept(wait: int) -> Program[int]:
    end = yield from sleep(wait)
    assert end == (yield from now())
    return end


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=200))
def test_every_sleep_ends_at_its_own_nanosecond(waits: list[int]) -> None:
    """Sleeps of up to 11 days, side by side, for longer than any test could wait."""
    world = World()
    assert world.run(fan_out([slept(wait) for wait in waits])) == waits
    assert world.clock.now() == max(waits)


def test_tasks_that_wake_at_one_time_continue_in_the_order_in_which_they_began_to_wait() -> None:
    woke: list[int] = []

    def waits(number: int) -> Program[None]:
        yield from sleep(number % 3)
        yield from sleep(SECOND)
        woke.append(number)

    World().run(fan_out([waits(number) for number in range(50)]))
    assert woke == sorted(range(50), key=lambda number: (number % 3, number))


def test_permits_are_granted_in_the_order_of_the_requests() -> None:
    granted: list[int] = []

    def asks(number: int) -> Program[None]:
        grant = yield from acquire(0, None)
        assert grant.granted == SECOND * (number // 2)
        granted.append(number)
        yield from sleep(grant.granted + SECOND)
        yield from release()

    world = World(permits=2)
    world.run(fan_out([asks(number) for number in range(9)]))
    assert granted == list(range(9))
    assert world.free() == 2


def test_a_permit_that_comes_too_late_is_none() -> None:
    def holds() -> Program[None]:
        yield from acquire(0, None)
        yield from sleep(10)
        yield from release()

    def asks(deadline: int) -> Program[tuple[int | None, int]]:
        grant = yield from acquire(0, deadline)
        at = yield from now()
        if grant.granted is not None:
            yield from release()
        return grant.granted, at

    def whole() -> Program[Any]:
        found = yield from fan_out([holds(), asks(9), asks(10), asks(11)])
        return found[1:]

    # At equal times, waits end in the order in which they began: the wait until 10 is the first.
    assert World().run(whole()) == [(None, 9), (None, 10), (10, 10)]


def test_a_bell_wakes_all_that_are_parked_and_a_late_time_in_the_heap_wakes_nobody_twice() -> None:
    ends: list[tuple[int, int]] = []

    def parks(number: int, until: int) -> Program[None]:
        grant = yield from acquire(0, None)
        grant = yield from park("bell", until, None, keep=False, rings=grant.rings)
        ends.append((number, (yield from now())))
        yield from sleep(100)  # beyond `until` of every other
        ends.append((number, (yield from now())))
        yield from release()

    def rings() -> Program[None]:
        yield from sleep(5)
        yield from ring("bell")

    world = World(permits=4)
    world.run(fan_out([parks(0, 3), parks(1, 50), parks(2, 5), rings()]))
    assert ends == [(0, 3), (2, 5), (1, 5), (0, 100), (2, 100), (1, 100)]
    assert world.free() == 4


@pytest.mark.parametrize("wait", [lambda: sleep(SECOND), lambda: acquire(0, None)])
def test_the_others_are_cancelled_when_the_results_are_enough(
    wait: Callable[[], Program[Any]],
) -> None:
    cancelled: list[int] = []

    def waits(number: int) -> Program[None]:
        try:
            yield from wait()
        except Cancelled:
            cancelled.append((yield from now()))
            raise

    def first() -> Program[int]:
        yield from acquire(0, None)
        yield from sleep(7)
        yield from release()
        return 1

    def whole() -> Program[list[Any]]:
        results: list[Any] = yield FanOut((first(), waits(1), waits(2)), lambda found: any(found))
        return results

    world = World(permits=1)
    world.run(whole())
    assert world.free() == 1
    # A permit that is released at 7 goes to the first that waits for one.
    assert cancelled
    assert set(cancelled) == {7}


def test_an_error_of_one_task_ends_all_and_gives_back_their_permits() -> None:
    closed: list[str] = []

    def sends() -> Program[None]:
        yield from acquire(0, None)
        try:
            yield attempt()
        finally:
            closed.append("sends")

    def waits() -> Program[None]:
        try:
            yield Acquire(0, None)
        finally:
            closed.append("waits")

    def fails() -> Program[None]:
        yield from sleep(3)
        raise ZeroDivisionError

    world = World()
    with pytest.raises(ZeroDivisionError):
        world.run(fan_out([sends(), waits(), fails()]))
    assert sorted(closed) == ["sends", "waits"]
    assert world.free() == 1
    assert world.gate.ledger.reserved.attempts == 0
    assert world.gate.ledger.spent.attempts == 1  # at its worst case


def test_a_deadlock_is_a_clear_error() -> None:
    def waits() -> Program[None]:
        yield from sleep(2 * SECOND)
        yield from acquire(0, None)
        yield from acquire(0, None)

    with pytest.raises(DeadlockError, match="deadlock after 2 virtual seconds"):
        World().run(waits())


def test_a_fan_out_without_branches_ends_at_once() -> None:
    assert World().run(fan_out([])) == []
