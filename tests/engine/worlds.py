"""Worlds made by hand, for programs that are run in every mode: no socket, and a real clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.blocking_interpreter import (
    BlockingWorld,
    a_thread_each,
    one_after_another,
    run_blocking,
)
from harness.engine.branches import Branch
from harness.engine.effects import Program, Reply, Send
from harness.engine.permits import AsyncPermits, ThreadPermits, Turns
from harness.records.clock import SECOND, monotonic_since, take_anchor
from harness.records.failures import CANCELLED
from harness.records.schema import Attempt, Call, Record
from tests.engine.scripted import Says, reply

clock = monotonic_since(take_anchor())
MS = SECOND // 1000
PATIENCE = 20


class World:
    """What a program did to the world: attempts sent and come back, and how many were out at once.

    `may_return`: whether an attempt comes back yet, asked again whenever something has changed;
    `says`: with what. An attempt shows text when it `shows` it, asked as often.
    """

    def __init__(
        self,
        permits: int,
        may_return: Callable[[Send], bool] = lambda _: True,
        says: Callable[[Send], Says] = lambda _: Says(),
        shows: Callable[[Send], bool] = lambda _: False,
    ) -> None:
        self.permits = permits
        self.may_return = may_return
        self.says = says
        self.shows = shows
        self.records: list[Record] = []
        self.sent: list[Send] = []
        self.returned: list[Send] = []
        self.most_out = 0
        self.changed = threading.Condition()

    @property
    def out(self) -> int:
        return len(self.sent) - len(self.returned)

    def send(self, effect: Send, branch: Branch) -> Reply:
        with branch.waking(self._something_changed), self.changed:
            self._leave(effect)
            assert self.changed.wait_for(lambda: self._is_back(effect, branch), PATIENCE)
            return self._come_back(effect, branch)

    async def send_async(self, effect: Send, branch: Branch) -> Reply:
        with self.changed:
            self._leave(effect)
        async with asyncio.timeout(PATIENCE):
            while not self._is_back(effect, branch):  # noqa: ASYNC110 - whatever the loop does
                await asyncio.sleep(0)
        with self.changed:
            return self._come_back(effect, branch)

    def _something_changed(self) -> None:
        """Wake the senders, from a thread of its own: whoever cancels holds locks."""
        threading.Thread(target=self._wake, name="news").start()

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _is_back(self, effect: Send, branch: Branch) -> bool:
        if self.shows(effect):
            branch.first_text()
        return branch.cancelled or self.may_return(effect)

    def _leave(self, effect: Send) -> None:
        self.sent.append(effect)
        self.most_out = max(self.most_out, self.out)
        self.changed.notify_all()

    def _come_back(self, effect: Send, branch: Branch) -> Reply:
        self.returned.append(effect)
        self.changed.notify_all()
        if branch.cancelled:
            return reply(Says(CANCELLED, detail="no longer wanted"), clock())
        return reply(self.says(effect), clock())

    @property
    def attempts(self) -> list[Attempt]:
        return [record for record in self.records if isinstance(record, Attempt)]

    @property
    def calls(self) -> list[Call]:
        return [record for record in self.records if isinstance(record, Call)]


def in_turn(program: Program[Any], world: World) -> Any:
    assert world.permits == 1
    stop = threading.Event()
    turns = Turns(clock)
    return run_blocking(
        program,
        BlockingWorld(clock, turns, world.send, world.records.append, one_after_another, stop),
    )


def in_threads(program: Program[Any], world: World) -> Any:
    line = ThreadPermits(world.permits, clock)
    stop = threading.Event()
    try:
        return run_blocking(
            program,
            BlockingWorld(clock, line, world.send, world.records.append, a_thread_each, stop),
        )
    finally:
        soon = clock() + PATIENCE * SECOND
        assert [line.acquire(0, soon).granted is None for _ in range(world.permits)] == [
            False
        ] * world.permits
        assert line.acquire(0, clock() + MS).granted is None  # none was lost, and none was made
        assert [each for each in threading.enumerate() if each.name.startswith("branch-")] == []


def in_tasks(program: Program[Any], world: World) -> Any:
    async def whole() -> Any:
        line = AsyncPermits(world.permits, clock)
        try:
            return await run_async(
                program, AsyncWorld(clock, line, world.send_async, world.records.append)
            )
        finally:
            soon = clock() + PATIENCE * SECOND
            for _ in range(world.permits):
                assert (await line.acquire(soon)).granted is not None
            assert (await line.acquire(clock() + MS)).granted is None
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(whole())


Way = Callable[[Program[Any], World], Any]
WAYS = {"sync": in_turn, "threads": in_threads, "async": in_tasks}
EVERY_WAY = pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)
SIDE_BY_SIDE = pytest.mark.parametrize("run", [in_threads, in_tasks], ids=["threads", "async"])
