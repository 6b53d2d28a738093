"""Paths and work computed with arrays are those of the trees, for workflows of any shape."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.call_segments import lengths_of_call
from harness.analysis.critical_path import add_up, paths_of, walk_cell
from harness.analysis.plain_workflows import PlainWorkflows
from harness.analysis.replay import jobs, replay, trials_to_replay
from harness.analysis.replay_steps import steps_of_call
from harness.analysis.selection import CellRecords, Dataset
from harness.records.groups import WorkflowGroups, attempts_by_call
from harness.store.compact_records import ABSENT
from harness.store.run_directory import Records
from tests.analysis.builders import make_run, make_trial
from tests.analysis.played import Shape, make_records
from tests.analysis.tree_player import (
    CELL,
    Ask,
    Body,
    Enter,
    Played,
    Player,
    Split,
    asks,
    names,
    workflows,
)

fan_outs = st.lists(st.tuples(asks), min_size=1, max_size=5).map(
    lambda branches: (Split(tuple(branches)),)
)
phases = st.builds(Enter, names, fan_outs | st.lists(asks, min_size=1, max_size=3).map(tuple))
plain_bodies = st.lists(phases, min_size=1, max_size=4).map(tuple)

permits = st.integers(1, 4)
widths = st.sampled_from([1, 10**8, 4 * 10**8])
"""By how much times are divided: many are the same then."""

_TIMES = {
    "ready", "permit_requested", "permit_granted", "sent", "headers", "first_reasoning",
    "first_answer", "last_token", "done", "start", "end", "planned", "started",
}  # fmt: skip


def divided(record: Any, width: int, moved: random.Random | None) -> Any:
    """Return a record with its times divided, some of them changed a little if there is `moved`."""
    values: dict[str, Any] = {}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name in _TIMES and value is not None:
            value //= width
            if moved and moved.random() < 0.02:
                value = max(value + moved.randint(-2, 2), 0)
        elif name in ("phases", "backoffs"):
            value = tuple(divided(one, width, moved) for one in value)
        values[name] = value
    return type(record)(**values)


def unusual(played: Played, chance: random.Random) -> None:
    """Give some calls and attempts other outcomes, hedges, outages, no attempt or no branch."""
    for at, call in enumerate(played.calls):
        changes: dict[str, Any] = {}
        if chance.random() < 0.2:
            changes["outcome"] = chance.choice(["cancelled", "call_timeout"])
        if chance.random() < 0.05:
            changes["branch"] = chance.choice([None, 0, 1])
        if chance.random() < 0.05:
            changes["backoffs"] = call.backoffs[1:]
        elif call.backoffs and chance.random() < 0.2:
            changes["backoffs"] = tuple(
                msgspec.structs.replace(one, source="breaker") for one in call.backoffs
            )
        played.calls[at] = msgspec.structs.replace(call, **changes)
    for at, attempt in enumerate(played.attempts):
        hedge = attempt.attempt > 1 and chance.random() < 0.2
        sent = None if chance.random() < 0.05 else attempt.sent
        played.attempts[at] = msgspec.structs.replace(attempt, hedge=hedge, sent=sent)
    if played.attempts and chance.random() < 0.2:
        del played.attempts[chance.randrange(len(played.attempts))]


def cell_of(played: Played, scope: str) -> CellRecords:
    """Return the records of a trial that lasted as long as its workflows."""
    mine = played.workflows
    ends = {"start": min(w.ready for w in mine), "end": max(w.done for w in mine)}
    run = make_run([CELL.replace("attempt", scope)])
    changed = Records(
        run,
        [renamed(one, run.cells[0].id) for one in played.attempts],
        [renamed(one, run.cells[0].id) for one in played.calls],
        [renamed(one, run.cells[0].id) for one in played.workflows],
        [make_trial(cell=run.cells[0].id, **ends)],
        None,
    )
    (cell,) = Dataset.of(changed).cells.values()
    return cell


def renamed(record: Any, cell: str) -> Any:
    return msgspec.structs.replace(record, cell=cell)


def assert_same_as_trees(cell: CellRecords, in_flight: int) -> None:
    every = [(cell.groups.of(one).calls, cell.groups.of(one).attempts) for one in cell.workflows]
    groups = WorkflowGroups(
        [call for calls, _ in every for call in calls],
        [attempt for _, attempts in every for attempt in attempts],
    )
    bounds, path = walk_cell(cell, in_flight)
    assert path == add_up(paths_of(cell.workflows, groups))
    scope = cell.info.permit_scope
    found = {trial.repeat: work for trial, work, _ in trials_to_replay(cell)}
    assert found.keys() == {one.repeat for one in bounds}
    for repeat, work in found.items():
        mine = [one for one in cell.workflows if one.repeat == repeat]
        assert work == jobs(mine, groups, scope)
    for one in bounds:
        work = found[one.repeat]
        assert one.replay == replay(work, cell.info.permits, in_flight, cell.info.mode)
        assert one.with_one_more == replay(work, cell.info.permits + 1, in_flight, cell.info.mode)


def assert_known_times(cell: CellRecords) -> None:
    index = cell.groups
    attempts = attempts_by_call(index.attempts)
    for at, (call, lengths) in enumerate(zip(index.calls, index.lengths.tolist(), strict=True)):
        mine = attempts.get(call.call_key, [])
        assert lengths[0] == ABSENT or lengths == lengths_of_call(call, mine)
        assert index.steps.of(np.array([at])).steps() == steps_of_call(call, mine)


@settings(max_examples=100, deadline=None)
@given(
    work=st.lists(workflows(1) | plain_bodies, min_size=1, max_size=4),
    permits=permits,
    width=widths,
    seed=st.none() | st.integers(0, 10**6),
    scope=st.sampled_from(["attempt", "call"]),
)
def test_paths_and_work_are_those_of_the_trees(
    work: list[Body], permits: int, width: int, seed: int | None, scope: str
) -> None:
    played = Player(work, permits, in_flight=2).run()
    chance = None if seed is None else random.Random(seed)
    if chance is not None:
        unusual(played, chance)
    for records in (played.workflows, played.calls, played.attempts):
        records[:] = [divided(one, width, chance) for one in records]
    cell = cell_of(played, scope)
    assert_known_times(cell)
    assert_same_as_trees(cell, in_flight=2)


@settings(max_examples=50, deadline=None)
@given(work=st.lists(plain_bodies, min_size=1, max_size=4), permits=permits)
def test_sequences_of_phases_with_calls_or_branches_are_plain(
    work: list[Body], permits: int
) -> None:
    cell = cell_of(Player(work, permits, in_flight=2).run(), "attempt")
    assert PlainWorkflows(cell.groups, cell.workflows).is_plain.all()
    assert_same_as_trees(cell, in_flight=2)


few = st.builds(Ask, st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple), st.just(1))
short = st.lists(
    st.builds(
        Enter,
        names,
        st.lists(st.tuples(few), min_size=1, max_size=3).map(lambda found: (Split(tuple(found)),))
        | st.lists(few, min_size=1, max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=2,
).map(tuple)


@settings(max_examples=200, deadline=None)
@given(
    work=st.lists(short, min_size=1, max_size=2),
    kind=st.sampled_from(["outcomes", "call", "branch", "phase"]),
    seed=st.integers(0, 10**6),
)
def test_one_change_of_a_plain_workflow_gives_the_same_as_its_tree(
    work: list[Body], kind: str, seed: int
) -> None:
    played, chance = Player(work, 2, in_flight=2).run(), random.Random(seed)
    at = chance.randrange(len(played.calls))
    call, workflow = played.calls[at], played.workflows[0]
    length = chance.randint(0, 3)
    if kind == "outcomes":
        played.calls[:] = [
            msgspec.structs.replace(one, outcome=chance.choice(["ok", "cancelled"]))
            for one in played.calls
        ]
    elif kind == "call":
        start = max(call.ready + chance.randint(-2, 2), 0)
        played.calls[at] = msgspec.structs.replace(call, ready=start, done=start + length)
    elif kind == "branch":
        branch = chance.choice([None, 0, 1])
        number = 1 + sum(one.branch == branch for one in played.calls)
        played.calls[at] = msgspec.structs.replace(call, branch=branch, call=number)
    else:
        which = chance.randrange(len(workflow.phases))
        phase = workflow.phases[which]
        first = max(phase.start + chance.randint(-2, 1), 0)
        last = max(phase.end + chance.randint(-1, 2), first)
        moved = msgspec.structs.replace(phase, start=first, end=last)
        phases = (*workflow.phases[:which], moved, *workflow.phases[which + 1 :])
        played.workflows[0] = msgspec.structs.replace(workflow, phases=phases)
    cell = cell_of(played, "attempt")
    assert_known_times(cell)
    assert_same_as_trees(cell, in_flight=2)


@pytest.mark.parametrize("scope", ["attempt", "call"])
def test_a_run_of_several_repeats_is_plain_and_has_the_paths_of_its_trees(
    scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.analysis.replay._AT_ONCE", 9)
    cells = [f"async_2_full-jitter_{scope}", f"sync_1_full-jitter_{scope}"]
    records = make_records(cells, 4, workflows=5, shape=Shape(failure_rate=0.3))
    for cell in Dataset.of(records).cells.values():
        assert PlainWorkflows(cell.groups, cell.workflows).is_plain.all()
        assert_known_times(cell)
        assert_same_as_trees(cell, in_flight=2)


def test_a_workflow_whose_phases_overlap_is_not_plain() -> None:
    body = (Enter("step", (Ask((5,), 1),)), Enter("check", (Ask((5,), 1),)))
    played = Player([body], 1, in_flight=1).run()
    (workflow,) = played.workflows
    first, second = workflow.phases
    phases = (first, msgspec.structs.replace(second, start=second.start - 1))
    played.workflows[0] = msgspec.structs.replace(workflow, phases=phases)
    cell = cell_of(played, "attempt")
    assert not PlainWorkflows(cell.groups, cell.workflows).is_plain.any()
    assert_same_as_trees(cell, in_flight=1)
