"""The interpreter for blocking code: one thread, or one thread for each branch.

Both modes use the same interpreter. They differ in how permits are acquired and how branches run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from harness.engine import effects
from harness.engine.branches import Branch, Course, Fork
from harness.engine.effects import Cancelled, Effect, Finished, Program, Reply, Send
from harness.engine.permits import ThreadPermits, Turns
from harness.engine.waiting import BlockingWait, sleeping, wait_blocking, wait_for_event
from harness.records.clock import ReadClock
from harness.records.schema import Record

_T = TypeVar("_T")


class Stopped(BaseException):
    """The run was stopped. Raised in a branch at its next wait, or in its current one."""


class BlockingWorld(NamedTuple):
    """The resources that effects use: permits, transport, clock and recorder.

    After `stop` is set, nothing waits and nothing is sent; current waits end because their
    branches are cancelled. `wait`: the function with which this thread waits.
    """

    now: ReadClock
    permits: ThreadPermits | Turns
    send: Callable[[Send, Branch], Reply]
    emit: Callable[[Record], None]
    branches: Callable[[Fork, BlockingWorld], None]
    stop: threading.Event
    wait: BlockingWait = wait_blocking


def run_blocking(
    program: Program[_T], world: BlockingWorld, branch: Branch | None = None, held: int = 0
) -> _T:
    """Run `program` to its end and return its result; release the permits that it still holds.

    `held`: permits that the program holds at its start. Raises Cancelled if `branch` is cancelled
    and the program does not catch it, and Stopped if `world.stop` is set.
    """
    branch = branch or Branch()

    def check() -> None:
        if world.stop.is_set():
            raise Stopped

    course = Course(program, branch, world.permits.release, held, check)
    result: Any = None
    try:
        while not isinstance(effect := course.advance(result), Finished):
            if isinstance(effect, effects.AT_ONCE):  # also after the stop
                result = course.done(effect, _perform(effect, world, branch))
            else:
                check()
                result = course.done(effect, _perform(effect, world, branch))
                check()
        value: _T = effect.value
        return value
    finally:
        course.end()


def _perform(effect: Effect, world: BlockingWorld, branch: Branch) -> Any:
    match effect:
        case effects.Now():
            return world.now()
        case effects.Acquire():
            return world.permits.acquire(effect.ready, effect.deadline, branch)
        case effects.Release():
            return world.permits.release()
        case effects.Send():
            return world.send(effect, branch)
        case effects.Sleep():
            world.wait(lambda turn: sleeping(turn, effect.until), branch, world.now)
            return world.now()
        case effects.Park():
            return world.permits.park(effect, branch)
        case effects.Ring():
            return world.permits.ring(effect.bell)
        case effects.Emit():
            return world.emit(effect.record)
        case effects.FanOut():
            fork = Fork(effect)
            with branch.waking(fork.cancel):
                world.branches(fork, world)
            return fork.results
        case effects.RunHosted():
            return effects.NO_EVENT_LOOP
        case effects.Foreign():
            return effects.no_event_loop(effect)


def _run_branch(fork: Fork, index: int, world: BlockingWorld) -> None:
    program, branch = fork.parts[index]
    try:
        fork.ended(index, run_blocking(program, world, branch, fork.held(index)))
    except Cancelled:
        fork.ended(index, None)


def one_after_another(fork: Fork, world: BlockingWorld) -> None:
    """Run the branches one after another in the calling thread."""
    for index in range(len(fork.parts)):
        _run_branch(fork, index, world)


def a_thread_each(fork: Fork, world: BlockingWorld) -> None:
    """Run each branch in a thread; if one raises, stop the whole run."""
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
        for index in range(len(ended))
    ]
    try:
        for thread in threads:
            thread.start()
        # Not Thread.join: if interrupted, it reports a running thread as ended.
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
