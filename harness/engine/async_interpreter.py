"""The interpreter for asyncio: each branch of a fan-out runs in a task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from harness.engine import effects
from harness.engine.branches import Branch, Course, Fork, do_nothing, no_survival
from harness.engine.effects import (
    Cancelled,
    Finished,
    Foreign,
    HostedResult,
    Program,
    Raised,
    Reply,
    Send,
)
from harness.engine.hosting import Hosting, SendAttempt
from harness.engine.permits import AsyncPermits
from harness.records.clock import SECOND, ReadClock
from harness.records.schema import Record

_T = TypeVar("_T")


class AsyncWorld(NamedTuple):
    """The resources that effects use: permits, transport, clock and recorder.

    `serial`: run the branches of a fan-out one after another. `hosting`: runs code that is no
    program; None refuses it.
    `survives`: whether a program continues when its task is cancelled, because its own code did
    that (`asyncio.timeout`). Then the effect raises Cancelled in the program. `fail`: called before
    an exception of a branch cancels the tasks of the others, whose programs do not continue.
    `interrupt`: called instead of raising KeyboardInterrupt, which would leave the event loop while
    its other tasks run; None to raise it.
    """

    now: ReadClock
    permits: AsyncPermits
    send: Callable[[Send, Branch], Awaitable[Reply]]
    emit: Callable[[Record], None]
    survives: Callable[[], bool] = no_survival
    fail: Callable[[], None] = do_nothing
    serial: bool = False
    hosting: Hosting | None = None
    interrupt: Callable[[], None] | None = None


async def run_async(
    program: Program[_T], world: AsyncWorld, branch: Branch | None = None, held: int = 0
) -> _T:
    """Run `program` to its end and return its result; release the permits that it still holds.

    `held`: permits that the program holds at its start. Raises Cancelled if `branch` is cancelled
    and the program does not catch it.
    """
    branch = branch or Branch()
    branch.survives = world.survives
    course = Course(program, branch, world.permits.release, held)
    result: Any = None
    try:
        while not isinstance(effect := course.advance(result), Finished):
            if isinstance(effect, effects.AT_ONCE):
                result = course.done(effect, _act(effect, world))
            else:
                try:
                    result = course.done(effect, await _wait(effect, world, branch))
                except asyncio.CancelledError:
                    if not world.survives():
                        raise
                    result = Cancelled()
        value: _T = effect.value
        return value
    except KeyboardInterrupt:
        if world.interrupt is None:
            raise
        world.interrupt()
        raise asyncio.CancelledError from None
    finally:
        course.end()


def _act(effect: effects.AtOnce, world: AsyncWorld) -> Any:
    match effect:
        case effects.Emit():  # the most frequent first
            return world.emit(effect.record)
        case effects.Release():
            return world.permits.release()
        case effects.Now():
            return world.now()
        case effects.Ring():
            return world.permits.ring(effect.bell)


def _wait(
    effect: effects.Send
    | effects.Acquire
    | effects.FanOut
    | effects.Sleep
    | effects.Park
    | effects.RunHosted
    | effects.Foreign,
    world: AsyncWorld,
    branch: Branch,
) -> Awaitable[Any]:
    match effect:
        case effects.Send():
            return world.send(effect, branch)
        case effects.Acquire():
            return world.permits.acquire(effect.deadline, branch)
        case effects.FanOut():
            return _fan_out(Fork(effect), world, branch)
        case effects.Sleep():
            return world.permits.sleep(effect.until, branch)
        case effects.Park():
            return world.permits.park(effect, branch)
        case effects.RunHosted():
            return _hosted(effect, world, branch)
        case effects.Foreign():
            return _passed_on(effect, world, branch)


async def _run_branch(fork: Fork, index: int, world: AsyncWorld) -> None:
    program, branch = fork.parts[index]
    try:
        fork.ended(index, await run_async(program, world, branch, fork.held(index)))
    except Cancelled:
        fork.ended(index, None)
    except BaseException:
        world.fail()
        raise


async def _fan_out(fork: Fork, world: AsyncWorld, parent: Branch) -> list[Any]:
    """Run the branches side by side, or one after another in serial mode.

    Each has a task of its own also in serial mode: the end of a task group tells the parent that
    its task was cancelled, even if the program of a branch continued after that.
    """
    every = range(len(fork.parts))
    with parent.waking(fork.cancel):
        for indexes in [[index] for index in every] if world.serial else [every]:
            await _side_by_side(fork, indexes, world)
    return fork.results


class _Yielded:
    """Yields to the event loop what a coroutine has yielded."""

    def __init__(self, awaited: Any) -> None:
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._awaited)


async def _passed_on(effect: Foreign, world: AsyncWorld, branch: Branch) -> Any:
    """Let the event loop do what it is asked for; return its result or the exception."""
    loop = asyncio.get_running_loop()
    late = asyncio.timeout((effect.until - world.now()) / SECOND)
    try:
        async with late:
            with branch.waking(lambda: late.reschedule(loop.time())):
                return await _Yielded(effect.awaited)
    except (Exception, asyncio.CancelledError) as error:
        if branch.cancelled:
            return Cancelled()
        if isinstance(error, asyncio.CancelledError) and not world.survives():
            raise
        return Raised(error, late.expired())


async def _side_by_side(fork: Fork, indexes: Sequence[int], world: AsyncWorld) -> None:
    """Run each branch in a task; if one raises, cancel the tasks of the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for index in indexes:
                group.create_task(_run_branch(fork, index, world))
    except BaseExceptionGroup as raised:
        raise raised.exceptions[0] from None


async def _hosted(effect: effects.RunHosted, world: AsyncWorld, branch: Branch) -> HostedResult:
    if world.hosting is None:
        return effects.NO_EVENT_LOOP

    def run(program: Program[_T], send: SendAttempt, own: Branch) -> Awaitable[_T]:
        return run_async(program, world._replace(send=send), own)

    return await world.hosting.perform(effect, world.now, run, branch)
