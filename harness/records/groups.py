"""Records grouped by what they belong to: attempts by call, calls and attempts by workflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

from harness.records.keys import CallKey, NamesWorkflow, WorkflowKey, workflow_key
from harness.records.schema import Attempt, Call

_NUMBER = attrgetter("attempt")

TriedCall = tuple[Call, list[Attempt]]
"""A call with its attempts, by number."""


class WorkflowRecords(NamedTuple):
    """The calls and the attempts of one execution of one workflow, in the order written."""

    calls: list[Call]
    attempts: list[Attempt]

    def tried(self) -> list[TriedCall]:
        """Return each call with its attempts."""
        # The key within a workflow is shorter than the whole key, so it is made in less time.
        found: defaultdict[tuple[str, int | None, int], list[Attempt]] = defaultdict(list)
        for attempt in self.attempts:
            found[attempt.phase, attempt.branch, attempt.call].append(attempt)
        for mine in found.values():
            mine.sort(key=_NUMBER)
        return [(call, found[call.phase, call.branch, call.call]) for call in self.calls]


class WorkflowGroups(dict[WorkflowKey, WorkflowRecords]):
    """The calls and attempts of each execution of each workflow."""

    def __init__(self, calls: Iterable[Call], attempts: Iterable[Attempt]) -> None:
        super().__init__()
        for call in calls:
            self[workflow_key(call)].calls.append(call)
        for attempt in attempts:
            self[workflow_key(attempt)].attempts.append(attempt)

    def __missing__(self, key: WorkflowKey) -> WorkflowRecords:
        return self.setdefault(key, WorkflowRecords([], []))

    def of(self, record: NamesWorkflow) -> WorkflowRecords:
        """Return the calls and attempts of the workflow that `record` belongs to."""
        return self.get(workflow_key(record), WorkflowRecords([], []))


def decisive_attempt(call: Call, tried: list[Attempt]) -> Attempt:
    """Return the attempt that decided a call; of a hedged pair, it is not always the last."""
    ended = [attempt for attempt in tried if attempt.outcome == call.outcome]
    return max(ended or tried, key=lambda attempt: attempt.done)


def attempts_by_call(attempts: Iterable[Attempt]) -> dict[CallKey, list[Attempt]]:
    """Return the attempts of each call, by number."""
    found: dict[CallKey, list[Attempt]] = {}
    for attempt in sorted(attempts, key=_NUMBER):
        found.setdefault(attempt.call_key, []).append(attempt)
    return found
