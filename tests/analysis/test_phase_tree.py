"""Trees against a reference that plays random workflows, and against records of any kind."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.critical_path import critical_path, paths_of
from harness.analysis.phase_tree import PhaseNode, calls_in, phase_names, tree_of
from harness.analysis.replay import critical_path_bound, jobs, replay
from harness.records.groups import WorkflowGroups
from harness.records.schema import Call, Phase, PhaseInfo, Workflow
from tests.analysis.builders import make_call, make_run, make_workflow
from tests.analysis.tree_player import (
    Ask,
    Body,
    Enter,
    Played,
    Player,
    Split,
    longest,
    slots,
    workflows,
)

works = st.lists(workflows(1), min_size=1, max_size=3)


def ask(*services: int, backoff: int = 1) -> Ask:
    return Ask(services, backoff)


def drawn(node: PhaseNode) -> list[Any]:
    """Return a tree as nested lists: a stage is a list of lanes `branch: items`."""
    return [
        [
            (lane.branch, [
                item.call if isinstance(item, Call) else {item.name: drawn(item)}
                for item in lane.items
            ])
            for lane in stage
        ]
        for stage in node.stages
    ]  # fmt: skip


def only(played: Played) -> PhaseNode:
    (workflow,) = played.workflows
    return tree_of(workflow, played.calls)


def assert_tiled(workflow: Workflow, played: Played) -> None:
    (path,) = paths_of([workflow], played.groups)
    at = workflow.ready
    for segment in path.segments:
        assert segment.start == at < segment.end
        at = segment.end
    assert at == workflow.done


# Against the reference


@settings(max_examples=50, deadline=None)
@given(work=works, permits=st.integers(1, 4), in_flight=st.integers(1, 3))
def test_the_replay_of_a_trial_without_overhead_is_its_own_schedule(
    work: list[Body], permits: int, in_flight: int
) -> None:
    played = Player(work, permits, in_flight).run()
    made = jobs(played.workflows, played.groups, "attempt")
    assert replay(made, permits, in_flight, "async") == played.trial.end


@settings(max_examples=50, deadline=None)
@given(work=works, permits=st.integers(1, 4), in_flight=st.integers(1, 3))
def test_the_bound_is_the_longest_chain_of_calls_and_no_trial_beats_it(
    work: list[Body], permits: int, in_flight: int
) -> None:
    played = Player(work, permits, in_flight).run()
    made = jobs(played.workflows, played.groups, "attempt")
    bound = critical_path_bound(made, in_flight, "async")
    assert bound == slots([longest(body) for body in work], in_flight)
    assert critical_path_bound(made[:1], 1, "async") <= played.trial.end


@settings(max_examples=50, deadline=None)
@given(work=works, permits=st.integers(1, 4), in_flight=st.integers(1, 3))
def test_the_path_tiles_the_workflow_with_the_time_of_its_calls(
    work: list[Body], permits: int, in_flight: int
) -> None:
    played = Player(work, permits, in_flight).run()
    for workflow in played.workflows:
        assert_tiled(workflow, played)
        (path,) = paths_of([workflow], played.groups)
        assert all(segment.call is not None for segment in path.segments), "nothing else took time"
        mine = [call for call in played.calls if call.workflow == workflow.workflow]
        found = list(calls_in(tree_of(workflow, reversed(mine))))
        assert sorted(map(repr, found)) == sorted(map(repr, mine))


@given(services=st.lists(st.lists(st.integers(1, 99), min_size=3, max_size=3), min_size=2))
def test_phases_of_one_name_in_branches_are_told_apart_by_the_branch_of_their_calls(
    services: list[list[int]],
) -> None:
    """An agent in each branch: its steps are phases of the same name in every branch."""
    agents = tuple(
        (Enter("step", (ask(a),)), Enter("tools", (ask(b),)), Enter("step", (ask(c),)))
        for a, b, c in services
    )
    played = Player([(Enter("agents", (Split(agents),)),)], 99, 1, inherit=True).run()
    (stage,) = only(played).stages
    (agents_node,) = stage[0].items
    assert isinstance(agents_node, PhaseNode)
    (lanes,) = agents_node.stages
    for branch, lane in enumerate(lanes):
        assert lane.branch == branch
        assert [item.name for item in lane.items if isinstance(item, PhaseNode)] == [
            "step", "tools", "step",
        ]  # fmt: skip
        for item in lane.items:
            assert isinstance(item, PhaseNode)
            assert [call.branch for call in calls_in(item)] == [branch]


# The shape


def test_an_agent_is_a_sequence_of_phases_some_of_them_with_branches() -> None:
    step, tools = Enter("step", (ask(5),)), Enter("tools", (Split(((ask(3),), (ask(9),))),))
    played = Player([(step, tools, step, tools, step)], 2, 1).run()
    trunk = [(None, [1])], [(None, [2])], [(None, [3])]
    fans = [(0, [1]), (1, [1])], [(0, [2]), (1, [2])]
    assert drawn(only(played)) == [
        [
            (None, [
                {"step": [trunk[0]]}, {"tools": [fans[0]]}, {"step": [trunk[1]]},
                {"tools": [fans[1]]}, {"step": [trunk[2]]},
            ]),
        ],
    ]  # fmt: skip
    lane = only(played).stages[0][0]
    assert [item.number for item in lane.items if isinstance(item, PhaseNode)] == [1, 1, 2, 2, 3]


def test_calls_and_fan_outs_mix_within_a_phase() -> None:
    split = Split(((ask(4), ask(2)), (ask(3),)))
    played = Player([(Enter("all", (ask(1), ask(1), split, ask(7), split, split)),)], 9, 1).run()
    assert drawn(only(played)) == [
        [
            (None, [
                {
                    "all": [
                        [(None, [1, 2])],
                        [(0, [1, 2]), (1, [1])],
                        [(None, [3])],
                        [(0, [3, 4]), (1, [2])],
                        [(0, [5, 6]), (1, [3])],
                    ],
                },
            ]),
        ],
    ]  # fmt: skip


def test_one_permit_does_not_make_branches_a_sequence() -> None:
    split = Split(((ask(4), ask(2)), (ask(3), ask(1), ask(1))))
    played = Player([(Enter("all", (split,)),)], 1, 1).run()
    assert drawn(only(played)) == [[(None, [{"all": [[(0, [1, 2]), (1, [1, 2, 3])]]}])]]


def test_the_straggler_of_a_nested_fan_out_counts_if_it_is_on_the_path() -> None:
    slow = Enter("inner", (Split(((ask(10),), (ask(50),))),))
    fast = Enter("other", (Split(((ask(1),), (ask(2),))),))
    played = Player([(Enter("outer", (Split(((fast,), (slow,))),)),)], 9, 1).run()
    path = critical_path(played.workflows[0], played.groups.of(played.workflows[0]))
    assert [(one.phase, one.branch) for one in path.stragglers] == [
        ("outer", 1),
        ("inner.1-in-outer", 1),
    ]
    assert path.phases() == {"inner.1-in-outer": 50}


# Records that are not complete


def test_a_call_that_no_phase_claims_is_where_its_time_says() -> None:
    phases = (
        Phase(name="step", start=0, end=10, outcome="ok"),
        Phase(name="tools", start=10, end=30, outcome="failed"),
    )
    workflow = make_workflow(ready=0, done=50, phases=phases, outcome="failed")
    calls = [
        make_call(phase="step", ready=0, done=10),
        make_call(phase="unheard-of", branch=0, ready=12, done=20),
        make_call(phase="step", call=2, ready=30, done=50),
    ]
    assert drawn(tree_of(workflow, calls)) == [
        [(None, [{"step": [[(None, [1])]]}, {"tools": [[(0, [1])]]}, 2])]
    ]


def test_a_workflow_without_phases_is_read_from_its_calls() -> None:
    calls = [
        make_call(ready=0, done=10),
        make_call(phase="fan_out", branch=0, ready=10, done=30),
        make_call(phase="fan_out", branch=1, ready=10, done=20),
        make_call(phase="synthesize", ready=30, done=40),
    ]
    workflow = make_workflow(ready=0, done=40, phases=())
    assert drawn(tree_of(workflow, calls)) == [
        [(None, [1])], [(0, [1]), (1, [1])], [(None, [1])],
    ]  # fmt: skip
    assert drawn(tree_of(workflow, [])) == []


def test_calls_without_branches_that_ran_beside_each_other_are_a_stage() -> None:
    """A program that uses asyncio itself has no branches in its records."""
    spans = [(0, 10), (10, 20), (10, 30), (11, 25), (30, 40), (40, 50)]
    calls = [
        make_call(phase="chat", call=number, ready=ready, done=done)
        for number, (ready, done) in enumerate(spans, 1)
    ]
    workflow = make_workflow(ready=0, done=50, phases=())
    assert drawn(tree_of(workflow, calls)) == [
        [(None, [1])], [(None, [2]), (None, [3]), (None, [4])], [(None, [5, 6])],
    ]  # fmt: skip


times = st.integers(0, 50)
branches = st.none() | st.integers(-1, 3)
any_calls = st.lists(
    st.builds(
        make_call, phase=st.sampled_from(["a", "b", "c"]), branch=branches,
        call=st.integers(1, 3), ready=times, done=times,
    ),
    max_size=8,
)  # fmt: skip
any_phases = st.lists(
    st.builds(
        Phase, name=st.sampled_from(["a", "b"]), start=times, end=times, outcome=st.just("ok"),
        parent=st.none() | st.integers(-2, 6), branch=branches,
    ),
    max_size=5,
)  # fmt: skip


@given(calls=any_calls, phases=any_phases)
def test_no_records_are_refused_and_no_call_is_lost(calls: list[Call], phases: list[Phase]) -> None:
    calls = [msgspec.structs.replace(one, done=max(one.ready, one.done)) for one in calls]
    workflow = make_workflow(ready=0, done=50, phases=tuple(phases))
    tree = tree_of(workflow, calls)
    assert sorted(map(repr, calls_in(tree))) == sorted(map(repr, calls))
    assert_tiled(workflow, Played([workflow], calls, []))
    assert replay(jobs([workflow], WorkflowGroups(calls, []), "attempt"), 2, 1, "async") == 0


@pytest.mark.parametrize("parents", [(1, 0), (0, None), (7, None), (-1, None)])
def test_a_phase_around_itself_or_around_nothing_is_put_into_the_workflow(
    parents: tuple[int | None, ...],
) -> None:
    phases = tuple(
        Phase(name=f"p{at}", start=0, end=9, outcome="ok", parent=parent)
        for at, parent in enumerate(parents)
    )
    tree = tree_of(make_workflow(ready=0, done=9, phases=phases), [])
    names = [
        item.name for lane in tree.stages[0] for item in lane.items if not isinstance(item, Call)
    ]
    assert "p0" in names or "p1" in names


# Names


def test_phases_are_named_in_the_order_declared_then_as_they_occur() -> None:
    run = msgspec.structs.replace(make_run(), phases=(PhaseInfo(name="plan", setting="plan"),))
    short = make_workflow(phases=(Phase(name="end", start=0, end=1, outcome="ok"),))
    long = make_workflow(
        phases=tuple(
            Phase(name=name, start=at, end=at + 1, outcome="ok")
            for at, name in enumerate(["plan", "step", "tools", "step", "end"])
        )
    )
    assert phase_names(run, [short, long]) == ("plan", "step", "tools", "end")
    assert phase_names(make_run(phases=()), [long]) == ("plan", "step", "tools", "end")
    assert phase_names(run, []) == ("plan",)
