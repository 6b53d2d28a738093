"""Runs a program in the calling thread, one branch after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from harness.clock import SECOND, Now
from harness.records import Record
from harness.workflow import effects
from harness.workflow.effects import Effect, Finished, Grant, Program, Reply, Send, step

T = TypeVar("T")


class BlockingWorld(NamedTuple):
    """What the effects act upon."""

    now: Now
    send: Callable[[Send], Reply]
    emit: Callable[[Record], None]


def run_blocking(program: Program[T], world: BlockingWorld) -> T:
    """Run `program` to its end and return its result."""
    result: Any = None
    try:
        while True:
            asked = step(program, result)
            if isinstance(asked, Finished):
                value: T = asked.value
                return value
            result = _perform(asked, world)
    finally:
        program.close()


def _perform(asked: Effect, world: BlockingWorld) -> Any:
    match asked:
        case effects.Now():
            return world.now()
        case effects.Acquire():
            # One after another is one permit; whoever is ready has been waiting for its turn.
            now = world.now()
            late = asked.deadline is not None and now > asked.deadline
            return Grant(asked.ready, None if late else now)
        case effects.Release():
            return None
        case effects.Send():
            return world.send(asked)
        case effects.Sleep():
            time.sleep(max(asked.until - world.now(), 0) / SECOND)
            return world.now()
        case effects.Emit():
            return world.emit(asked.record)
        case effects.FanOut():
            return [run_blocking(branch, world) for branch in asked.branches]
