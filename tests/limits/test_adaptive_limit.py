"""Permits whose number changes, and the limit that changes it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from harness.engine.adaptive_limit import AdaptiveLimit, InUse
from harness.engine.effects import Grant
from harness.engine.permits import AsyncPermits, PermitQueue, ThreadPermits
from harness.limits.protocol import Observation
from harness.records.keys import WARM_UP
from harness.records.schema import LimitChange, Record, Tokens
from tests.analysis.builders import make_attempt, make_call


@given(
    permits=st.integers(1, 3),
    steps=st.lists(st.sampled_from(["ask", "give back", "leave", 1, 2, 5])),
)
def test_a_number_that_changes_is_kept_to(permits: int, steps: list[str | int]) -> None:
    line: PermitQueue[int] = PermitQueue(permits)
    names = itertools.count()
    held, waiting = 0, deque[int]()
    for step in steps:
        if isinstance(step, int):
            permits = step
            served = line.resize(permits)
            assert served == [waiting.popleft() for _ in served], "in their order"
            held += len(served)
        elif step == "ask":
            if line.take():
                assert not waiting
                held += 1
            else:
                assert held >= permits
                waiting.append(next(names))
                line.queue(waiting[-1])
        elif step == "give back" and held:
            before = held
            served_one = line.give_back()
            held -= served_one is None
            assert (served_one is None) == (before > permits or not waiting)
            assert served_one is None or served_one == waiting.popleft()
        elif step == "leave" and waiting:
            assert line.leave(waiting.pop())
        assert line.in_use == held
        assert held >= permits or not waiting, "nobody waits for a free permit"


async def test_tasks_that_wait_are_woken_when_there_are_more_permits() -> None:
    line = AsyncPermits(1, lambda: 7)
    grants = [asyncio.create_task(line.acquire(None)) for _ in range(4)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert [grant.done() for grant in grants] == [True, False, False, False]
    line.resize(3)
    assert await asyncio.gather(*grants[:3]) == [Grant(7, 7)] * 3
    line.resize(1)
    for _ in range(2):
        line.release()
        await asyncio.sleep(0)
        assert not grants[3].done(), "two were to be given back"
    line.release()
    assert await grants[3] == Grant(7, 7)
    assert line.in_use == 1


def test_threads_that_wait_are_woken_when_there_are_more_permits() -> None:
    line, got = ThreadPermits(1, lambda: 7), list[Grant]()
    assert line.acquire(7, None).granted == 7
    waiting = [threading.Thread(target=lambda: got.append(line.acquire(7, None))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    while len(line._line._waiting) < 3:
        pass
    line.resize(4)
    for thread in waiting:
        thread.join(20)
    assert got == [Grant(7, 7)] * 3


class _State(NamedTuple):
    limit: int
    seen: tuple[Observation, ...] = ()


class _Script:
    """A limiter that returns these limits, one after another, and notes what it is told."""

    def __init__(self, *limits: int) -> None:
        self.limits = limits

    def first(self) -> _State:
        return _State(self.limits[0])

    def observed(self, state: _State, seen: Observation) -> _State:
        return _State(self.limits[len(state.seen) + 1], (*state.seen, seen))


Fed: TypeAlias = tuple[AdaptiveLimit, ThreadPermits, list[Record], Callable[[Record], None]]


def fed(limiter: Any, held: int) -> Fed:
    adaptive, emitted = AdaptiveLimit(limiter, 100), list[Record]()
    permits = ThreadPermits(adaptive.limit, lambda: 100)
    for _ in range(held):
        permits.acquire(0, None)
    return adaptive, permits, emitted, adaptive.feeding(permits, emitted.append)


def test_every_attempt_is_fed_once_and_its_changes_are_kept() -> None:
    adaptive, permits, emitted, emit = fed(_Script(4, 4, 6, 2), 3)
    attempts = [
        make_attempt(done=200, sent=150, first_answer=160, tokens=Tokens(output=30)),
        make_attempt(done=300, outcome="rate_limited", retry_after=5, sent=250),
        make_attempt(done=400, outcome="unavailable", sent=None),
    ]
    emit(make_call(done=150))
    for one in attempts:
        emit(one)
    assert [type(one).__name__ for one in emitted] == ["Call", *["Attempt"] * 3]
    assert adaptive.changes == [LimitChange(100, 4), LimitChange(300, 6), LimitChange(400, 2)]
    assert adaptive.limit == 2
    assert permits.in_use == 3
    told = adaptive._use.state.seen
    assert [one.result for one in told] == ["ok", "rate_limited", "failed"]
    assert [one.limit for one in told] == [4, 4, 6]
    assert told[0] == Observation(200, "ok", 150, 160, 30, None, 3, 3.0, 4)
    assert told[0].time_per_token == 50 / 30
    assert told[1].retry_after == 5
    assert told[1].time_per_token is None


def test_the_calls_before_a_trial_are_not_fed() -> None:
    adaptive, _, emitted, emit = fed(_Script(4), 1)
    emit(make_attempt(phase=WARM_UP))
    assert len(emitted) == 1
    assert len(adaptive.changes) == 1


def test_where_no_tokens_are_reported_the_chunks_of_the_stream_count() -> None:
    adaptive, _, _, emit = fed(_Script(4, 4), 1)
    emit(make_attempt(tokens=Tokens(), chunks=12))
    assert adaptive._use.state.seen[0].tokens == 12


def test_a_limit_is_fed_although_the_function_that_takes_the_records_fails() -> None:
    adaptive = AdaptiveLimit(_Script(4, 9))
    permits = ThreadPermits(4, lambda: 0)
    emit = adaptive.feeding(permits, lambda _: 1 / 0)  # type: ignore[arg-type]
    try:
        emit(make_attempt())
    except ZeroDivisionError:
        assert adaptive.limit == 9


def test_the_mean_of_the_permits_in_use_is_over_the_time_in_service() -> None:
    use = InUse(0)
    for at, count in ((10, 2), (20, 4), (40, 8)):
        use.note(at, count)
    assert use.mean(20, 40) == 8
    assert use.mean(10, 40) == (10 * 4 + 20 * 8) / 30
    assert use.mean(0, 40) == (10 * 2 + 10 * 4 + 20 * 8) / 40
    assert use.mean(40, 40) == 8
    use.note(35, 6)  # a thread was late
    assert use.mean(20, 40) == 8


def test_what_is_known_of_the_permits_in_use_does_not_grow_for_ever() -> None:
    use = InUse(0)
    for at in range(1, 20_000):
        use.note(at, 5)
    assert len(use._times) < 10_000
    assert use.mean(19_000, 19_999) == 5


def test_the_changes_are_in_the_order_of_their_times_although_threads_are_late() -> None:
    adaptive, _, _, emit = fed(_Script(4, 5, 6), 1)
    emit(make_attempt(done=300))
    emit(make_attempt(done=290))
    assert adaptive.changes[1:] == [LimitChange(300, 5), LimitChange(300, 6)]
