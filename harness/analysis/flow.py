"""A trial over time: attempts by outcome, and the permits in use."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.records.failures import OK, is_failure
from harness.records.groups import attempts_by_call
from harness.records.schema import Attempt, Call, Trial


class Flow(NamedTuple):
    """Attempts of one trial by the moment they went out, in bins of equal width.

    `width`: nanoseconds of a bin. `counts`: for each outcome, how many attempts that ended so
    were sent in each bin; `ok` first, then the most frequent failures.
    """

    width: int
    counts: dict[str, NDArray[np.int64]]

    @property
    def every(self) -> NDArray[np.int64]:
        """How many attempts were sent in each bin, however they ended."""
        summed: NDArray[np.int64] = np.sum(list(self.counts.values()), axis=0, dtype=np.int64)
        return summed

    @property
    def total(self) -> int:
        """How many attempts there were."""
        return int(self.every.sum())

    @property
    def failed(self) -> int:
        """How many of them failed; a cancelled attempt did not."""
        others = (counts for name, counts in self.counts.items() if is_failure(name))
        return sum(int(counts.sum()) for counts in others)


def flow(attempts: Iterable[Attempt], trial: Trial, width: int) -> Flow:
    """Return the attempts of `trial` over its time; those never sent count at their end.

    `width`: nanoseconds of a bin.
    """
    bins = (trial.end - trial.start) // width + 1
    places: dict[str, list[int]] = {}
    for attempt in attempts:
        at = attempt.done if attempt.sent is None else attempt.sent
        place = (at - trial.start) // width
        places.setdefault(attempt.outcome, []).append(min(max(place, 0), bins - 1))
    order = sorted(places, key=lambda outcome: (outcome != OK, -len(places[outcome]), outcome))
    counts = {outcome: np.bincount(places[outcome], minlength=bins) for outcome in order}
    return Flow(width, counts)


class Held(NamedTuple):
    """One permit held, from `start` to `end` in nanoseconds, for these attempts of one call."""

    lane: int
    start: int
    end: int
    attempts: tuple[Attempt, ...]


def lanes(calls: Sequence[Call], attempts: Iterable[Attempt], permit_scope: str) -> list[Held]:
    """Return when each permit was held, in order of time, each in the lowest free lane.

    With permit scope `attempt` a permit is held for one attempt, with `call` from the first attempt
    to the end of the call; a hedge has its own. The lanes in use are the permits in use.
    """
    listed = list(attempts)
    is_per_call = permit_scope == "call"
    of_call = attempts_by_call(one for one in listed if is_per_call and not one.hedge)
    spans: list[tuple[int, int, tuple[Attempt, ...]]] = [
        (one.permit_granted, one.done, (one,)) for one in listed if not is_per_call or one.hedge
    ]
    ends = {call.call_key: call.done for call in calls} if of_call else {}
    spans += [
        (mine[0].permit_granted, max(ends.get(key, 0), mine[-1].done), tuple(mine))
        for key, mine in of_call.items()
    ]
    spans.sort(key=lambda span: span[:2])
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    held, used = [], 0
    for start, end, mine in spans:
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else used
        used = max(used, lane + 1)
        heapq.heappush(busy, (end, lane))
        held.append(Held(lane, start, end, mine))
    return held
