"""Computes the gaps between text chunks from the virtual work, without an event for each chunk.

At constant speed, chunks of equal size come at equal intervals, so one number determines the
histogram of their gaps. If the speed changed during a response, its chunks are divided into
`GAP_SLICES` parts of equal count, and all gaps of a part are approximated by their mean, which is
exact in parts without a change. The sum of all gaps is exact to one nanosecond per part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.records.histogram import BatchedHistogram, Histogram, bucket
from harness.simulator.rates import Rates
from harness.simulator.script import ChunkLayout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GAP_SLICES = 8


def gaps_of(
    layout: ChunkLayout,
    chunks: int,
    origin: float,
    first: int,
    last: int,
    rates: Rates,
    place: int = 0,
) -> Mapping[int, int]:
    """Return the gaps between the first `chunks` chunks of one response, in nanoseconds.

    The first chunk came at `first`, at the virtual work `origin`, the last one at `last`. `rates`
    had recorded `place` changes by the first chunk.
    """
    if chunks < 2:
        return {}
    reasoning, answer, size = layout
    begin = origin - min(size, reasoning or answer)
    end = begin + layout.end(chunks)
    itl = rates.constant(origin, end, place)
    if itl is None or last - first > (end - origin + 0.5) * itl:  # or a pause after the first chunk
        return SlicedGaps(rates, (reasoning, answer, size, chunks, begin, first, last, place))
    gaps: Histogram = {}
    for size, count in layout.sizes(chunks).items():
        name = bucket(round(size * itl))
        gaps[name] = gaps.get(name, 0) + count
    return gaps


class SlicedGaps(BatchedHistogram):
    """The gaps of a response during which the speed changed.

    They are computed when somebody needs them. Alone that takes 60 us, together with sixty others
    4 us each.
    """

    __slots__ = ("_histogram", "_rates", "_response")

    def __init__(
        self, rates: Rates, response: tuple[int, int, int, int, float, int, int, int]
    ) -> None:
        """`response`: its layout, chunks, start in virtual work, first, last and place."""
        self._rates = rates
        self._response = response
        self._histogram: Histogram | None = None

    @staticmethod
    def arrays(batch: Sequence[SlicedGaps]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return names and counts of gaps at one provider; see `BatchedHistogram`."""
        import numpy as np  # a short run needs none

        rates, responses = batch[0]._rates, [one._response for one in batch]
        reasoning, answer, size, chunks, begin, first, last, place = (
            np.array(values)[:, np.newaxis] for values in zip(*responses, strict=True)
        )
        parts = np.minimum(GAP_SLICES, chunks - 1)
        ends = 1 + np.minimum(np.arange(GAP_SLICES + 1), parts) * (chunks - 1) // parts
        counts = np.diff(ends)
        # The tokens by the end of each part but the last, as by `ChunkLayout.end`.
        inner, thoughts = ends[:, 1:-1], -(-reasoning // size)
        thinking = np.minimum(inner * size, reasoning)
        answering = np.clip((inner - thoughts) * size, 0, answer)
        work = begin + (thinking + answering)
        # The times of these tokens, as by `Rates.moment`.
        start = max(int(place.min()) - 1, 0)
        works = np.frombuffer(rates.works)[start:]
        since = np.maximum(np.searchsorted(works, work) - 1, 0)
        itls, ats = np.frombuffer(rates.itls)[start:], np.frombuffer(rates.ats, np.int64)[start:]
        later = np.rint((work - works[since]) * itls[since]).astype(np.int64)
        moments = np.where(inner < chunks, ats[since] + later, last)
        gaps = np.diff(moments, prepend=first, append=last)
        gaps = np.maximum(gaps // np.maximum(counts, 1), 0)
        shift = np.maximum(np.frexp(gaps.astype(np.float64))[1] - 8, 0)
        return gaps >> shift << shift, counts

    @property
    def histogram(self) -> Histogram:
        """The histogram as a dictionary."""
        if self._histogram is None:
            compute([self])
        assert self._histogram is not None, "it has been computed"
        return self._histogram

    def __getitem__(self, name: int) -> int:
        return self.histogram[name]

    def __iter__(self) -> Iterator[int]:
        return iter(self.histogram)

    def __len__(self) -> int:
        return len(self.histogram)


def compute(batch: Sequence[SlicedGaps]) -> None:
    """Compute the histograms of gaps at one provider together."""
    if not batch:
        return
    names, counts = SlicedGaps.arrays(batch)
    for one, mine, each in zip(batch, names.tolist(), counts.tolist(), strict=True):
        gaps: Histogram = {}
        one._histogram = gaps
        for name, count in zip(mine, each, strict=True):
            if count:
                gaps[name] = gaps[name] + count if name in gaps else count
