"""How long the parts of the calls of a workflow took.

Most calls are one attempt; the times of these come from columns. The attempts of the others are
read one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.analysis.call_segments import PARTS, CallSegment, add_lengths, tiles
from harness.analysis.workflow_index import WorkflowIndex
from harness.records.groups import WorkflowGroups, WorkflowRecords
from harness.records.schema import Attempt, Call, Workflow
from harness.store.compact_records import ABSENT

_AT_ONCE = 200
_UNKNOWN = (ABSENT,) * len(PARTS)

Groups: TypeAlias = WorkflowGroups | WorkflowIndex
CallPlace: TypeAlias = tuple[str, int | None, int]
"""A call within its workflow: phase, branch and number."""


def place_of(call: Call) -> CallPlace:
    """Return the place of a call within its workflow."""
    return call.phase, call.branch, call.call


class TimedCalls(NamedTuple):
    """The calls of a workflow.

    `services`: nanoseconds under a permit of each call that is one attempt without backoff,
    `ABSENT` for the others. `lengths`: nanoseconds of each of `PARTS` of each call, `ABSENT` where
    `lengths_of` has to compute them. `attempts`: of each call whose times are not
    known; `read` returns those of a call whose times are.
    """

    calls: list[Call]
    services: Sequence[int]
    lengths: Sequence[Sequence[int]]
    attempts: Sequence[list[Attempt]]
    read: Callable[[int], list[Attempt]]

    def lengths_of(self, at: int) -> Sequence[int]:
        """Return the nanoseconds of each of `PARTS` of the call at an index."""
        if self.lengths[at][0] != ABSENT:
            return self.lengths[at]
        total = dict.fromkeys(PARTS, 0)
        add_lengths(total, self.calls[at], self.attempts[at])
        return [*total.values()]

    def tiles_of(self, at: int) -> list[CallSegment]:
        """Return the parts of the call at an index, in order of time."""
        return tiles(self.calls[at], self.attempts[at] or self.read(at))


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
        tried = groups.attempts_of(every)
        start = 0
        for mine in rows:
            these = slice(start, start + len(mine))
            start = these.stop
            yield TimedCalls(
                calls[these], services[these], lengths[these], tried[these], _reader(groups, mine)
            )


def _reader(index: WorkflowIndex, rows: NDArray[np.int64]) -> Callable[[int], list[Attempt]]:
    def read(at: int) -> list[Attempt]:
        number = index.call_numbers(index.calls.take(rows[[at]]))[0]
        return index.attempts.records(index.attempts_by_call.of(number))

    return read


def of_records(its: WorkflowRecords) -> TimedCalls:
    """Return the calls of a workflow whose records are known."""
    tried = its.tried()
    services = [
        _service(attempts[0]) if len(attempts) == 1 and not call.backoffs else ABSENT
        for call, attempts in tried
    ]
    attempts = [mine for _, mine in tried]
    return TimedCalls(its.calls, services, [_UNKNOWN] * len(tried), attempts, lambda _: [])


def _service(attempt: Attempt) -> int:
    return attempt.done - began(attempt)


def began(attempt: Attempt) -> int:
    """Return when an attempt was sent, or had its permit if it was never sent."""
    return attempt.permit_granted if attempt.sent is None else attempt.sent
