"""Computes the gaps between text chunks from the virtual work, without an event for each chunk.

At constant speed, chunks of equal size come at equal intervals, so one number determines the
histogram of their gaps. If the speed changed during a response, its chunks are divided into
`GAP_SLICES` parts of equal count, and all gaps of a part are approximated by their mean, which is
exact in parts without a change. The sum of all gaps is exact to one nanosecond per part.
"""

from __future__ import annotations

from harness.records.histogram import Histogram, bucket
from harness.simulator.rates import Rates

GAP_SLICES = 8


class ChunkLayout:
    """The division of a text into chunks of `size` tokens: first `reasoning`, then `answer` tokens.

    The last chunk of either part can be smaller.
    """

    __slots__ = ("answer", "reasoning", "size", "thoughts")

    def __init__(self, reasoning: int, answer: int, size: int) -> None:
        self.reasoning = reasoning
        self.answer = answer
        self.size = size
        self.thoughts = -(-reasoning // size)

    def end(self, chunk: int) -> int:
        """Return the number of tokens in the first `chunk` chunks."""
        if chunk <= self.thoughts:
            return min(chunk * self.size, self.reasoning)
        return self.reasoning + min((chunk - self.thoughts) * self.size, self.answer)

    def sizes(self, chunks: int) -> dict[int, int]:
        """Return the sizes of chunks 2 to `chunks`, with the number of chunks of each size."""
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

    The first chunk came at `first`, at the virtual work `origin`, the last one at `last`.
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
