"""The load of a trial as a program: a closed loop or an open loop of workflows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import Any

from harness.engine.effects import Program, fan_out, now, sleep
from harness.records.clock import SECOND

Start = Callable[[int], Program[Any]]
"""Returns the program of one workflow, given the time at which it is ready."""

WAVE = 128
"""How many workflows of an open loop are prepared together.

A task or a thread for each of 36,000 workflows delayed the first arrivals by up to a second.
"""

LEAD = SECOND // 10
"""How many nanoseconds before its first arrival a wave is prepared."""


Agree = Callable[[], int | None]
"""Returns the moment at which all processes of a trial begin its load; None until all are ready."""

_AGREED_EVERY = SECOND // 500
"""Nanoseconds between two questions whether all are ready."""


def begin_together(agree: Agree | None) -> Program[int]:
    """Return the time at which the load begins: now, or for several processes when they agree."""
    if agree is None:
        return (yield from now())
    while (moment := agree()) is None:
        yield from sleep((yield from now()) + _AGREED_EVERY)
    yield from sleep(moment)
    return moment


def closed_loop(
    starts: Sequence[Start], in_flight: int, agree: Agree | None = None
) -> Program[None]:
    """Run the workflows in order, at most `in_flight` at once; each is ready with a free slot.

    `agree`: when to begin, None for at once.
    """
    if agree is not None:
        yield from begin_together(agree)
    waiting = deque(starts)
    slots = min(in_flight, len(starts))
    yield from fan_out([_slot(waiting) for _ in range(slots)])


def _slot(waiting: deque[Start]) -> Program[None]:
    while True:
        try:  # without a check: in threads, another slot could take the item after it
            start = waiting.popleft()
        except IndexError:
            return
        ready = yield from now()
        yield from start(ready)


def open_loop(
    starts: Sequence[Start], arrivals: Sequence[int], agree: Agree | None = None
) -> Program[None]:
    """Start each workflow when it is due, `arrivals` nanoseconds after the start of this program.

    A workflow is ready when it is due, even if it starts later. So in sync mode the queue is part
    of its latency. Each time counts from the start of this program, so a late start delays no
    later one. `arrivals` ascend. `agree`: as in `closed_loop`; what it returns is the start.
    """
    began = yield from begin_together(agree)
    due = [began + arrival for arrival in arrivals]
    if len(starts) <= WAVE:
        yield from _each_when_due(starts, due)
        return
    waves = [slice(first, first + WAVE) for first in range(0, len(starts), WAVE)]
    yield from fan_out([_wave(starts[wave], due[wave]) for wave in waves])


def _wave(starts: Sequence[Start], due: Sequence[int]) -> Program[None]:
    yield from sleep(due[0] - LEAD)
    yield from _each_when_due(starts, due)


def _each_when_due(starts: Sequence[Start], due: Sequence[int]) -> Program[None]:
    yield from fan_out([_when_due(start, at) for start, at in zip(starts, due, strict=True)])


def _when_due(start: Start, due: int) -> Program[None]:
    yield from sleep(due)
    yield from start(due)


def after_calls(calls: Sequence[Start], load: Program[None]) -> Program[None]:
    """Make the calls, all at once, and then run the load."""
    ready = yield from now()
    yield from fan_out([call(ready) for call in calls])
    yield from load


def recorded_times(times: Sequence[float], per_second: float, count: int) -> list[float]:
    """Return the arrivals of `count` workflows in seconds: as recorded, at another mean rate.

    `times`: seconds since the first one, ascending, the last one above 0. After the last one, they
    begin again, one mean interval later.
    """
    mean = times[-1] / (len(times) - 1)
    scale = 1 / (mean * per_second)
    round_trip = times[-1] + mean
    return [
        (number // len(times) * round_trip + times[number % len(times)]) * scale
        for number in range(count)
    ]


def arrival_times(process: str, per_second: float, count: int, random: Random) -> list[float]:
    """Return the arrival times of `count` workflows in seconds; `process`: constant or poisson."""
    if process == "constant":
        return [number / per_second for number in range(count)]
    return list(accumulate(random.expovariate(per_second) for _ in range(count)))
