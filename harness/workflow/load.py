"""The load of a trial, as a program: a closed loop of workflows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from harness.workflow.effects import Program, fan_out, now

Start = Callable[[int], Program[Any]]
"""Makes the program of one workflow that is ready at the given time."""


def closed_loop(starts: Sequence[Start], in_flight: int) -> Program[None]:
    """Run the workflows in order, `in_flight` at once; one is ready when a slot is free."""
    waiting = deque(starts)
    slots = min(in_flight, len(starts))
    yield from fan_out([_slot(waiting) for _ in range(slots)])


def _slot(waiting: deque[Start]) -> Program[None]:
    while waiting:
        start = waiting.popleft()
        ready = yield from now()
        yield from start(ready)
