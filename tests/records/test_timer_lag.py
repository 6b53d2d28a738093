"""The correction adds the readings that a blocked client could not take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.records.clock import SECOND
from harness.records.histogram import Histogram, bucket, merge, quantile
from harness.records.timer_lag import PROBE_INTERVAL, corrected

MS = SECOND // 1000
lags = st.lists(st.one_of(st.integers(0, 3 * SECOND), st.integers(0, 30 * MS)), max_size=30)


def histogram(values: list[int]) -> Histogram:
    return merge({bucket(value): 1} for value in values)


def with_omitted(lag: int) -> list[int]:
    """Return the lag, and those of the timers due after it while the client was blocked."""
    found = [lag]
    while (lag := lag - PROBE_INTERVAL) > 0:
        found.append(lag)
    return found


@given(lags)
def test_every_timer_that_was_not_set_in_a_block_counts(values: list[int]) -> None:
    named = [bucket(value) for value in values]
    assert corrected(histogram(values)) == histogram([x for v in named for x in with_omitted(v)])


@given(lags)
def test_lags_below_the_interval_stand_for_themselves_alone(values: list[int]) -> None:
    short = [value for value in values if value < PROBE_INTERVAL]
    assert corrected(histogram(short)) == histogram(short)


@given(lags, lags)
def test_correction_and_merging_may_be_exchanged(one: list[int], other: list[int]) -> None:
    parts = [histogram(one), histogram(other)]
    assert corrected(merge(parts)) == merge(map(corrected, parts))


def test_the_median_of_a_client_that_is_blocked_most_of_the_time_is_that_of_its_blocks() -> None:
    # 44 timers in time and 6 blocks of 2 s: it was blocked for 93 % of 12.9 s.
    readings = {bucket(MS // 5): 44, bucket(2 * SECOND): 6}
    before, after = quantile(readings, 0.5), quantile(corrected(readings), 0.5)
    assert before is not None
    assert after is not None
    assert before < MS
    assert 0.9 * SECOND < after < 1.1 * SECOND
