"""The closed loop: so many workflows at once, each ready when a slot is free."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.workflow.effects import FanOut, Finished, Now, Program, now, sleep, step
from harness.workflow.load import Start, closed_loop
from tests.workflow.scripted import World, in_turn

Log = list[tuple[int, int]]
"""Which workflow was ready when."""


def starts(count: int, log: Log, *, lasts: int = 10) -> list[Start]:
    def start(number: int) -> Start:
        def program(ready: int) -> Program[None]:
            log.append((number, ready))
            began = yield from now()
            yield from sleep(began + lasts)

        return program

    return [start(number) for number in range(count)]


def test_slots_take_workflows_in_order_as_they_free_and_each_is_ready_then() -> None:
    """Driven by hand: the second slot frees first."""
    log: Log = []
    program = closed_loop(starts(3, log), in_flight=2)
    forked = step(program, None)
    assert isinstance(forked, FanOut)
    one, two = forked.branches
    for slot, time in ((one, 5), (two, 6)):
        assert step(slot, None) == Now()
        step(slot, time)
    step(two, 6)
    assert step(two, 16) == Now()
    step(two, 17)
    assert log == [(0, 5), (1, 6), (2, 17)]
    step(one, 5)
    assert step(one, 30) == Finished(None)


def test_one_slot_runs_one_workflow_after_another() -> None:
    log: Log = []
    World(in_turn()).run(closed_loop(starts(3, log), in_flight=1))
    assert log == [(0, 0), (1, 10), (2, 20)]


@given(count=st.integers(0, 12), in_flight=st.integers(1, 20))
def test_every_workflow_runs_once_and_no_more_slots_open_than_there_is_work(
    count: int, in_flight: int
) -> None:
    log: Log = []
    program = closed_loop(starts(count, log), in_flight)
    forked = step(program, None)
    assert isinstance(forked, FanOut)
    assert len(forked.branches) == min(count, in_flight)
    results: list[Any] = [World(in_turn()).run(branch) for branch in forked.branches]
    assert step(program, results) == Finished(None)
    assert [number for number, _ in log] == list(range(count))
