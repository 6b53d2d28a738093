"""Histograms: every value is known to better than 0.8 %, and merging loses nothing."""

from __future__ import annotations

import math
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.histogram import (
    Histogram,
    Packed,
    bucket,
    bucket_number,
    merge,
    middle,
    named,
    quantile,
)

numbers = st.integers(0, 2**63 - 1) | st.integers(0, 600)
samples = st.lists(numbers, max_size=60)


def of(values: list[int]) -> Histogram:
    return dict(Counter(map(bucket, values)))


def end(name: int) -> int:
    """Return the smallest value above the bucket called `name`."""
    above = name + 1
    while bucket(above) == name:
        above += 1 << max(name.bit_length() - 12, 0)
    return bucket(above)


@given(numbers)
def test_a_bucket_is_named_by_its_smallest_value_and_narrower_than_a_hundredth(value: int) -> None:
    name = bucket(value)
    assert bucket(name) == name <= value < end(name)
    assert end(name) - name <= max(1, name / 128)
    assert (end(name) - name) / max(name, 128) < 0.008


def test_small_values_have_a_bucket_each() -> None:
    assert [bucket(value) for value in range(256)] == list(range(256))
    assert [bucket(value) for value in (256, 257, 258, 511, 512, 515, 516)] == [
        256, 256, 258, 510, 512, 512, 516,
    ]  # fmt: skip


def test_a_value_below_zero_counts_as_zero() -> None:
    assert bucket(-5) == 0


@given(numbers, numbers)
def test_buckets_keep_the_order_of_values(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert bucket(low) <= bucket(high)


@given(numbers)
def test_the_middle_of_a_bucket_lies_in_it_as_far_from_either_end(value: int) -> None:
    name = bucket(value)
    width = end(name) - name
    assert name <= middle(name) < end(name)
    assert middle(name) == (name if width == 1 else name + width / 2)


@given(st.lists(samples, max_size=5))
def test_merging_gives_the_histogram_of_all_values_together(parts: list[list[int]]) -> None:
    together = of([value for part in parts for value in part])
    assert merge(map(of, parts)) == together


def test_merging_leaves_its_parts_alone() -> None:
    part = {1: 2}
    merged = merge([part])
    merged[1] = 99
    assert part == {1: 2}


@given(samples.filter(bool), st.floats(0, 1))
def test_a_quantile_is_the_middle_of_the_bucket_where_that_value_is(
    values: list[int], q: float
) -> None:
    value = sorted(values)[math.floor(q * (len(values) - 1))]
    found = quantile(of(values), q)
    assert found == middle(bucket(value))
    assert abs(found - value) <= value * 0.008


def test_an_empty_histogram_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({7: 0}, 0.5) is None


@pytest.mark.parametrize(("q", "value"), [(0.0, 10), (0.5, 20), (0.74, 20), (0.75, 40), (1.0, 40)])
def test_a_quantile_counts_every_value(q: float, value: int) -> None:
    assert quantile({40: 2, 10: 1, 20: 2}, q) == value


@given(numbers)
def test_every_bucket_has_a_number_of_its_own_in_their_order(value: int) -> None:
    name = bucket(value)
    assert named(bucket_number(name)) == name
    assert bucket_number(end(name)) == bucket_number(name) + 1
    assert bucket_number(name) < 2**13


@given(samples, st.integers(1, 2**32 // 60))
def test_a_packed_histogram_reads_as_the_one_it_was_made_from(
    values: list[int], times: int
) -> None:
    histogram = {name: times * count for name, count in of(values).items()}
    packed = Packed(histogram)
    assert dict(packed) == histogram
    assert packed == histogram
    assert len(packed) == len(histogram)
    assert quantile(packed, 0.5) == quantile(histogram, 0.5)


@pytest.mark.parametrize(("count", "kind"), [(255, "B"), (256, "H"), (65_535, "H"), (65_536, "I")])
def test_counts_are_packed_as_small_as_the_largest_allows(count: int, kind: str) -> None:
    packed = Packed({7: 1, 300: count})
    assert packed.kind == kind
    assert (packed[300], packed[7], list(packed)) == (count, 1, [7, 300])


def test_a_packed_histogram_is_a_tenth_as_large() -> None:
    histogram = of([1000 * value for value in range(100, 200)])
    packed = Packed(histogram)
    parts = [*histogram, *histogram.values()]
    plain = sys.getsizeof(histogram) + sum(sys.getsizeof(part) for part in parts)
    assert 10 * (sys.getsizeof(packed) + sys.getsizeof(packed.data)) < plain
