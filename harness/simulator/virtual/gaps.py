"""When chunks of text came, without an event for each: closed forms on the virtual work.

Chunks of equal size come at equal distances as long as the speed stays the same, so the histogram
of their gaps follows from one number. Where the speed changed in the course of one response, its
chunks are cut into `SLICES` parts of equal number, and within each part all gaps are taken for
equal to their mean, which is exact in every part without a change. The sum of all gaps is always
exact to a nanosecond a part.
"""

from __future__ import annotations

from harness.records.histogram import Histogram, bucket
from harness.simulator.rates import Rates

GAP_SLICES = 8


class ChunkLayout:
    """How a text is cut into chunks: `reasoning` and then `answer` tokens, `size` in each chunk.

    The last chunk of either part may be smaller.
    """

    __slots__ = ("answer", "reasoning", "size", "thoughts")

    def __init__(self, reasoning: int, answer: int, size: int) -> None:
        self.reasoning = reasoning
        self.answer = answer
        self.size = size
        self.thoughts = -(-reasoning // size)

    def end(self, chunk: int) -> int:
        """Return how many tokens have been told after so many chunks."""
        if chunk <= self.thoughts:
            return min(chunk * self.size, self.reasoning)
        return self.reasoning + min((chunk - self.thoughts) * self.size, self.answer)

    def sizes(self, chunks: int) -> dict[int, int]:
        """Return the sizes of the first `chunks` but for the very first, and how many have each."""
        counts: dict[int, int] = {}
        for first, last in ((2, self.thoughts), (max(self.thoughts + 1, 2), chunks)):
            last = min(last, chunks)
            if last < first:
                continue
            small = self.end(last) - self.end(last - 1)
            counts[small] = counts.get(small, 0) + 1
            if last > first:
                counts[self.size] = counts.get(self.size, 0) + last - first
        return counts


def gaps_of(
    cut: ChunkLayout, chunks: int, origin: float, first: int, last: int, rates: Rates
) -> Histogram:
    """Return the gaps between the first `chunks` chunks of one response, in nanoseconds.

    The first of them came at `first`, when the work `origin` was done, the last one at `last`.
    """
    if chunks < 2:
        return {}
    begin = origin - cut.end(1)
    itl = rates.constant(origin, begin + cut.end(chunks))
    gaps: Histogram = {}
    if itl is not None:
        for size, count in cut.sizes(chunks).items():
            name = bucket(round(size * itl))
            gaps[name] = gaps.get(name, 0) + count
        return gaps
    parts = min(GAP_SLICES, chunks - 1)
    bounds = [1 + part * (chunks - 1) // parts for part in range(1, parts + 1)]
    moments = rates.moments([begin + cut.end(bound) for bound in bounds[:-1]])
    before, at = 1, first
    for bound, moment in zip(bounds, (*moments, last), strict=True):
        name = bucket((moment - at) // (bound - before))
        gaps[name] = gaps.get(name, 0) + bound - before
        before, at = bound, moment
    return gaps
