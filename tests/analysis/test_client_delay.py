"""What the client added to the times that it measured."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.analysis.client_delay import (
    ClientDelays,
    delays_by_cell,
    lag_at,
    lag_by_rank,
    worst_second,
)
from harness.analysis.oracle import join
from harness.records.clock import SECOND
from harness.records.histogram import bucket
from harness.records.timer_lag import LATE, PROBE_INTERVAL, LateTimer
from tests.analysis.builders import MS, by_cell
from tests.analysis.played import Shape, make_records

CELL = "async_8_none_attempt"


def timers_of(lags: list[int]) -> list[tuple[int, int]]:
    """Return when each timer of a probe was due and how late it ran."""
    ran = accumulate(lags, lambda before, lag: before + PROBE_INTERVAL + lag, initial=0)
    return [(before + PROBE_INTERVAL, lag) for before, lag in zip(ran, lags, strict=False)]


lists_of_lags = st.lists(
    st.one_of(st.just(0), st.integers(LATE, 40 * MS), st.integers(LATE, SECOND)), max_size=30
)


@given(lists_of_lags, st.lists(st.integers(0, 5 * SECOND), max_size=20))
def test_the_lag_at_a_moment_is_that_of_the_nearest_timer(
    lags: list[int], moments: list[int]
) -> None:
    timers = timers_of(lags)

    def distance(timer: tuple[int, int], at: int) -> int:
        due, lag = timer
        return max(due - at, at - due - lag, 0)

    found = lag_at(
        np.array(moments, np.int64), [LateTimer(*timer) for timer in timers if timer[1] >= LATE]
    )
    for at, lag in zip(moments, found.tolist(), strict=True):
        near = [timer for timer in timers if distance(timer, at) <= PROBE_INTERVAL // 2]
        least = min((distance(timer, at) for timer in near), default=0)
        assert lag in {timer[1] for timer in near if distance(timer, at) == least} | (
            {0} if not near else set()
        )


def test_a_moment_before_all_timers_or_after_them_has_no_lag() -> None:
    timers = [LateTimer(SECOND, SECOND // 2)]
    moments = np.array([0, SECOND - 1, SECOND + 1, 2 * SECOND], np.int64)
    assert lag_at(moments, timers).tolist() == [0, SECOND // 2, SECOND // 2, 0]
    assert lag_at(moments, []).tolist() == [0, 0, 0, 0]


@given(st.lists(st.tuples(st.integers(1, 30 * MS), st.integers(0, 30 * MS)), max_size=20))
def test_a_moment_with_a_reading_of_its_own_has_that_lag(gaps: list[tuple[int, int]]) -> None:
    """As in sync: each first text has one, however near the others are."""
    moments = list(accumulate(gap + late for gap, late in gaps))
    lags = [late for _, late in gaps]
    readings = [LateTimer(at - late, late) for at, late in zip(moments, lags, strict=True)]
    assert lag_at(np.array(moments, np.int64), readings).tolist() == lags


@given(st.lists(st.integers(0, SECOND), max_size=30), lists_of_lags)
def test_without_times_the_largest_lag_goes_with_the_largest_ttft(
    ttfts: list[int], lags: list[int]
) -> None:
    readings = {bucket(lag): 1 for lag in lags}
    found = lag_by_rank(np.array(ttfts, np.int64), readings)
    assert len(found) == len(ttfts)
    by_ttft = found[np.argsort(ttfts, kind="stable")] if ttfts else found
    assert (np.diff(by_ttft) >= 0).all()
    assert found.max(initial=0) <= 1.01 * max(readings, default=0) + 1


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, SECOND), st.integers(0, SECOND)), min_size=1
    ),
    st.sampled_from((0.0, 0.1, 0.5, 1.0)),
)
def test_the_worst_second_has_the_largest_median_of_those_with_enough_attempts(
    rows: list[tuple[int, int, int]], least: float
) -> None:
    seconds, wait, late = np.array(rows, np.int64).T
    found = worst_second(ClientDelays(seconds * SECOND, wait, wait, late), least)
    medians = {
        int(second): float(np.median((wait + late)[seconds == second]))
        for second in set(seconds.tolist())
        if (seconds == second).mean() >= least
    }
    assert (found is None) == (not medians)
    if found is not None:
        assert found.median == max(medians.values())
        assert medians[found.start // SECOND] == found.median
        assert found.share == (seconds == found.start // SECOND).mean()


def test_the_log_of_the_provider_says_how_late_the_first_text_was_read() -> None:
    shape = Shape(wire_ms=3.0, client_wait_ms=2.0)
    records = make_records([CELL], 1, shape=shape)
    delays = delays_by_cell(by_cell(records), join(records))[CELL]
    assert np.allclose(delays.read_late, 3 * MS)
    assert (delays.clean == delays.ttft - delays.read_late).all()
    assert MS <= delays.wait.min() <= delays.wait.max() <= 3 * MS


def test_a_delay_is_not_longer_than_the_time_to_first_token() -> None:
    records = make_records([CELL], 1, simulated=False)
    late = {bucket(100 * SECOND): 10}
    trials = [replace(trial, loop_lag=late) for trial in records.trials]
    delays = delays_by_cell(by_cell(records._replace(trials=trials)), None)[CELL]
    assert (delays.clean == 0).all()
