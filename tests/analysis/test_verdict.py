"""The verdict names what limited the measurement, by which number and against which limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.analysis.model import Verdict
from harness.analysis.oracle import join
from harness.analysis.verdict import client_limit, judge
from harness.records.clock import SECOND
from harness.records.histogram import Histogram, bucket
from harness.records.timer_lag import LateTimer
from harness.store.run_directory import Records
from tests.analysis.builders import MS, by_cell
from tests.analysis.played import Shape, make_records

CELL = "async_8_none_attempt"


def verdict_on(records: Records) -> Verdict:
    return judge(by_cell(records), join(records))


def verdict(cells: tuple[str, ...] = (CELL,), **shape: Any) -> Verdict:
    records = make_records(cells, 1, workflows=6, shape=Shape(**({"sigma": 0.1} | shape)))
    return verdict_on(records)


def with_lag(records: Records, lag: Histogram, cell: str = CELL) -> Records:
    """Return records of an earlier version: the lags have no times."""
    trials = [
        replace(trial, loop_lag=lag) if trial.cell == cell else trial for trial in records.trials
    ]
    return records._replace(trials=trials)


def live(cells: tuple[str, ...] = (CELL,), **shape: Any) -> Records:
    plain = {"sigma": 0.1, "ttft_ms": 100.0}
    return make_records(cells, 1, workflows=6, shape=Shape(**(plain | shape)), simulated=False)


LIVE = live()


def added(
    records: Records,
    wait: Callable[[int], int],
    late: Callable[[int], int],
    second: Callable[[int], int] = lambda number: number,
) -> Records:
    """Let the client wait and read late; both in nanoseconds, by the number of the attempt.

    The late reading is that of timers whose lags are recorded with their times. `second`: in
    which an attempt is sent; one for each attempt, so that no timer belongs to two.
    """
    timers: list[LateTimer] = []
    attempts = []
    for number, attempt in enumerate(records.attempts):
        sent = second(number) * SECOND
        first = sent + 100 * MS + late(number)
        timers.append(LateTimer(first - late(number), late(number)))
        attempts.append(
            replace(
                attempt, permit_granted=sent - wait(number), sent=sent, headers=first,
                first_reasoning=first, first_answer=first,
            )
        )  # fmt: skip
    trials = [replace(t, start=0, late_timers=tuple(timers)) for t in records.trials]
    return records._replace(attempts=attempts, trials=trials)


def lag(typical_ms: float, rare_ms: float) -> Histogram:
    return {bucket(int(typical_ms * MS)): 196, bucket(int(rare_ms * MS)): 4}


def test_a_client_and_a_provider_in_time_limit_nothing() -> None:
    found = verdict(cpu_share=0.5, lateness_ms=1.0, loop_lag_ms=1.0)
    assert found.bottleneck == "none"
    assert len(found.because) == 2
    assert any("client" in sentence or "event-loop" in sentence for sentence in found.because)
    assert any("provider lateness is" in sentence for sentence in found.because)
    assert all("within the limit of" in sentence for sentence in found.because)


def test_sixty_four_streams_with_tails_of_fifteen_milliseconds_are_in_time() -> None:
    records = make_records([CELL], 1, workflows=6, shape=Shape(cpu_share=0.5, lateness_ms=1.0))
    found = verdict_on(with_lag(records, lag(0.5, 15)))
    assert found.bottleneck == "none"
    assert found.event_loop_lag_s is not None
    assert 0.014 < found.event_loop_lag_s.p99 < 0.016


def test_a_saturated_client_is_named_with_its_number_and_the_limit() -> None:
    found = verdict(cpu_share=0.97)
    assert found.bottleneck == "client"
    assert found.because == (
        f"The client's processor time is 97 % of a core in {CELL}, "
        "above the limit of 90 % of a core.",
    )


def test_a_lagging_loop_names_the_client() -> None:
    found = verdict_on(with_lag(live(), lag(0.5, 300)))
    assert found.bottleneck == "client"
    assert found.because[0].startswith(
        "The client's part of the 99th percentile of the time to first token is"
    )


@given(st.integers(0, 1000).filter(lambda permille: permille != 25), st.booleans())
def test_the_median_and_the_client_wait_have_a_limit_of_2_and_a_half_percent(
    permille: int, waiting: bool
) -> None:
    part = permille * 100 * MS // 1000
    found = verdict_on(
        added(LIVE, lambda _: part if waiting else 0, lambda _: 0 if waiting else part)
    )
    assert found.bottleneck == ("client" if permille > 25 else "none")
    if permille > 25:
        assert "part of the median time" in found.because[0]
        assert "limit of 2.5 ms" in found.because[0]


@pytest.mark.parametrize(("rare_ms", "limited"), [(2, "none"), (4, "client")])
def test_the_99th_percentile_has_a_limit_of_its_own(rare_ms: int, limited: str) -> None:
    late = rare_ms * MS
    found = verdict_on(added(live(), lambda _: 0, lambda number: late if number < 2 else 0))
    assert found.bottleneck == limited
    assert "99th percentile of the time to first token" in found.because[0]


def test_the_limit_is_not_below_a_millisecond() -> None:
    assert verdict(ttft_ms=10.0, wire_ms=0.5, client_wait_ms=0.3).bottleneck == "none"
    assert verdict(ttft_ms=10.0, wire_ms=0.5, client_wait_ms=0.9).bottleneck == "client"
    assert client_limit(0.04) == 0.001
    assert client_limit(2.0) == pytest.approx(0.05)


@given(st.floats(0.001, 10))
def test_the_limit_is_between_the_errors_that_must_and_must_not_be_found(clean: float) -> None:
    limit = client_limit(clean)
    assert limit > 0.01 * clean
    assert limit < 0.05 * clean or limit == 0.001


def test_a_delay_does_not_raise_its_own_limit() -> None:
    found = verdict_on(added(live(), lambda _: 0, lambda _: 900 * MS))
    assert found.bottleneck == "client"
    assert "is 900 ms" in found.because[0]
    assert "limit of 2.5 ms" in found.because[0]


def test_the_worst_second_is_judged_if_it_has_enough_attempts() -> None:
    count = len(LIVE.attempts)

    def told(slow: float) -> Verdict:
        slow_ones = round(count * slow)
        return verdict_on(
            added(
                LIVE,
                lambda number: 30 * MS if number < slow_ones else 0,
                lambda _: 0,
                second=lambda number: 5 if number < slow_ones else 20 + number,
            )
        )

    found = told(0.3)
    assert found.bottleneck == "client"
    assert found.because == (
        "The client's part of the median time from permit to first token in the worst second is "
        f"30 ms in {CELL} (5 s after its first trial began, 30 % of the attempts), "
        "above the limit of 10 ms.",
    )
    assert told(0.05).bottleneck == "none"


def test_client_wait_names_the_client_of_any_mode() -> None:
    for cell in (CELL, "threads_8_none_attempt", "sync_1_none_attempt"):
        assert verdict_on(live((cell,), client_wait_ms=20.0)).bottleneck == "client"
        assert verdict_on(live((cell,), client_wait_ms=0.2)).bottleneck == "none"


def test_a_loop_that_is_blocked_most_of_the_time_names_the_client() -> None:
    # As found against a live endpoint: 50 readings in 4 s, of which 7 are of blocks of .5 s.
    records = live()
    found = verdict_on(with_lag(records, {bucket(MS // 5): 43, bucket(SECOND // 2): 7}))
    assert found.bottleneck == "client"
    assert found.event_loop_lag_s is not None
    assert found.event_loop_lag_s.p50 > 0.1


def test_a_hiccup_at_another_time_than_any_first_token_is_no_error() -> None:
    records = added(LIVE, lambda _: 0, lambda number: 60 * MS if number == 0 else 0)
    assert "99th" in verdict_on(records).because[0]
    hiccup = (LateTimer(500 * MS, 60 * MS),)
    trials = [replace(trial, late_timers=hiccup) for trial in records.trials]
    assert verdict_on(records._replace(trials=trials)).bottleneck == "none"


def test_a_late_provider_is_named_with_its_number() -> None:
    found = verdict(lateness_ms=30.0)
    assert found.bottleneck == "simulator"
    assert "Median provider lateness is 29.9 ms" in found.because[0]


def test_the_one_further_above_its_limit_is_named_and_the_other_said() -> None:
    found = verdict(lateness_ms=8.0, wire_ms=30.0)
    assert found.bottleneck == "client"
    assert "The client's part" in found.because[0]
    assert "provider lateness" in found.because[2]


def test_text_that_is_read_late_names_the_client() -> None:
    found = verdict(wire_ms=20.0)
    assert found.bottleneck == "client"
    assert "part of the median time from permit to first token is 20.2 ms" in found.because[0]


def test_ten_milliseconds_do_not_matter_where_a_first_token_takes_a_second() -> None:
    slow, quick = verdict(lateness_ms=10.0, ttft_ms=1000.0), verdict(lateness_ms=10.0)
    assert (slow.bottleneck, quick.bottleneck) == ("none", "simulator")


def test_lateness_does_not_raise_its_own_limit() -> None:
    # Measured, the first token takes 1 s; scheduled, it takes .1 s.
    found = verdict(lateness_ms=900.0, ttft_ms=1000.0)
    assert "the limit of 5.0" in next(s for s in found.because if "Median provider" in s)


def test_one_bad_cell_is_not_hidden_by_good_ones() -> None:
    records = live((CELL, "async_2_none_attempt", "sync_1_none_attempt"))
    found = verdict_on(with_lag(records, lag(200, 400)))
    assert found.bottleneck == "client"
    assert all(CELL in sentence for sentence in found.because)
    assert found.event_loop_lag_s is not None
    assert found.event_loop_lag_s.p50 > 0.1  # lags of 200 ms, and of those that it omitted


def test_against_a_live_endpoint_only_the_client_is_judged() -> None:
    records = make_records([CELL], 1, simulated=False, shape=Shape(cpu_share=0.95))
    found = verdict_on(records)
    assert found.bottleneck == "client"
    assert found.provider_lateness_s is None
    assert found.clock_disagreement_s is None


def test_nothing_measured_limits_nothing() -> None:
    records = make_records([CELL], 1, simulated=False)
    found = verdict_on(records._replace(trials=[], attempts=[], calls=[], workflows=[]))
    assert found.bottleneck == "none"
    assert found.event_loop_lag_s is None
