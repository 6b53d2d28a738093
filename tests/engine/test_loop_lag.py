"""The probes see what kept the client from its timers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine import loop_lag
from harness.engine.branches import Branch
from harness.engine.effects import Reply, Send
from harness.engine.loop_lag import LagReadings, LoopProbe, ReadProbe, ThreadProbe
from harness.records.clock import SECOND, monotonic_since, take_anchor
from harness.records.timer_lag import LATE, PROBE_INTERVAL, LateTimer, TimerLag
from tests.analysis.builders import make_attempt
from tests.engine.scripted import Says, reply

now = monotonic_since(take_anchor())


def count(lag: TimerLag) -> int:
    return sum(lag.loop_lag.values())


async def sampled(probe: LoopProbe) -> None:
    async with asyncio.timeout(20):
        while not count(probe.lag()):  # noqa: ASYNC110 - the probe tells nobody
            await asyncio.sleep(0)


async def test_a_loop_that_is_kept_busy_is_late_by_that_time() -> None:
    with LoopProbe(now) as probe:
        time.sleep(0.2)  # noqa: ASYNC251 - the very thing that the probe is for
        await sampled(probe)
        lag = probe.lag()
    assert max(lag.loop_lag) >= 0.17 * SECOND  # it looks every 20 ms
    assert max(timer.late for timer in lag.late_timers) >= 0.17 * SECOND


async def test_nothing_is_sampled_once_the_probe_has_ended() -> None:
    with LoopProbe(now) as probe:
        await sampled(probe)
    before = probe._readings.due
    await asyncio.sleep(0.05)
    assert probe._readings.due == before


async def test_a_probe_that_ends_between_its_timer_and_its_reading_reads_nothing() -> None:
    with LoopProbe(now) as probe:
        probe._timer_expired()
        before = probe._readings.due
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert probe._readings.due == before


def test_a_thread_takes_readings_and_ends_with_the_probe() -> None:
    with ThreadProbe(now) as probe:
        deadline = time.monotonic() + 20
        while not count(probe.lag()):
            assert time.monotonic() < deadline
    assert not any(thread.name == "lag-probe" for thread in threading.enumerate())


@given(st.lists(st.integers(0, SECOND), max_size=20), st.integers(0, SECOND))
def test_late_timers_have_their_times_and_the_last_one_is_late_until_the_end(
    lags: list[int], rest: int
) -> None:
    clock = [5]
    readings = LagReadings(lambda: clock[0])
    expected = []
    for lag in lags:
        clock[0] = readings.due + lag
        expected.append((readings.due, lag))
        readings.note()
    clock[0] += rest
    overdue = rest - PROBE_INTERVAL
    if overdue > 0:
        expected.append((readings.due, overdue))
    found = readings.end()
    assert count(found) == len(expected)
    assert list(found.late_timers) == [LateTimer(due, lag) for due, lag in expected if lag >= LATE]


@pytest.fixture
def sending() -> Iterator[socket.socket]:
    """Return a socket that has received bytes."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"data" * 3)
        yield here


@pytest.mark.parametrize(("first_answer", "late"), [(25, 7), (30, 0), (39, 0), (40, 9)])
def test_a_first_text_is_as_late_as_the_read_that_returned_it(
    monkeypatch: pytest.MonkeyPatch, sending: socket.socket, first_answer: int, late: int
) -> None:
    delays = iter([100, 107, 200, 200, 300, 309])
    monkeypatch.setattr(loop_lag, "_run_delay", lambda _: next(delays))
    times = iter([20, 30, 40])
    with ReadProbe(lambda: next(times)) as probe:
        probe._file = probe._file or 0
        for _ in range(3):
            assert probe.receive(sending, 4) == b"data"
        probe.note(make_attempt(first_reasoning=None, first_answer=first_answer))
        probe.note(make_attempt(first_answer=SECOND))  # without a read of its own
        lag = probe.lag()
    assert lag == TimerLag({}, (LateTimer(first_answer - late, late),))


def test_after_the_first_text_of_an_attempt_reads_are_not_watched(
    monkeypatch: pytest.MonkeyPatch, sending: socket.socket
) -> None:
    counts: list[int] = []

    def run_delay(file: int) -> int:
        counts.append(file)
        return len(counts)

    monkeypatch.setattr(loop_lag, "_run_delay", run_delay)
    claims: list[str] = []
    branch = Branch(lambda: claims.append("text"))
    with ReadProbe(now) as probe:
        probe._file = probe._file or 0

        def send(_: Send, branch: Branch) -> Reply:
            probe.receive(sending, 1)
            watched = len(counts)
            branch.first_text()
            probe.receive(sending, 1)
            assert len(counts) == watched > 0
            return reply(Says("ok", takes=0), now())

        for _ in range(2):
            counts.clear()
            probe.sending(send)(cast(Send, None), branch)
    assert claims == ["text", "text"]


def test_an_attempt_without_text_is_not_late(sending: socket.socket) -> None:
    with ReadProbe(now) as probe:
        probe.receive(sending, 4)
        probe.note(make_attempt(first_reasoning=None, first_answer=None))
        assert probe.lag().late_timers == ()


def test_without_a_count_of_the_scheduler_nothing_is_late(
    monkeypatch: pytest.MonkeyPatch, sending: socket.socket
) -> None:
    def missing(*_: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr("harness.engine.loop_lag.os.open", missing)
    with ReadProbe(now) as probe:
        assert probe.receive(sending, 4) == b"data"
        probe.note(make_attempt())
        assert probe.lag() == TimerLag({}, ())
