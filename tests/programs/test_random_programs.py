"""Whatever a program does, its records are whole and fit together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from harness.analysis.critical_path import paths_of
from harness.records.groups import WorkflowGroups
from harness.store.run_directory import TrialRecords
from tests.programs.modes import EVERY, run_in
from tests.programs.random_program import TREES, Tree, trees

PLACE = "tests.programs.random_program:play"


def check(records: TrialRecords) -> None:
    [workflow] = records.workflows
    keys = [(one.phase, one.branch, one.call) for one in records.calls]
    assert len(set(keys)) == len(keys)
    attempts = [(one.phase, one.branch, one.call, one.attempt) for one in records.attempts]
    assert len(set(attempts)) == len(attempts)
    assert {one[:3] for one in attempts} <= set(keys)
    assert (workflow.error is None) == (workflow.outcome != "failed")
    assert workflow.own_code >= 0
    for one in records.calls:
        assert workflow.ready <= one.ready <= one.done <= workflow.done
    for index, phase in enumerate(workflow.phases):
        assert workflow.started <= phase.start <= phase.end <= workflow.done
        if phase.parent is not None:
            parent = workflow.phases[phase.parent]
            assert phase.parent < index
            assert parent.start <= phase.start <= phase.end <= parent.end
    [path] = paths_of(records.workflows, WorkflowGroups(records.calls, records.attempts))
    at = workflow.ready
    for segment in path.segments:
        assert segment.start == at < segment.end
        at = segment.end
    assert at == workflow.done


@pytest.mark.parametrize("mode", EVERY)
@settings(max_examples=40)
@given(tree=trees)
def test_records_of_any_program_fit_together(mode: str, tree: Tree) -> None:
    TREES["tree"] = tree
    faults = [{"kind": "unavailable", "probability": 0.2}]
    check(run_in(mode, PLACE, "tree", faults=faults))
