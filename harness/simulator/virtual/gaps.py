"""Computes the gaps between text chunks from the virtual work, without an event for each chunk.

At constant speed, chunks of equal size come at equal intervals, so one number determines the
histogram of their gaps. If the speed changed during a response, its chunks are divided into
`GAP_SLICES` parts of equal count, and all gaps of a part are approximated by their mean, which is
exact in parts without a change. The sum of all gaps is exact to one nanosecond per part.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from itertools import pairwise

from harness.records.histogram import Histogram, bucket
from harness.simulator.rates import Rates
from harness.simulator.script import ChunkLayout

GAP_SLICES = 8


def gaps_of(
    layout: ChunkLayout,
    chunks: int,
    origin: float,
    first: int,
    last: int,
    rates: Rates,
    place: int = 0,
) -> Histogram:
    """Return the gaps between the first `chunks` chunks of one response, in nanoseconds.

    The first chunk came at `first`, at the virtual work `origin`, the last one at `last`. `rates`
    had recorded `place` changes by the first chunk.
    """
    if chunks < 2:
        return {}
    reasoning, answer, size = layout
    begin = origin - min(size, reasoning or answer)
    gaps: Histogram = {}
    itl = rates.constant(origin, begin + layout.end(chunks), place)
    if itl is not None:
        for size, count in layout.sizes(chunks).items():
            name = bucket(round(size * itl))
            gaps[name] = gaps.get(name, 0) + count
        return gaps
    # This is called for each attempt. With calls of `layout.end`, `rates.moment` and `bucket` for
    # each part it would take twice as long.
    works, ats, itls = rates.works, rates.ats, rates.itls
    at = first
    for tokens, count in _parts(layout, chunks):
        if tokens is None:
            moment = last
        else:
            work = begin + tokens
            place = bisect_left(works, work, place)
            since = place - 1 if place else 0
            moment = ats[since] + round((work - works[since]) * itls[since])
        gap = (moment - at) // count
        if gap > 255:
            shift = gap.bit_length() - 8
            gap = gap >> shift << shift
        elif gap < 0:
            gap = 0
        gaps[gap] = gaps[gap] + count if gap in gaps else count
        at = moment
    return gaps


@lru_cache(maxsize=4096)
def _parts(layout: ChunkLayout, chunks: int) -> tuple[tuple[int | None, int], ...]:
    """Return for each part the tokens by its end, None for the last one, and its number of gaps."""
    parts = min(GAP_SLICES, chunks - 1)
    bounds = [1 + part * (chunks - 1) // parts for part in range(parts + 1)]
    return tuple(
        (None if end == chunks else layout.end(end), end - start) for start, end in pairwise(bounds)
    )
