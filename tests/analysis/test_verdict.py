"""The verdict names what limited the measurement, by which number and against which limit."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from harness.analysis.model import Verdict
from harness.analysis.oracle import join
from harness.analysis.verdict import judge
from harness.records.histogram import Histogram, bucket
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
    trials = [
        replace(trial, loop_lag=lag) if trial.cell == cell else trial for trial in records.trials
    ]
    return records._replace(trials=trials)


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
    records = make_records([CELL], 1, workflows=6)
    found = verdict_on(with_lag(records, lag(2, 300)))
    assert found.bottleneck == "client"
    (because,) = found.because
    assert because.startswith("99th percentile of event-loop lag is 3")
    assert "above the limit of 50 ms" in because


def test_one_hiccup_among_few_readings_is_no_tail() -> None:
    records = make_records([CELL], 1, workflows=6)
    few = {bucket(MS): 58, bucket(300 * MS): 2}
    assert verdict_on(with_lag(records, few)).bottleneck == "none"
    many = {bucket(MS): 98, bucket(300 * MS): 2}
    assert verdict_on(with_lag(records, many)).bottleneck == "client"


def test_a_late_provider_is_named_with_its_number() -> None:
    found = verdict(lateness_ms=30.0)
    assert found.bottleneck == "simulator"
    assert "Median provider lateness is 29.9 ms" in found.because[0]


def test_the_one_further_above_its_limit_is_named_and_the_other_said() -> None:
    records = make_records([CELL], 1, workflows=6, shape=Shape(lateness_ms=8.0))
    found = verdict_on(with_lag(records, lag(2, 400)))
    assert found.bottleneck == "client"
    assert "event-loop lag" in found.because[0]
    assert "provider lateness" in found.because[1]


def test_text_that_is_read_late_names_the_client() -> None:
    found = verdict(wire_ms=20.0)
    assert found.bottleneck == "client"
    assert "first write to the client's first text is 20 ms" in found.because[0]


def test_ten_milliseconds_do_not_matter_where_a_first_token_takes_a_second() -> None:
    slow, quick = verdict(lateness_ms=10.0, ttft_ms=1000.0), verdict(lateness_ms=10.0)
    assert (slow.bottleneck, quick.bottleneck) == ("none", "simulator")


def test_lateness_does_not_raise_its_own_limit() -> None:
    # Measured, the first token takes 1 s; scheduled, it takes .1 s.
    found = verdict(lateness_ms=900.0, ttft_ms=1000.0)
    assert "the limit of 5.0" in next(s for s in found.because if "Median provider" in s)


def test_one_bad_cell_is_not_hidden_by_good_ones() -> None:
    records = make_records((CELL, "async_2_none_attempt", "sync_1_none_attempt"), 1, workflows=6)
    found = verdict_on(with_lag(records, lag(200, 400)))
    assert found.bottleneck == "client"
    assert all(CELL in sentence for sentence in found.because)
    assert found.event_loop_lag_s is not None
    assert found.event_loop_lag_s.p50 > 0.19


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
