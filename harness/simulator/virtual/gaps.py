"""Computes the gaps between text chunks from the virtual work, without an event for each chunk.

At constant speed, chunks of equal size come at equal intervals, so one number determines the
histogram of their gaps. If the speed changed during a response, its chunks are divided into
`GAP_SLICES` parts of equal count, and all gaps of a part are approximated by their mean, which is
exact in parts without a change. The sum of all gaps is exact to one nanosecond per part.
"""

from __future__ import annotations

from harness.records.histogram import Histogram, bucket
from harness.simulator.rates import Rates
from harness.simulator.script import ChunkLayout

GAP_SLICES = 8


def gaps_of(
    layout: ChunkLayout, chunks: int, origin: float, first: int, last: int, rates: Rates
) -> Histogram:
    """Return the gaps between the first `chunks` chunks of one response, in nanoseconds.

    The first chunk came at `first`, at the virtual work `origin`, the last one at `last`.
    """
    if chunks < 2:
        return {}
    begin = origin - layout.end(1)
    itl = rates.constant(origin, begin + layout.end(chunks))
    gaps: Histogram = {}
    if itl is not None:
        for size, count in layout.sizes(chunks).items():
            name = bucket(round(size * itl))
            gaps[name] = gaps.get(name, 0) + count
        return gaps
    parts = min(GAP_SLICES, chunks - 1)
    bounds = [1 + part * (chunks - 1) // parts for part in range(1, parts + 1)]
    moments = rates.moments([begin + layout.end(bound) for bound in bounds[:-1]])
    before, at = 1, first
    for bound, moment in zip(bounds, (*moments, last), strict=True):
        name = bucket((moment - at) // (bound - before))
        gaps[name] = gaps.get(name, 0) + bound - before
        before, at = bound, moment
    return gaps
