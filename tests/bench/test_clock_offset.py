"""The offset of another clock, from round trips."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.bench.clock_offset import RoundTrip, clock_offset

SECOND = 10**9
TRIPS = st.lists(
    st.tuples(st.integers(0, SECOND), st.integers(0, SECOND), st.integers(0, SECOND)), min_size=1
)
"""When a question is asked, and how long it takes on its way there and back."""


@given(TRIPS, st.integers(-(10**15), 10**15))
def test_the_offset_is_wrong_by_at_most_its_uncertainty(
    trips: list[tuple[int, int, int]], ahead: int
) -> None:
    found = clock_offset(
        [RoundTrip(at, at + there + ahead, at + there + back) for at, there, back in trips]
    )
    assert abs(found.offset - ahead) <= found.uncertainty
    assert found.uncertainty <= -(-min(there + back for _, there, back in trips) // 2)
    assert found.round_trips == len(trips)


def test_the_same_way_there_and_back_gives_the_offset_exactly() -> None:
    found = clock_offset([RoundTrip(0, 900, 1000), RoundTrip(5000, 5050 + 7, 5100)])
    assert found == (7, 50, 2)
