"""The loads: so many workflows at once, or each when it is due."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine import load
from harness.engine.effects import FanOut, Finished, Now, Program, Sleep, now, sleep, step
from harness.engine.load import Start, arrival_times, closed_loop, open_loop
from harness.records.clock import SECOND
from tests.engine.scripted import World, in_turn

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


def test_a_slot_ends_when_another_thread_was_faster_to_take_the_last_workflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stale(deque[Start]):
        """Looks to each thread as it did before another one took what there was."""

        def __bool__(self) -> bool:
            return True

    monkeypatch.setattr(load, "deque", Stale)
    log: Log = []
    World(in_turn()).run(closed_loop(starts(2, log), in_flight=2))
    assert [number for number, _ in log] == [0, 1]


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


def test_an_open_loop_begins_each_workflow_when_it_is_due_however_many_are_under_way() -> None:
    log: Log = []
    World(in_turn()).run(open_loop(starts(3, log, lasts=100), [0, 10, 20]))
    assert log == [(0, 0), (1, 10), (2, 20)]


def test_one_after_another_they_queue_and_are_ready_when_they_were_due() -> None:
    log: Log = []
    program = open_loop(starts(3, log, lasts=100), [0, 10, 20])
    assert step(program, None) == Now()
    forked = step(program, 0)
    assert isinstance(forked, FanOut)
    world = World(in_turn())
    for branch in forked.branches:
        world.run(branch)
    assert log == [(0, 0), (1, 10), (2, 20)]
    assert world.now == 300


@pytest.mark.parametrize("count", [load.WAVE, load.WAVE + 1, 2 * load.WAVE, 2 * load.WAVE + 1])
def test_many_workflows_are_prepared_in_waves_shortly_before_they_are_due(count: int) -> None:
    log: Log = []
    arrivals = [number * SECOND for number in range(count)]
    program = open_loop(starts(count, log), arrivals)
    assert step(program, None) == Now()
    forked = step(program, 0)
    assert isinstance(forked, FanOut)
    assert len(forked.branches) == (count if count <= load.WAVE else -(-count // load.WAVE))
    if count > load.WAVE:
        assert step(forked.branches[1], None) == Sleep(load.WAVE * SECOND - load.LEAD)
    log.clear()
    World(in_turn()).run(open_loop(starts(count, log), arrivals))
    assert log == list(enumerate(arrivals))


def test_constant_arrivals_are_equally_far_apart() -> None:
    assert arrival_times("constant", 4.0, 3, Random(1)) == [0.0, 0.25, 0.5]


def test_poisson_arrivals_have_exponential_gaps_of_the_mean_asked_for() -> None:
    times = arrival_times("poisson", 2.0, 20_000, Random(1))
    gaps = [after - before for before, after in zip([0.0, *times], times, strict=False)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.5, rel=0.03)
    assert sum(gap > mean for gap in gaps) / len(gaps) == pytest.approx(0.3679, abs=0.01)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(0.25, rel=0.06)
