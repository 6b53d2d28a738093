"""The load of a trial, as a program: a closed loop of workflows, or an open one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from harness.engine.effects import Program, fan_out, now, sleep

Start = Callable[[int], Program[Any]]
"""Makes the program of one workflow that is ready at the given time."""


def closed_loop(starts: Sequence[Start], in_flight: int) -> Program[None]:
    """Run the workflows in order, `in_flight` at once; one is ready when a slot is free."""
    waiting = deque(starts)
    slots = min(in_flight, len(starts))
    yield from fan_out([_slot(waiting) for _ in range(slots)])


def _slot(waiting: deque[Start]) -> Program[None]:
    while True:
        try:
            start = waiting.popleft()  # in threads, to look first would be too early
        except IndexError:
            return
        ready = yield from now()
        yield from start(ready)


def open_loop(starts: Sequence[Start], arrivals: Sequence[int]) -> Program[None]:
    """Begin each workflow when it is due, `arrivals` nanoseconds after this program began.

    A workflow is ready when it is due, also where it begins later: one after another (sync) they
    queue, and the queue counts.
    """
    began = yield from now()
    due = [began + arrival for arrival in arrivals]
    yield from fan_out([_when_due(start, at) for start, at in zip(starts, due, strict=True)])


def _when_due(start: Start, due: int) -> Program[None]:
    yield from sleep(due)
    yield from start(due)


def arrival_times(process: str, per_second: float, count: int, random: Random) -> list[float]:
    """Return when `count` workflows are due, in seconds: `constant` distances or `poisson`."""
    if process == "constant":
        return [number / per_second for number in range(count)]
    times, time = [], 0.0
    for _ in range(count):
        time += random.expovariate(per_second)
        times.append(time)
    return times
