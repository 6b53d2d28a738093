"""How long the parts of the calls of a workflow took.

Most calls are one attempt; the times of these come from columns. The attempts of the others are
read one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.analysis.call_segments import PARTS, CallSegment, lengths_of_call, tiles
from harness.analysis.workflow_index import WorkflowIndex
from harness.records.groups import WorkflowGroups, WorkflowRecords
from harness.records.schema import Attempt, Call, Workflow
from harness.store.compact_records import ABSENT

_AT_ONCE = 200
_UNKNOWN = (ABSENT,) * len(PARTS)

Groups: TypeAlias = WorkflowGroups | WorkflowIndex


class TimedCalls(NamedTuple):
    """The calls of a workflow.

    `services`: nanoseconds under a permit of each call that is one attempt without backoff,
    `ABSENT` for the others. `lengths`: nanoseconds of each of `PARTS` of each call, `ABSENT` where
    `lengths_of` has to compute them. `attempts`: returns the attempts of the call at an index.
    """

    calls: list[Call]
    services: Sequence[int]
    lengths: Sequence[Sequence[int]]
    attempts: Callable[[int], list[Attempt]]

    def lengths_of(self, at: int) -> Sequence[int]:
        """Return the nanoseconds of each of `PARTS` of the call at an index."""
        known = self.lengths[at]
        if known[0] != ABSENT:
            return known
        return lengths_of_call(self.calls[at], self.attempts(at))

    def tiles_of(self, at: int) -> list[CallSegment]:
        """Return the parts of the call at an index, in order of time."""
        return tiles(self.calls[at], self.attempts(at))


def timed_calls(workflows: Iterable[Workflow], groups: Groups) -> Iterator[TimedCalls]:
    """Yield the calls of each workflow."""
    if isinstance(groups, WorkflowGroups):
        for workflow in workflows:
            yield of_records(groups.of(workflow))
        return
    rest = iter(workflows)
    while some := list(islice(rest, _AT_ONCE)):
        rows = [groups.call_rows.of(number) for number in groups.numbers_of(some).tolist()]
        every = np.concatenate(rows)
        calls = groups.calls.records(every)
        services = groups.services[every].tolist()
        lengths = groups.lengths[every].tolist()
        attempts = _AttemptReader(groups, every)
        start = 0
        for mine in rows:
            these = slice(start, start + len(mine))
            yield TimedCalls(
                calls[these], services[these], lengths[these], partial(attempts.of, start)
            )
            start = these.stop


class _AttemptReader:
    """Reads the attempts of calls: when the first is wanted, of all that more likely are."""

    def __init__(self, index: WorkflowIndex, rows: NDArray[np.int64]) -> None:
        self._index = index
        self._rows = rows

    def of(self, start: int, at: int) -> list[Attempt]:
        """Return the attempts of a call; `start`: the place of the first call of its workflow."""
        known = self._of_several.get(start + at)
        return known or self._index.attempts_of(self._rows[[start + at]])[0]

    @cached_property
    def _of_several(self) -> dict[int, list[Attempt]]:
        """The attempts of all calls with several of them, or with a backoff."""
        places = np.flatnonzero(self._index.services[self._rows] == ABSENT)
        found = self._index.attempts_of(self._rows[places])
        return dict(zip(places.tolist(), found, strict=True))


def of_records(its: WorkflowRecords) -> TimedCalls:
    """Return the calls of a workflow whose records are known."""
    tried = its.tried()
    services = [
        _service(attempts[0]) if len(attempts) == 1 and not call.backoffs else ABSENT
        for call, attempts in tried
    ]
    return TimedCalls(its.calls, services, [_UNKNOWN] * len(tried), lambda at: tried[at][1])


def _service(attempt: Attempt) -> int:
    return attempt.done - began(attempt)


def began(attempt: Attempt) -> int:
    """Return when an attempt was sent, or had its permit if it was never sent."""
    return attempt.permit_granted if attempt.sent is None else attempt.sent
