"""Pooled histograms are what merging them one by one gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.analysis import pooling
from harness.analysis.pooling import pool
from harness.records.histogram import Packed, bucket, merge

histograms = st.dictionaries(st.integers(0, 2**62).map(bucket), st.integers(1, 2**31), max_size=8)
parts = st.lists(st.tuples(st.integers(0, 3), histograms), max_size=12)


@given(parts=parts)
def test_each_owner_gets_the_sum_of_its_own(parts: list[tuple[int, dict[int, int]]]) -> None:
    pooled = pool(parts)
    for owner in range(4):
        assert pooled.of(owner) == merge(part for whose, part in parts if whose == owner)


@given(parts=parts)
def test_sorting_adds_up_to_the_same_as_a_table(parts: list[tuple[int, dict[int, int]]]) -> None:
    usual, found = pooling._ROOM, []
    for room in (0, 2**40):  # never a table, always one
        pooling._ROOM = room
        try:
            found.append(pool(parts))
        finally:
            pooling._ROOM = usual
    assert all((one == other).all() for one, other in zip(*found, strict=True))
    assert [len(column) for column in found[0]] == [len(column) for column in found[1]]


@given(parts=parts)
def test_packed_histograms_add_up_to_the_same(parts: list[tuple[int, dict[int, int]]]) -> None:
    whole = pool(parts)
    packed = pool(
        (owner, Packed(part) if at % 2 else part) for at, (owner, part) in enumerate(parts)
    )
    assert all((one == other).all() for one, other in zip(whole, packed, strict=True))


@given(parts=parts)
def test_portions_of_any_size_add_up_to_the_same(
    parts: list[tuple[int, dict[int, int]]],
) -> None:
    whole = pool(parts)
    usual, pooling._AT_ONCE = pooling._AT_ONCE, 2
    try:
        cut = pool(parts)
    finally:
        pooling._AT_ONCE = usual
    assert all((one == other).all() for one, other in zip(whole, cut, strict=True))
