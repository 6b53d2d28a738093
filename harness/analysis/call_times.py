"""How long the parts of the calls of a workflow took.

The times of most calls come from arrays. The attempts of the others are read one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.analysis.call_segments import PARTS, CallSegment, lengths_of_call, tiles
from harness.analysis.replay_steps import ReplayStep, steps_of_call
from harness.analysis.workflow_index import WorkflowIndex
from harness.records.groups import WorkflowGroups, WorkflowRecords
from harness.records.schema import Attempt, Call, Workflow
from harness.store.compact_records import ABSENT

_AT_ONCE = 200
_UNKNOWN = (ABSENT,) * len(PARTS)

Groups: TypeAlias = WorkflowGroups | WorkflowIndex


class TimedCalls(NamedTuple):
    """The calls of a workflow.

    `steps`: those of each call. `lengths`: nanoseconds of each of `PARTS` of each call, `ABSENT`
    where `lengths_of` has to compute them. `attempts`: returns the attempts of the call at an
    index.
    """

    calls: list[Call]
    steps: Sequence[Sequence[ReplayStep]]
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
        mine = groups.call_rows.of_each(groups.numbers_of(some))
        calls = groups.calls.records(mine.rows)
        picked = groups.steps.of(mine.rows)
        every = iter(picked.steps())
        steps = [list(islice(every, count)) for count in picked.counts().tolist()]
        lengths = groups.lengths[mine.rows].tolist()
        start = 0
        for count in mine.counts.tolist():
            these = slice(start, start + count)
            yield TimedCalls(
                calls[these], steps[these], lengths[these],
                partial(_attempts_at, groups, mine.rows[these]),
            )  # fmt: skip
            start = these.stop


def _attempts_at(index: WorkflowIndex, rows: NDArray[np.int64], at: int) -> list[Attempt]:
    return index.attempts_of(rows[[at]])[0]


def of_records(its: WorkflowRecords) -> TimedCalls:
    """Return the calls of a workflow whose records are known."""
    tried = its.tried()
    steps = [steps_of_call(call, attempts) for call, attempts in tried]
    return TimedCalls(its.calls, steps, [_UNKNOWN] * len(tried), lambda at: tried[at][1])
