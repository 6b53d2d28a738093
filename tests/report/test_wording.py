from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.model import Figure, Throughput
from harness.report.wording import (
    cell_labels,
    in_reading_order,
    in_seconds,
    number,
    percent,
    rate_unit,
    scaled,
    shortened,
    spoken,
    times_as,
    with_interval,
)
from tests.report.summaries import figure, make_cell, make_summary


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "—"), (0, "0"), (0.0, "0"), (1, "1.00"), (9.999, "10.0"), (12.345, "12.3"),
        (123.4, "123"), (1234.5, "1234"), (99999.0, "99999"), (0.5, "0.500"), (0.01234, "0.0123"),
        (0.000123, "0.000123"), (0.00004, "0.0000400"), (1e-12, "0"), (-2.5, "-2.50"),
        (999.6, "1000"),
    ],
)  # fmt: skip
def test_numbers_have_three_significant_digits_and_no_exponent(
    value: float | None, written: str
) -> None:
    assert number(value) == written


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_a_written_number_is_within_half_a_percent(value: float) -> None:
    assert float(number(value)) == pytest.approx(value, rel=0.006)


def test_a_small_share_is_not_written_as_none() -> None:
    assert [percent(share) for share in (0, 0.004, 0.126, 1)] == [
        "0\u00a0%", "<1\u00a0%", "13\u00a0%", "100\u00a0%",
    ]  # fmt: skip


def test_an_interval_is_written_only_when_it_has_both_bounds() -> None:
    assert with_interval(Figure(value=7.41, low=7.1, high=7.72)) == "7.41 (7.10–7.72)"
    assert with_interval(Figure(value=7.41, low=None, high=7.72)) == "7.41"
    assert with_interval(None) == "—"


def test_scaling_a_figure_scales_its_bounds_and_keeps_what_is_absent() -> None:
    assert scaled(Figure(value=2, low=1, high=3), 10) == Figure(value=20, low=10, high=30)
    assert scaled(Figure(value=2), 10) == Figure(value=20)
    assert scaled(None, 10) is None
    summary = make_summary([], time_scale=0.5)
    assert in_seconds(Figure(value=2), summary) == Figure(value=4)


def test_rates_are_a_minute_in_scenario_time_or_an_hour_when_that_would_be_below_one() -> None:
    def at(rate: float, scale: float) -> tuple[str, float]:
        throughput = Throughput(workflows_per_s=figure(rate), calls_per_s=None)
        cell = make_cell(throughput=throughput)
        return rate_unit(make_summary([cell], time_scale=scale))

    # One scenario minute lasts 60 * 0.5 real seconds.
    assert at(1.0, 0.5) == ("a minute", 30.0)
    assert at(0.01, 0.5) == ("an hour", 1800.0)
    assert rate_unit(make_summary([]))[0] == "an hour"


@given(
    st.lists(st.text("ab-", min_size=1, max_size=40), min_size=1, max_size=12, unique=True),
    st.integers(min_value=4, max_value=30),
)
def test_short_names_are_short_and_differ(names: list[str], limit: int) -> None:
    short = shortened(names, limit)
    assert all(len(name) <= limit for name in short.values())
    assert len(set(short.values())) == len(names)
    if max(map(len, names)) <= limit:
        assert short == {name: name for name in names}


def test_a_long_name_is_cut_in_the_middle_unless_that_makes_the_difference() -> None:
    assert shortened(["full-jitter-with-cap"], 10) == {"full-jitter-with-cap": "full-…-cap"}
    assert shortened(["full-jitter-10-cap", "full-other-10-cap"], 10) == {
        "full-jitter-10-cap": "full-jitt…", "full-other-10-cap": "full-othe…",
    }  # fmt: skip
    assert shortened(["full-jitter-short", "full-jitter-long"], 10) == {
        "full-jitter-short": "full-…hort", "full-jitter-long": "full-…long",
    }  # fmt: skip


def test_cells_are_named_by_what_tells_them_apart() -> None:
    same = [make_cell("sync_1_none_attempt"), make_cell("async_8_none_attempt")]
    assert list(cell_labels(same).values()) == ["sync", "async 8"]
    vary = [*same, make_cell("async_8_patient_call")]
    assert list(cell_labels(vary).values()) == [
        "sync · none · per attempt", "async 8 · none · per attempt", "async 8 · patient · per call",
    ]  # fmt: skip
    assert spoken(vary[2], vary) == "async with 8 permits, retry patient and a permit per call"
    assert spoken(make_cell("async_1_none_attempt"), same) == "async with 1 permit"
    assert spoken(same[0], same) == "sync"


def test_cells_of_one_policy_stand_together_from_sync_upwards() -> None:
    ids = [
        "async_8_b_attempt", "sync_1_a_attempt", "async_2_b_attempt", "threads_4_b_attempt",
        "sync_1_b_attempt",
    ]  # fmt: skip
    assert [cell.id for cell in in_reading_order(map(make_cell, ids))] == [
        "sync_1_b_attempt", "threads_4_b_attempt", "async_2_b_attempt", "async_8_b_attempt",
        "sync_1_a_attempt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.9996, "as fast"),
        (1.004, "as fast"),
        (1.006, "1.01 times as fast"),
        (0.9, "0.900 times as fast"),
    ],
)
def test_a_factor_that_is_written_as_1_is_not_written(ratio: float, text: str) -> None:
    assert times_as(ratio, "fast") == text
