"""Runs a program with asyncio: a task for each branch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from harness.clock import SECOND, Now
from harness.drivers.permits import AsyncPermits
from harness.records import Record
from harness.workflow import effects
from harness.workflow.effects import Effect, Finished, Program, Reply, Send, step

T = TypeVar("T")


class AsyncWorld(NamedTuple):
    """What the effects act upon."""

    now: Now
    permits: AsyncPermits
    send: Callable[[Send], Awaitable[Reply]]
    emit: Callable[[Record], None]


async def run_async(program: Program[T], world: AsyncWorld) -> T:
    """Run `program` to its end and return its result; permits it still holds go back."""
    held = 0
    result: Any = None
    try:
        while True:
            asked = step(program, result)
            if isinstance(asked, Finished):
                value: T = asked.value
                return value
            result = await _perform(asked, world)
            if isinstance(asked, effects.Acquire):
                held += result.granted is not None
            elif isinstance(asked, effects.Release):
                held -= 1
    finally:
        program.close()
        for _ in range(held):
            world.permits.release()


async def _perform(asked: Effect, world: AsyncWorld) -> Any:
    match asked:
        case effects.Now():
            return world.now()
        case effects.Acquire():
            return await world.permits.acquire(asked.deadline)
        case effects.Release():
            return world.permits.release()
        case effects.Send():
            return await world.send(asked)
        case effects.Sleep():
            # A loop's timer may be a little early.
            while (now := world.now()) < asked.until:  # noqa: ASYNC110 - time, not an event
                await asyncio.sleep((asked.until - now) / SECOND)
            return now
        case effects.Emit():
            return world.emit(asked.record)
        case effects.FanOut():
            return await _side_by_side(asked.branches, world)


async def _side_by_side(branches: tuple[Program[Any], ...], world: AsyncWorld) -> list[Any]:
    """Run each branch in a task of its own; when one raises, the others are cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run_async(branch, world)) for branch in branches]
    except BaseExceptionGroup as raised:
        raise raised.exceptions[0] from None
    return [task.result() for task in tasks]
