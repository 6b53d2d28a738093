"""The times of calls from columns are those from their attempts."""

from __future__ import annotations

import msgspec
import pytest

from harness.analysis.call_segments import PARTS, add_lengths
from harness.analysis.call_times import timed_calls
from harness.analysis.cells import time_spent, time_spent_in
from harness.analysis.critical_path import add_up, paths_of, walked_paths
from harness.analysis.replay import jobs
from harness.analysis.selection import Dataset
from harness.records.groups import WorkflowGroups
from harness.store.compact_records import ABSENT
from harness.store.run_directory import Records
from tests.analysis.played import Shape, make_records

CELLS = ["async_2_full-jitter_attempt", "sync_1_none_attempt"]


@pytest.fixture(params=[0.0, 0.4])
def records(request: pytest.FixtureRequest) -> Records:
    return make_records(CELLS, 2, workflows=5, shape=Shape(failure_rate=request.param))


def test_the_times_of_calls_are_known_and_they_are_those_of_their_attempts(
    records: Records,
) -> None:
    known = 0
    for its in timed_calls(records.workflows, Dataset.of(records).groups):
        for at, call in enumerate(its.calls):
            tried = [one for one in records.attempts if one.call_key == call.call_key]
            spent = dict.fromkeys(PARTS, 0)
            add_lengths(spent, call, tried)
            assert list(its.lengths_of(at)) == [*spent.values()]
            assert its.attempts(at) == tried
            known += its.lengths[at][0] != ABSENT
    assert known == len(records.calls)


def test_jobs_and_paths_are_those_of_the_records(records: Records) -> None:
    index, groups = Dataset.of(records).groups, WorkflowGroups(records.calls, records.attempts)
    mine = records.workflows
    assert jobs(mine, index, "attempt") == jobs(mine, groups, "attempt")
    paths = list(paths_of(mine, groups))
    assert list(paths_of(mine, index)) == paths
    assert add_up(walked_paths(mine, index)) == add_up(paths)


def test_time_spent_is_that_of_the_records(records: Records) -> None:
    for cell in Dataset.of(records).cells.values():
        assert time_spent_in(cell) == time_spent(cell.tried())


def test_a_call_with_times_out_of_order_is_cut_from_its_attempt() -> None:
    records = make_records(CELLS[1:], 1, workflows=1)
    first, *others = records.attempts
    late = msgspec.structs.replace(first, first_answer=first.last_token, last_token=first.sent)
    records = records._replace(attempts=[late, *others])
    (its,) = timed_calls(records.workflows, Dataset.of(records).groups)
    assert [lengths[0] == ABSENT for lengths in its.lengths].count(True) == 1
    index, groups = Dataset.of(records).groups, WorkflowGroups(records.calls, records.attempts)
    assert list(paths_of(records.workflows, index)) == list(paths_of(records.workflows, groups))
