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
    begin = origin - layout.end(1)
    ends, counts = _parts(layout, chunks)
    itl = rates.constant(origin, begin + ends[-1], place)
    gaps: Histogram = {}
    if itl is not None:
        for size, count in layout.sizes(chunks).items():
            name = bucket(round(size * itl))
            gaps[name] = gaps.get(name, 0) + count
        return gaps
    works, ats, itls = rates.works, rates.ats, rates.itls
    at, final = first, ends[-1]
    for end, count in zip(ends, counts, strict=True):
        moment = last
        if end != final:  # `rates.moment`, without a call for each part
            work = begin + end
            place = bisect_left(works, work, place)
            since = place - 1 if place else 0
            moment = ats[since] + round((work - works[since]) * itls[since])
        name = bucket((moment - at) // count)
        gaps[name] = gaps.get(name, 0) + count
        at = moment
    return gaps


@lru_cache(maxsize=1024)
def _parts(layout: ChunkLayout, chunks: int) -> tuple[list[int], list[int]]:
    """Return for each part the tokens by its end, and its number of gaps."""
    parts = min(GAP_SLICES, chunks - 1)
    bounds = [1 + part * (chunks - 1) // parts for part in range(parts + 1)]
    return [layout.end(bound) for bound in bounds[1:]], [b - a for a, b in pairwise(bounds)]
