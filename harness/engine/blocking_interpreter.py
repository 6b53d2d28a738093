"""Runs a program in blocking code: in one thread, or in a thread for each branch.

Both ways are the same interpreter; what differs is how permits are had and how branches are run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol, TypeVar

from harness.engine import effects
from harness.engine.branches import Branch, Course, Fork
from harness.engine.effects import Cancelled, Effect, Finished, Grant, Park, Program, Reply, Send
from harness.engine.waiting import BlockingWait, sleeping, wait_blocking, wait_for_event
from harness.records.clock import ReadClock
from harness.records.schema import Record

T = TypeVar("T")


class Permits(Protocol):
    """What gives permits to blocking code."""

    def acquire(self, ready: int, deadline: int | None, branch: Branch) -> Grant:
        """Wait for a permit, until `deadline` at most."""
        ...

    def park(self, asked: Park, branch: Branch) -> Grant:
        """Wait at a bell, and then for a permit."""
        ...

    def ring(self, bell: Hashable) -> None:
        """Wake everybody who is parked at a bell."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class Stopped(BaseException):
    """The run was stopped: the branch ends where it would wait, or where it was waiting."""


class BlockingWorld(NamedTuple):
    """What the effects act upon.

    Once `stop` is set, nothing is waited for or sent any more; what waits already is woken by
    cancelling its branch. `wait`: how this thread waits.
    """

    now: ReadClock
    permits: Permits
    send: Callable[[Send, Branch], Reply]
    emit: Callable[[Record], None]
    branches: Callable[[Fork, BlockingWorld], None]
    stop: threading.Event
    wait: BlockingWait = wait_blocking


def run_blocking(
    program: Program[T], world: BlockingWorld, branch: Branch | None = None, held: int = 0
) -> T:
    """Run `program` to its end and return its result; permits it still holds go back.

    It holds `held` permits already. Raises Cancelled when `branch` is cancelled and the program
    lets that pass, and Stopped when `world.stop` is set meanwhile.
    """
    branch = branch or Branch()

    def check() -> None:
        if world.stop.is_set():
            raise Stopped

    course = Course(program, branch, world.permits.release, held, check)
    result: Any = None
    try:
        while not isinstance(asked := course.advance(result), Finished):
            _go_on(asked, world)
            result = course.done(asked, _perform(asked, world, branch))
            _go_on(asked, world)
        value: T = asked.value
        return value
    finally:
        course.end()


def _go_on(asked: Effect, world: BlockingWorld) -> None:
    """Raise Stopped once `world.stop` is set; what has ended by then is recorded all the same."""
    if world.stop.is_set() and not isinstance(asked, effects.AT_ONCE):
        raise Stopped


def _perform(asked: Effect, world: BlockingWorld, branch: Branch) -> Any:
    match asked:
        case effects.Now():
            return world.now()
        case effects.Acquire():
            return world.permits.acquire(asked.ready, asked.deadline, branch)
        case effects.Release():
            return world.permits.release()
        case effects.Send():
            return world.send(asked, branch)
        case effects.Sleep():
            world.wait(lambda turn: sleeping(turn, asked.until), branch, world.now)
            return world.now()
        case effects.Park():
            return world.permits.park(asked, branch)
        case effects.Ring():
            return world.permits.ring(asked.bell)
        case effects.Emit():
            return world.emit(asked.record)
        case effects.FanOut():
            fork = Fork(asked)
            with branch.waking(fork.cancel):
                world.branches(fork, world)
            return fork.results


def _run_branch(fork: Fork, index: int, world: BlockingWorld) -> None:
    program, branch = fork.parts[index]
    try:
        fork.ended(index, run_blocking(program, world, branch, fork.held(index)))
    except Cancelled:
        fork.ended(index, None)


def one_after_another(fork: Fork, world: BlockingWorld) -> None:
    """Run the branches in their order in the calling thread."""
    for index in range(len(fork.parts)):
        _run_branch(fork, index, world)


def a_thread_each(fork: Fork, world: BlockingWorld) -> None:
    """Run each branch in a thread of its own; when one fails, the whole run is stopped."""
    errors: list[BaseException] = []

    def stop() -> None:
        world.stop.set()
        fork.cancel()

    def run(index: int) -> None:
        try:
            _run_branch(fork, index, world)
        except BaseException as error:
            errors.append(error)
            stop()
        finally:
            ended[index].set()

    ended = [threading.Event() for _ in fork.parts]
    threads = [
        threading.Thread(target=run, args=(index,), name=f"branch-{index}", daemon=True)
        for index in range(len(fork.parts))
    ]
    try:
        for thread in threads:
            thread.start()
        # Not Thread.join: interrupted, it takes a thread that still runs for one that has ended.
        for event in ended:
            while not event.is_set():
                wait_for_event(event)
    except BaseException:  # Ctrl-C, in the thread that waits for the others
        stop()
        raise
    for thread in threads:
        thread.join()
    if errors:
        raise next((error for error in errors if not isinstance(error, Stopped)), errors[0])
