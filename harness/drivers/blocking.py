"""Runs a program in blocking code: in one thread, or in a thread for each branch.

Both ways are the same interpreter; what differs is how permits are had and how branches are run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from harness.clock import SECOND, Now
from harness.records import Record
from harness.workflow import effects
from harness.workflow.effects import Effect, Finished, Grant, Program, Reply, Send, step

T = TypeVar("T")


class Permits(Protocol):
    """What gives permits to blocking code."""

    def acquire(self, ready: int, deadline: int | None) -> Grant:
        """Wait for a permit, until `deadline` at most."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class Stopped(BaseException):
    """The run was stopped: the branch ends where it would wait, or where it was waiting."""


class BlockingWorld(NamedTuple):
    """What the effects act upon. Once `stop` is set, nothing is waited for or sent any more."""

    now: Now
    permits: Permits
    send: Callable[[Send], Reply]
    emit: Callable[[Record], None]
    branches: Callable[[BlockingWorld, tuple[Program[Any], ...]], list[Any]]
    stop: threading.Event


def run_blocking(program: Program[T], world: BlockingWorld) -> T:
    """Run `program` to its end and return its result; permits it still holds go back.

    Raises Stopped when `world.stop` is set meanwhile.
    """
    held = 0
    result: Any = None
    try:
        while True:
            asked = step(program, result)
            if isinstance(asked, Finished):
                value: T = asked.value
                return value
            _go_on(asked, world)
            result = _perform(asked, world)
            if isinstance(asked, effects.Acquire):
                held += result.granted is not None
            elif isinstance(asked, effects.Release):
                held -= 1
            _go_on(asked, world)
    finally:
        program.close()
        for _ in range(held):
            world.permits.release()


def _go_on(asked: Effect, world: BlockingWorld) -> None:
    """Raise Stopped once `world.stop` is set; what has ended by then is recorded all the same."""
    if world.stop.is_set() and not isinstance(asked, effects.Now | effects.Release | effects.Emit):
        raise Stopped


def _perform(asked: Effect, world: BlockingWorld) -> Any:
    match asked:
        case effects.Now():
            return world.now()
        case effects.Acquire():
            return world.permits.acquire(asked.ready, asked.deadline)
        case effects.Release():
            return world.permits.release()
        case effects.Send():
            return world.send(asked)
        case effects.Sleep():
            while (now := world.now()) < asked.until and not world.stop.is_set():
                world.stop.wait((asked.until - now) / SECOND)
            return now
        case effects.Emit():
            return world.emit(asked.record)
        case effects.FanOut():
            return world.branches(world, asked.branches)


def one_after_another(world: BlockingWorld, branches: tuple[Program[Any], ...]) -> list[Any]:
    """Run the branches in their order in the calling thread."""
    return [run_blocking(branch, world) for branch in branches]


def a_thread_each(world: BlockingWorld, branches: tuple[Program[Any], ...]) -> list[Any]:
    """Run each branch in a thread of its own; when one fails, the others are stopped."""
    results: list[Any] = [None] * len(branches)
    errors: list[BaseException] = []

    def run(index: int, branch: Program[Any]) -> None:
        try:
            results[index] = run_blocking(branch, world)
        except BaseException as error:
            errors.append(error)
            world.stop.set()

    threads = [
        threading.Thread(target=run, args=(index, branch), name=f"branch-{index}", daemon=True)
        for index, branch in enumerate(branches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((error for error in errors if not isinstance(error, Stopped)), errors[0])
    return results
