"""The interpreter for asyncio: each branch of a fan-out runs in a task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from harness.engine import effects
from harness.engine.branches import Branch, Course, Fork
from harness.engine.effects import Cancelled, Finished, Program, Reply, Send
from harness.engine.permits import AsyncPermits
from harness.records.clock import ReadClock
from harness.records.schema import Record

_T = TypeVar("_T")


class AsyncWorld(NamedTuple):
    """The resources that effects use: permits, transport, clock and recorder."""

    now: ReadClock
    permits: AsyncPermits
    send: Callable[[Send, Branch], Awaitable[Reply]]
    emit: Callable[[Record], None]


async def run_async(
    program: Program[_T], world: AsyncWorld, branch: Branch | None = None, held: int = 0
) -> _T:
    """Run `program` to its end and return its result; release the permits that it still holds.

    `held`: permits that the program holds at its start. Raises Cancelled if `branch` is cancelled
    and the program does not catch it.
    """
    branch = branch or Branch()
    course = Course(program, branch, world.permits.release, held)
    result: Any = None
    try:
        while not isinstance(asked := course.advance(result), Finished):
            if isinstance(asked, effects.AT_ONCE):
                result = course.done(asked, _act(asked, world))
            else:
                result = course.done(asked, await _wait(asked, world, branch))
        value: _T = asked.value
        return value
    finally:
        course.end()


def _act(asked: effects.AtOnce, world: AsyncWorld) -> Any:
    match asked:
        case effects.Emit():  # the most frequent first
            return world.emit(asked.record)
        case effects.Release():
            return world.permits.release()
        case effects.Now():
            return world.now()
        case effects.Ring():
            return world.permits.ring(asked.bell)


def _wait(
    asked: effects.Send | effects.Acquire | effects.FanOut | effects.Sleep | effects.Park,
    world: AsyncWorld,
    branch: Branch,
) -> Awaitable[Any]:
    match asked:
        case effects.Send():
            return world.send(asked, branch)
        case effects.Acquire():
            return world.permits.acquire(asked.deadline, branch)
        case effects.FanOut():
            return _side_by_side(Fork(asked), world, branch)
        case effects.Sleep():
            return world.permits.sleep(asked.until, branch)
        case effects.Park():
            return world.permits.park(asked, branch)


async def _side_by_side(fork: Fork, world: AsyncWorld, parent: Branch) -> list[Any]:
    """Run each branch in a task; if one raises, cancel the tasks of the others."""

    async def run(index: int, program: Program[Any], branch: Branch) -> None:
        try:
            fork.ended(index, await run_async(program, world, branch, fork.held(index)))
        except Cancelled:
            fork.ended(index, None)

    try:
        with parent.waking(fork.cancel):
            async with asyncio.TaskGroup() as group:
                for index, (program, branch) in enumerate(fork.parts):
                    group.create_task(run(index, program, branch))
    except BaseExceptionGroup as raised:
        raise raised.exceptions[0] from None
    return fork.results
