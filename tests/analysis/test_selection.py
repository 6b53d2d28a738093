"""What counts: the last execution of workflows that ended by themselves."""

from __future__ import annotations

from harness.analysis.selection import CellRecords
from harness.records.clock import SECOND
from harness.records.schema import Attempt, Call, Trial, Workflow
from harness.store.run_directory import Records
from tests.analysis.builders import (
    by_cell,
    make_attempt,
    make_call,
    make_run,
    make_trial,
    make_workflow,
)


def selected(
    attempts: list[Attempt], calls: list[Call], workflows: list[Workflow], trials: list[Trial]
) -> CellRecords:
    (cell,) = by_cell(Records(make_run(), attempts, calls, workflows, trials, None))
    return cell


def execution(number: int, workflow: int = 0) -> tuple[Attempt, Call, Workflow]:
    key = {"execution": number, "workflow": workflow}
    return make_attempt(**key), make_call(**key), make_workflow(**key)


def test_only_the_highest_execution_counts_but_every_attempt_was_paid_for() -> None:
    first, second = execution(0), execution(1)
    cell = selected([second[0], first[0]], [first[1], second[1]], [second[2], first[2]], [])
    assert cell.attempts == [second[0]]
    assert cell.calls == [second[1]]
    assert cell.workflows == [second[2]]
    assert cell.started == 1
    assert len(cell.spent) == 2


def test_a_workflow_cut_short_has_started_and_says_no_more() -> None:
    attempt, call, workflow = execution(0)
    unfinished = make_attempt(workflow=1)
    cancelled = make_workflow(workflow=2, outcome="cancelled")
    cell = selected([attempt, unfinished], [call], [workflow, cancelled], [])
    assert cell.started == 3
    assert cell.workflows == [workflow]
    assert cell.attempts == [attempt]
    assert len(cell.spent) == 2


def test_an_attempt_of_a_later_execution_takes_the_earlier_one_out() -> None:
    attempt, call, workflow = execution(0)
    again = make_attempt(execution=1)
    cell = selected([attempt, again], [call], [workflow], [])
    assert (cell.started, cell.workflows, list(cell.attempts)) == (1, [], [])


def test_workflows_on_one_topic_in_one_repeat_are_a_cluster() -> None:
    workflows = [
        make_workflow(repeat=1), make_workflow(repeat=0), make_workflow(workflow=4),
        make_workflow(workflow=5, topic="another"),
    ]  # fmt: skip
    cell = selected([], [], workflows, [])
    assert cell.clusters == {(1, 0): 0, (0, 0): 1, (0, 4): 1, (0, 5): 2}


def test_only_trials_that_ran_in_one_go_have_a_makespan() -> None:
    trials = [
        make_trial(repeat=3),
        make_trial(repeat=2, start=SECOND),
        make_trial(repeat=1, interrupted=True),
        make_trial(repeat=0),
    ]
    workflows = [make_workflow(repeat=repeat) for repeat in (0, 2, 3)]
    cell = selected([], [], workflows, trials)
    assert [trial.repeat for trial in cell.whole_trials()] == [0, 3]


def test_the_last_execution_of_a_trial_is_the_one_that_counts() -> None:
    later, earlier = make_trial(execution=1, end=9 * SECOND), make_trial(interrupted=True)
    cell = selected([], [], [make_workflow(execution=1)], [later, earlier])
    assert cell.whole_trials() == [later]


def test_a_cell_that_never_ran_is_there_and_empty() -> None:
    cell = selected([], [], [], [])
    assert (cell.started, cell.workflows, cell.whole_trials()) == (0, [], [])
