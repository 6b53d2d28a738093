"""Permits go to whoever came first, never more at once than there are, and none is ever lost."""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from harness.engine.branches import Branch
from harness.engine.effects import Grant, Park
from harness.engine.permits import AsyncPermits, PermitQueue, ThreadPermits, Turns
from harness.records.clock import SECOND, monotonic_since, take_anchor

real_now = monotonic_since(take_anchor())
PATIENCE = 20


def still(time: int) -> Callable[[], int]:
    """A clock that stands."""
    return lambda: time


# --- the line itself


@given(
    permits=st.integers(1, 3),
    steps=st.lists(st.sampled_from(["ask", "give back", "leave first", "leave last"])),
)
def test_the_line_serves_in_order_and_keeps_count(permits: int, steps: list[str]) -> None:
    line: PermitQueue[int] = PermitQueue(permits)
    names = itertools.count()
    held, waiting = 0, deque[int]()
    for step in steps:
        if step == "ask":
            if line.take():
                assert not waiting
                held += 1
            else:
                assert held == permits
                waiting.append(next(names))
                line.queue(waiting[-1])
        elif step == "give back" and held:
            served = line.give_back()
            assert served == (waiting.popleft() if waiting else None)
            held -= served is None
        elif step.startswith("leave") and waiting:
            gone = waiting.popleft() if step == "leave first" else waiting.pop()
            assert line.leave(gone)
            assert not line.leave(gone)
    assert held <= permits


# --- tasks


class Tasks(RuleBasedStateMachine):
    """Tasks that ask, give back, park, and are interrupted or cancelled at any moment."""

    @initialize(permits=st.integers(1, 3))
    def begin(self, permits: int) -> None:
        self.permits = permits
        self.line = AsyncPermits(permits, still(0))
        self.loop = asyncio.new_event_loop()
        self.asking: dict[int, asyncio.Task[None]] = {}
        self.branches: dict[int, Branch] = {}
        self.parked: set[int] = set()
        self.interrupted: list[asyncio.Task[None]] = []
        self.held: list[int] = []
        self.rings = 0
        self.names = itertools.count()

    def start(self, waiting: Callable[[Branch], Coroutine[Any, Any, Grant]]) -> int:
        name, branch = next(self.names), Branch()
        self.branches[name] = branch
        self.asking[name] = self.loop.create_task(self.hold(name, waiting, branch))
        return name

    async def hold(
        self, name: int, waiting: Callable[[Branch], Coroutine[Any, Any, Grant]], branch: Branch
    ) -> None:
        grant = await waiting(branch)
        if not branch.cancelled:
            assert (grant.requested, grant.granted) == (0, 0)
            self.held.append(grant.rings)
        elif grant.granted is not None:
            self.line.release()
        del self.asking[name]
        self.parked.discard(name)

    @rule()
    def ask(self) -> None:
        self.start(lambda branch: self.line.acquire(None, branch))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99))
    def give_back(self, which: int) -> None:
        del self.held[which % len(self.held)]
        self.line.release()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), until=st.sampled_from([None, 0]))
    def park(self, which: int, until: int | None) -> None:
        """Whoever is parked gives its permit back, unless a bell has rung since it came."""
        rings = self.held.pop(which % len(self.held))
        asked = Park("bell", until, None, keep=False, rings=rings)
        name = self.start(lambda branch: self.line.park(asked, branch))
        self.go_on()
        if until is None and rings == self.rings and name in self.asking:
            self.parked.add(name)

    @rule()
    def ring(self) -> None:
        self.rings += 1
        self.line.ring("bell")
        self.parked.clear()

    @precondition(lambda self: self.asking)
    @rule(which=st.integers(0, 99))
    def interrupt(self, which: int) -> None:
        name = list(self.asking)[which % len(self.asking)]
        task = self.asking.pop(name)
        self.parked.discard(name)
        task.cancel()
        self.interrupted.append(task)

    @precondition(lambda self: self.asking)
    @rule(which=st.integers(0, 99))
    def cancel(self, which: int) -> None:
        name = list(self.asking)[which % len(self.asking)]
        self.parked.discard(name)
        self.branches[name].cancel()

    @rule()
    def go_on(self) -> None:
        """Let the loop turn once only, so that much is half done when it stops."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def settle(self) -> None:
        for _ in range(10):
            self.go_on()

    @invariant()
    def no_more_are_held_than_there_are(self) -> None:
        assert len(getattr(self, "held", [])) <= getattr(self, "permits", 0)

    @rule()
    def come_to_rest(self) -> None:
        """Then every permit is held, or nobody waits for one."""
        self.settle()
        assert len(self.held) == self.permits or not self.asking.keys() - self.parked

    def teardown(self) -> None:
        for task in self.asking.values():
            task.cancel()
        self.interrupted += self.asking.values()
        self.asking.clear()
        self.parked.clear()
        self.settle()
        assert all(task.cancelled() for task in self.interrupted)  # none was swallowed
        for _ in self.held:
            self.line.release()
        self.held.clear()
        for _ in range(self.permits):  # none was lost, and none was made
            self.ask()
        extra = self.loop.create_task(self.line.acquire(None))
        self.settle()
        assert len(self.held) == self.permits
        assert not extra.done()
        extra.cancel()
        self.settle()
        self.loop.close()


TestTasks = Tasks.TestCase


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def asking(line: AsyncPermits, served: list[str], name: str) -> asyncio.Task[None]:
    async def ask() -> None:
        await line.acquire(None)
        served.append(name)

    return asyncio.create_task(ask())


async def test_tasks_are_served_in_the_order_they_asked() -> None:
    line = AsyncPermits(1, still(0))
    await line.acquire(None)
    served: list[str] = []
    tasks = [asking(line, served, name) for name in "abcd"]
    await settle()
    for count in range(1, 5):
        line.release()
        await settle()
        assert served == list("abcd"[:count])
    await asyncio.gather(*tasks)


async def test_nobody_overtakes_a_task_that_waits() -> None:
    line = AsyncPermits(1, still(0))
    await line.acquire(None)
    served: list[str] = []
    first = asking(line, served, "first")
    await settle()
    line.release()
    second = asking(line, served, "second")  # before the first has even noticed
    await settle()
    assert served == ["first"]
    line.release()
    await asyncio.gather(first, second)


async def test_a_permit_that_comes_together_with_a_cancellation_goes_to_the_next() -> None:
    line = AsyncPermits(1, still(0))
    await line.acquire(None)
    served: list[str] = []
    first, second = asking(line, served, "first"), asking(line, served, "second")
    await settle()
    line.release()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert served == ["second"]
    await second


async def test_a_whole_fan_out_asks_before_its_first_attempt_goes_out() -> None:
    line = AsyncPermits(2, still(0))
    log: list[str] = []

    async def branch(name: str) -> None:
        log.append(f"{name} asks")
        await line.acquire(None)
        log.append(f"{name} sends")

    await asyncio.gather(branch("a"), branch("b"))
    assert log == ["a asks", "b asks", "a sends", "b sends"]


async def test_a_task_waits_for_a_permit_until_its_deadline_and_leaves_the_line() -> None:
    line = AsyncPermits(1, real_now)
    await line.acquire(None)
    deadline = real_now() + SECOND // 50
    assert (await line.acquire(deadline)).granted is None
    assert real_now() >= deadline
    line.release()
    assert (await line.acquire(None)).granted is not None


# --- threads


def in_threads(*work: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_no_more_threads_hold_a_permit_than_there_are() -> None:
    line = ThreadPermits(3, real_now)
    counting = threading.Lock()
    full = threading.Barrier(3)  # three hold one at the same time: fewer would hang here
    held = most = 0

    def work() -> None:
        nonlocal held, most
        line.acquire(0, None)
        with counting:
            held += 1
            most = max(most, held)
        full.wait(PATIENCE)
        with counting:
            held -= 1
        line.release()

    join(in_threads(*[work] * 12))
    assert most == 3


def test_a_thread_waits_for_a_permit_until_its_deadline_and_leaves_the_line() -> None:
    line = ThreadPermits(1, real_now)
    line.acquire(0, None)
    deadline = real_now() + SECOND // 50
    assert line.acquire(0, deadline).granted is None
    assert real_now() >= deadline
    line.release()
    assert line.acquire(0, real_now() + PATIENCE * SECOND).granted is not None


def test_a_permit_that_comes_at_the_deadline_is_had_or_passed_on_but_never_lost() -> None:
    line = ThreadPermits(1, real_now)
    for _ in range(200):
        assert line.acquire(0, real_now() + PATIENCE * SECOND).granted is not None
        grants: list[Grant] = []
        deadline = real_now() + SECOND // 5000
        threads = in_threads(lambda: grants.append(line.acquire(0, deadline)), line.release)  # noqa: B023
        join(threads)
        if grants[0].granted is not None:
            line.release()


def test_whoever_is_cancelled_stops_waiting_at_once() -> None:
    line = ThreadPermits(1, real_now)
    line.acquire(0, None)
    branches = [Branch() for _ in range(3)]
    grants: list[Grant] = []

    def wait(branch: Branch) -> None:
        grants.append(line.acquire(0, None, branch))

    threads = in_threads(*(functools.partial(wait, branch) for branch in branches))
    for branch in branches:
        branch.cancel()
    join(threads)
    assert [grant.granted for grant in grants] == [None] * 3


# --- parked


def test_a_bell_that_rang_after_the_permit_came_is_not_missed() -> None:
    """Whoever decided to park under that permit cannot know whether it was its own."""
    line = ThreadPermits(1, still(7))
    grant = line.acquire(0, None)
    line.ring("any")
    assert line.park(Park("bell", None, None, False, grant.rings), Branch()) == Grant(7, 7, 1)

    async def in_tasks() -> None:
        line = AsyncPermits(1, still(7))
        grant = await line.acquire(None)
        line.ring("any")
        asked = Park("bell", None, None, keep=False, rings=grant.rings)
        assert await line.park(asked, Branch()) == Grant(7, 7, 1)

    asyncio.run(in_tasks())


def test_those_who_are_due_stand_in_line_in_the_order_in_which_they_were_parked() -> None:
    """And not in the order in which their threads or timers happen to wake."""
    line: PermitQueue[str] = PermitQueue(0)
    for name in "abcd":
        line.park(name, "bell", {"a": 5, "b": None, "c": 4, "d": 5}[name])
    line.park("e", "other bell", 5)
    assert line.due("bell", 3) == []
    assert line.due("bell", 5) == ["a", "c", "d"]
    assert line.unpark("b", "bell")
    assert not line.unpark("a", "bell")
    assert line.due("bell", None) == []
    assert line.due("other bell", None) == ["e"]


# --- all of them


ACQUIRES: dict[str, Callable[[int | None], Grant]] = {
    "tasks": lambda deadline: asyncio.run(_run(AsyncPermits(1, still(7)).acquire(deadline))),
    "threads": lambda deadline: ThreadPermits(1, still(7)).acquire(3, deadline),
    "turns": lambda deadline: Turns(still(7)).acquire(3, deadline),
}


async def _run(coroutine: Coroutine[Any, Any, Grant]) -> Grant:
    return await coroutine


@pytest.mark.parametrize("way", ACQUIRES)
@pytest.mark.parametrize(("deadline", "granted"), [(None, 7), (8, 7), (7, None), (2, None)])
def test_a_permit_is_for_those_who_are_in_time(
    way: str, deadline: int | None, granted: int | None
) -> None:
    assert ACQUIRES[way](deadline).granted == granted


def test_who_makes_one_call_after_another_has_waited_for_its_turn_since_it_was_ready() -> None:
    turns = Turns(still(7))
    assert turns.acquire(3, None) == Grant(3, 7)
    turns.release()
    assert ThreadPermits(1, still(7)).acquire(3, None) == Grant(7, 7)
