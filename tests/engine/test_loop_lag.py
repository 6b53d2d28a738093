"""The probes see what kept the client from its timers."""

from __future__ import annotations

import asyncio
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from harness.engine.loop_lag import LagReadings, LoopProbe, ThreadProbe
from harness.records.clock import SECOND, monotonic_since, take_anchor
from harness.records.timer_lag import LATE, PROBE_INTERVAL, LateTimer, TimerLag

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
