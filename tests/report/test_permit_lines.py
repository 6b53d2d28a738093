"""The places of settings on an axis of permits: numbers, and columns for limits that adapt."""

from __future__ import annotations

import math

import pytest

from harness.records.schema import CellInfo
from harness.report.charts.permit_lines import permit_places
from tests.report.predictions import info, limited

NUMBERS = [info(permits) for permits in (1, 4, 24)]
LIMITS = [limited(100, "elastic"), limited(12, "careful"), limited(100, "inspect-ai")]


def test_numbers_alone_have_the_axis_that_they_had() -> None:
    places = permit_places(NUMBERS)
    assert [(tick.value, tick.text) for tick in places.axis.ticks] == [
        (1, "1"), (4, "4"), (24, "24")
    ]  # fmt: skip
    assert places.axis.label == "permits: calls at once"
    assert [places.of(one) for one in NUMBERS] == [1, 4, 24]
    assert not places.edge
    assert not places.axis.is_name(24)


@pytest.mark.parametrize("limits", [LIMITS, LIMITS[:1]])
def test_limits_have_equal_columns_right_of_the_numbers(limits: list[CellInfo]) -> None:
    places = permit_places([*NUMBERS, *limits])
    axis, (edge,) = places.axis, places.edge
    texts = [tick.text for tick in axis.ticks]
    assert texts == ["1", "4", "24", *sorted(one.limiter for one in limits)]
    assert 24 < edge.value < min(map(places.of, limits))
    assert [axis.is_name(tick.value) for tick in axis.ticks] == [False] * 3 + [True] * len(limits)
    columns = sorted(places.across(one) for one in limits)
    widths = [axis.place(right) - axis.place(left) for left, right in columns]
    assert widths == pytest.approx([widths[0]] * len(limits), abs=0.01)
    ends = [axis.place(edge.value), *(axis.place(at) for column in columns for at in column), 100]
    assert ends == sorted(ends)
    assert 100 - axis.place(edge.value) <= 50.01, "numbers keep half of the axis"


def test_limits_alone_fill_the_axis() -> None:
    places = permit_places(LIMITS)
    assert [tick.text for tick in places.axis.ticks] == ["careful", "elastic", "inspect-ai"]
    assert not places.edge
    middles = [places.axis.place(places.of(one)) for one in sorted(LIMITS, key=places.of)]
    assert middles[1] == pytest.approx(50, abs=0.1)
    assert middles[2] - middles[1] == pytest.approx(middles[1] - middles[0], abs=0.1)
    assert all(math.isfinite(at) and 0 < at < 100 for at in middles)


def test_long_names_are_shortened_and_stay_distinct() -> None:
    named = [limited(9, f"a-very-long-name-{which}") for which in "ab"]
    texts = [tick.text for tick in permit_places([*NUMBERS, *named]).axis.ticks][-2:]
    assert len(set(texts)) == 2
    assert max(map(len, texts)) <= 12
