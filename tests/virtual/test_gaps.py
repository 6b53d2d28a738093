from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.records.histogram import bucket, middle
from harness.simulator.model import Model, ServedRequest
from harness.simulator.pace import Speed
from harness.simulator.rates import Rates
from harness.simulator.script import ChunkLayout
from harness.simulator.virtual.gaps import GAP_SLICES, SlicedGaps, compute, gaps_of
from harness.store.packed_histograms import PackedHistograms, pack_mappings

ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 10**9),
        st.integers(1, 10**8),
        st.tuples(st.integers(0, 90), st.integers(1, 90)),
    ),
    min_size=1,
    max_size=8,
)


@given(ARRIVALS, st.sampled_from([0.0, 5e6]), st.integers(1, 7), st.sampled_from([0, 10**8]))
def test_gaps_are_those_of_every_chunk(
    arrivals: list[tuple[int, int, tuple[int, int]]], slowing: float, size: int, reading: int
) -> None:
    """Against a model that was asked for every chunk: exact at one speed, and in sum at any."""
    rates, cuts, came = played(arrivals, slowing, size, reading)
    for job, moments in came.items():
        true = [later - at for at, later in pairwise(moments)]
        gaps = gaps_of(cuts[job], len(moments), job.origin, moments[0], moments[-1], rates)
        assert sum(gaps.values()) == len(true)
        layout, last = cuts[job], moments[-1]
        assert gaps == gaps_of(layout, len(moments), job.origin, moments[0], last, rates, job.place)
        total = sum(middle(gap) * count for gap, count in gaps.items())
        assert abs(total - sum(true)) <= 0.008 * sum(true) + len(true)
        if slowing == reading == 0 or len(true) <= GAP_SLICES:
            near = {bucket(gap + off) for gap in true for off in (-1, 0, 1)}
            assert set(gaps) <= near


@given(ARRIVALS, st.integers(1, 7))
def test_gaps_computed_together_are_those_computed_alone(
    arrivals: list[tuple[int, int, tuple[int, int]]], size: int
) -> None:
    rates, cuts, came = played(arrivals, 5e6, size)

    def every() -> list[Mapping[int, int]]:
        return [
            gaps_of(cuts[job], len(moments), job.origin, moments[0], moments[-1], rates, job.place)
            for job, moments in came.items()
        ]

    alone = [dict(gaps) for gaps in every()]
    together = every()
    compute([gaps for gaps in together if isinstance(gaps, SlicedGaps)])
    assert [list(gaps.items()) for gaps in together] == [list(gaps.items()) for gaps in alone]
    counts, columns = pack_mappings(every())
    starts = np.concatenate([[0], np.cumsum(counts)])
    packed = PackedHistograms(starts, columns["numbers"], columns["counts"])
    rows = [packed.of(row) for row in range(len(alone))]
    assert rows == alone
    assert list(map(len, rows)) == list(map(len, alone))


def played(
    arrivals: list[tuple[int, int, tuple[int, int]]], slowing: float, size: int, reading: int = 0
) -> tuple[Rates, dict[ServedRequest, ChunkLayout], dict[ServedRequest, list[int]]]:
    """Return the history of the speed, and each request's layout and the times of its chunks."""
    rates = Rates()
    model = Model(Speed(1e7, slowing, 0.0, 0.0), None, rates)
    cuts: dict[ServedRequest, ChunkLayout] = {}
    came: dict[ServedRequest, list[int]] = {}
    now = 0

    def collect(until: int) -> None:
        for job, moments in model.pop_due(until).items():
            came.setdefault(job, []).extend(moments)

    for pause, wait, (reasoning, answer) in arrivals:
        now += pause
        collect(now)
        cut = ChunkLayout(reasoning, answer, size)
        chunks = cut.thoughts + -(-answer // size)
        writes = [cut.end(chunk) - cut.end(1) for chunk in range(1, chunks + 1)]
        job = model.arrive(now, wait, writes, reading=reading or None)
        assert job is not None
        cuts[job] = cut
    while (due := model.next_due()) is not None:
        collect(due)
    return rates, cuts, came
