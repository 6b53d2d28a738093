"""The replay against arithmetic, against Graham's bound and against a second simulation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.replay import (
    ReplayJob,
    critical_path_bound,
    jobs,
    replay,
    trials_to_replay,
)
from harness.analysis.replay_steps import ReplayChain, ReplayFork, ReplayStep
from harness.records.clock import SECOND
from harness.records.groups import WorkflowGroups
from harness.records.schema import Attempt, Backoff, Call
from tests.analysis.builders import MS, by_cell, make_attempt, make_call, make_workflow
from tests.analysis.played import Shape, make_records

steps = st.builds(ReplayStep, service=st.integers(1, 50), backoff=st.just(0))
chains = st.recursive(
    st.lists(steps, min_size=1, max_size=3).map(tuple),
    lambda inner: st.lists(
        steps | st.builds(ReplayFork, st.lists(inner, min_size=2, max_size=5).map(tuple)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    max_leaves=12,
)
works = st.lists(st.builds(ReplayJob, st.just(0), chains), min_size=1, max_size=5)
ready_at_once = st.lists(st.integers(1, 50), min_size=1, max_size=12)


def one(service: int, backoff: int = 0) -> tuple[ReplayStep, ...]:
    return (ReplayStep(service, backoff),)


def job(before: ReplayChain, branches: tuple[ReplayChain, ...], after: ReplayChain) -> ReplayJob:
    """Return a workflow with one fan-out, calls before it and calls after it."""
    return ReplayJob(0, (*before, *([ReplayFork(branches)] if branches else []), *after))


def total(work: list[ReplayJob]) -> int:
    def of(chain: ReplayChain) -> int:
        return sum(
            step.service if isinstance(step, ReplayStep) else sum(map(of, step.chains))
            for step in chain
        )

    return sum(of(each.chain) for each in work)


def job_of(calls: list[Call], attempts: list[Attempt], scope: str) -> ReplayJob:
    """Return the job of the only workflow that there is."""
    (made,) = jobs([make_workflow()], WorkflowGroups(calls, attempts), scope)
    return made


def test_a_workflow_alone_takes_its_longest_chain_of_calls() -> None:
    work = job(one(10), (one(5), one(40), one(20)), one(7))
    assert critical_path_bound([work], 1, "async") == 57
    assert replay([work], permits=3, in_flight=1, mode="async") == 57


def test_one_permit_makes_the_branches_stand_in_line() -> None:
    work = job(one(10), (one(5), one(40), one(20)), one(7))
    assert replay([work], permits=1, in_flight=1, mode="async") == 82
    assert replay([work], permits=2, in_flight=1, mode="async") == 10 + 40 + 7


def test_a_hedge_and_what_it_hedges_are_one_step() -> None:
    first = make_attempt(attempt=1, sent=0, done=90, outcome="cancelled")
    hedge = make_attempt(attempt=2, sent=30, done=80, hedge=True)
    work = job_of([make_call(attempts=2)], [hedge, first], "attempt")
    assert work.chain == (ReplayStep(90, 0),)


def test_parking_takes_what_it_took_before_an_attempt_and_between_two() -> None:
    def parked(start: int, end: int) -> Backoff:
        return Backoff(start=start, end=end, planned=0, source="breaker")

    first = make_attempt(attempt=1, sent=25, done=35, outcome="unavailable")
    second = make_attempt(attempt=2, sent=75, done=95)
    pauses = (parked(5, 15), parked(16, 20), parked(35, 60))
    call = make_call(attempts=2, backoffs=pauses)
    work = job_of([call], [first, second], "attempt")
    assert work.chain == (ReplayStep(0, 14), ReplayStep(10, 25), ReplayStep(20, 0))
    work = job_of([call], [first, second], "call")
    assert work.chain == (ReplayStep(69, 0),)


def test_in_sync_mode_everything_stands_in_line() -> None:
    work = job(one(10, backoff=3), (one(5), one(40)), one(7))
    assert critical_path_bound([work, work], 8, "sync") == 2 * 62
    assert replay([work, work], permits=8, in_flight=8, mode="sync") == 2 * 65


def test_workflows_wait_for_a_free_slot_in_their_order() -> None:
    work = [job(one(10), (), ()), job(one(30), (), ()), job(one(5), (), ())]
    assert critical_path_bound(work, 2, "async") == 30
    assert replay(work, permits=9, in_flight=2, mode="async") == 30
    assert replay(work, permits=9, in_flight=1, mode="async") == 45


def test_permits_go_to_who_asked_first() -> None:
    # At 10 the second workflow's call is next in line, ahead of the first one's branches.
    work = [job(one(10), (one(4), one(4)), one(1)), job(one(20), (), ())]
    assert replay(work, permits=1, in_flight=2, mode="async") == 10 + 20 + 4 + 4 + 1


def test_a_permit_serves_others_during_backoff_when_it_is_released() -> None:
    retried = (ReplayStep(10, 100), ReplayStep(10, 0))
    work = [job((), (retried, one(60)), ())]
    assert replay(work, permits=1, in_flight=1, mode="async") == 10 + 100 + 10
    held = [job((), (one(120), one(60)), ())]
    assert replay(held, permits=1, in_flight=1, mode="async") == 180


def test_a_backoff_with_no_attempt_after_it_still_takes_its_time() -> None:
    assert replay([job(one(10, backoff=5), (), one(1))], 1, 1, "async") == 16


def test_work_without_any_attempt_takes_no_time() -> None:
    empty = job((), (), ())
    assert replay([], 2, 2, "async") == critical_path_bound([], 2, "async") == 0
    assert replay([empty] * 5000 + [job(one(3), (), ())], 1, 1, "async") == 3


@given(work=works, permits=st.integers(1, 6), in_flight=st.integers(1, 6))
def test_no_replay_beats_what_its_permits_and_its_longest_workflow_need(
    work: list[ReplayJob], permits: int, in_flight: int
) -> None:
    took = replay(work, permits, in_flight, "async")
    longest = max(critical_path_bound([each], 1, "async") for each in work)
    assert max(longest, total(work) / permits) <= took <= total(work)


@given(times=ready_at_once, permits=st.integers(1, 6))
def test_calls_that_are_ready_at_once_keep_grahams_bound(times: list[int], permits: int) -> None:
    work = [job((), tuple(one(time) for time in times), ())]
    best_possible = max(max(times), sum(times) / permits)
    assert replay(work, permits, 1, "async") <= (2 - 1 / permits) * best_possible


@given(work=works, in_flight=st.integers(1, 6))
def test_with_permits_for_all_a_replay_is_the_critical_path(
    work: list[ReplayJob], in_flight: int
) -> None:
    assert replay(work, 1000, in_flight, "async") == critical_path_bound(work, in_flight, "async")


@given(work=works)
def test_one_permit_and_one_workflow_at_a_time_is_sync(work: list[ReplayJob]) -> None:
    assert replay(work, 1, 1, "async") == replay(work, 1, 1, "sync") == total(work)


def test_calls_become_chains_with_the_repair_after_the_first_question() -> None:
    pause = Backoff(start=100, end=130, planned=20, source="policy")
    calls = [
        make_call(call=2, ready=500 * MS),
        make_call(done=500 * MS, attempts=2, backoffs=(pause,)),
        make_call(phase="fan_out", branch=1, ready=SECOND, done=2 * SECOND),
        make_call(phase="fan_out", branch=0, ready=SECOND, done=2 * SECOND),
    ]
    attempts = [
        make_attempt(call=2, sent=0, done=3),
        make_attempt(attempt=2, sent=130, done=170),
        make_attempt(attempt=1, sent=90, done=100),
        make_attempt(phase="fan_out", branch=0, sent=0, done=5),
        make_attempt(phase="fan_out", branch=1, permit_granted=2, sent=None, done=9),
    ]
    fork = ReplayFork(((ReplayStep(5, 0),), (ReplayStep(7, 0),)))
    released = job_of(calls, attempts, "attempt")
    assert released.chain == (ReplayStep(10, 20), ReplayStep(40, 0), ReplayStep(3, 0), fork)
    held = job_of(calls, attempts, "call")
    assert held.chain == (ReplayStep(70, 0), ReplayStep(3, 0), fork)


def test_a_call_whose_deadline_came_before_its_permit_is_no_step() -> None:
    work = job_of([make_call(attempts=0, outcome="call_timeout")], [], "call")
    assert work == job((), (), ())


@pytest.mark.parametrize("scope", ["attempt", "call"])
@pytest.mark.parametrize("permits", [1, 3, 50])
def test_a_trial_without_overhead_is_replayed_to_the_nanosecond(scope: str, permits: int) -> None:
    cells = [f"async_{permits}_full-jitter_{scope}", f"sync_1_full-jitter_{scope}"]
    shape = Shape(client_wait_ms=0, failure_rate=0.2)
    records = make_records(cells, workflows=7, in_flight=3, repeats=2, shape=shape)
    for cell in by_cell(records):
        for trial, work, _ in trials_to_replay(cell):
            took = replay(work, cell.info.permits, 3, cell.info.mode)
            assert took == trial.end - trial.start
