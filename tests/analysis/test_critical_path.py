"""The critical path against arithmetic, against the provider's log and against a real cell."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from harness.analysis.call_segments import segments_of_call
from harness.analysis.critical_path import (
    CriticalPath,
    Straggler,
    add_up,
    critical_path,
    one_permit_more,
    paths_of,
)
from harness.analysis.oracle import join
from harness.records.clock import SECOND
from harness.records.groups import WorkflowGroups, WorkflowRecords
from harness.records.schema import Attempt, Backoff, Branches, Call, Phase, Workflow
from harness.store.run_directory import Records
from tests.analysis.builders import by_cell, make_attempt, make_call, make_workflow
from tests.analysis.played import Shape, make_records

FAULTY = Shape(failure_rate=0.25)
CELLS = (
    "sync_1_full-jitter_attempt", "threads_3_full-jitter_call", "async_2_full-jitter_attempt",
    "async_4_full-jitter_call",
)  # fmt: skip


def faulty(seed: int = 0) -> Records:
    return make_records(CELLS, 2, workflows=5, branches=4, seed=seed, shape=FAULTY)


def every_path(records: Records) -> list[CriticalPath]:
    return list(paths_of(records.workflows, WorkflowGroups(records.calls, records.attempts)))


def path_of(calls: list[Call], attempts: list[Attempt], **fields: Any) -> CriticalPath:
    """Return the path of a workflow whose only phase is a fan-out of these calls."""
    end = max(call.done for call in calls)
    phase = Phase(name="fan_out", start=0, end=end, outcome="ok")
    plain: dict[str, Any] = {"ready": 0, "started": 0, "done": end, "phases": (phase,)}
    return critical_path(make_workflow(**(plain | fields)), WorkflowRecords(calls, attempts))


def branch(
    number: int, end: int, start: int = 0, outcome: str = "ok", **fields: Any
) -> tuple[Call, Attempt]:
    """Return a branch of one attempt: sent after 1, first text after 10, answer after 20."""
    key: dict[str, Any] = {"phase": "fan_out", "branch": number}
    attempt: dict[str, Any] = {
        "ready": start, "permit_requested": start, "permit_granted": start, "sent": start + 1,
        "headers": start + 2, "first_reasoning": start + 10, "first_answer": start + 20,
        "last_token": end, "done": end, "outcome": outcome,
    }  # fmt: skip
    call = make_call(**key, ready=0, done=end, outcome=outcome)
    return call, make_attempt(**(key | attempt | fields))


def spelt(path: CriticalPath) -> list[tuple[str, int, int]]:
    return [(segment.part, segment.start, segment.end) for segment in path.segments]


@pytest.mark.parametrize("seed", range(5))
def test_the_parts_of_every_workflow_add_up_to_its_latency_to_the_nanosecond(seed: int) -> None:
    records = faulty(seed)
    assert {attempt.outcome for attempt in records.attempts} > {"ok", "rate_limited"}
    for path in every_path(records):
        at = path.workflow.ready
        for segment in path.segments:
            assert segment.start == at < segment.end, "the segments tile the workflow's time"
            at = segment.end
        assert at == path.workflow.done
        assert sum(path.parts().values()) == path.latency


@pytest.mark.parametrize("seed", range(5))
def test_the_straggler_is_the_branch_that_ends_last_in_the_providers_log(seed: int) -> None:
    records = faulty(seed)
    joined = join(records)
    assert joined is not None
    ends: dict[tuple[str, int, int], Counter[int | None]] = {}
    for attempt, served in joined.pairs:
        if attempt.phase == "fan_out":
            key = (attempt.cell, attempt.repeat, attempt.workflow)
            last = ends.setdefault(key, Counter())
            last[attempt.branch] = max(last[attempt.branch], served.done)
    seen = 0
    for path in every_path(records):
        for straggler in path.stragglers:
            one = path.workflow
            last = ends[one.cell, one.repeat, one.workflow]
            assert max(last, key=lambda number: last[number]) == straggler.branch
            seen += 1
    assert seen > 30


def test_what_is_on_the_path_is_a_part_of_what_the_calls_went_through() -> None:
    """A segment of a call is one of its pieces, or a part of one."""
    records = faulty()
    attempts: dict[Any, list[Attempt]] = {}
    for attempt in records.attempts:
        attempts.setdefault(attempt.call_key, []).append(attempt)
    cut = {
        (call.call_key, piece)
        for call in records.calls
        for piece in segments_of_call(call, attempts[call.call_key])
    }
    lengths = Counter((key[:7], piece.part, piece.attempt) for key, piece in cut)
    for path in every_path(records):
        for segment in path.segments:
            if segment.call is not None and segment.part != "other":
                one = path.workflow
                key = (
                    one.cell, one.repeat, one.workflow, one.execution,
                    segment.phase, segment.branch, segment.call,
                )  # fmt: skip
                assert lengths[key, segment.part, segment.attempt] == 1  # type: ignore[index]


def test_the_slowest_branch_holds_the_end_and_the_others_are_not_on_the_path() -> None:
    made = [branch(0, 50), branch(1, 90), branch(2, 60)]
    path = path_of([call for call, _ in made], [attempt for _, attempt in made])
    assert spelt(path) == [
        ("client_wait", 0, 1), ("to_first_token", 1, 10), ("reasoning", 10, 20),
        ("answer", 20, 90),
    ]  # fmt: skip
    assert {segment.branch for segment in path.segments} == {1}
    assert path.stragglers == (Straggler("fan_out", 1, 30, "answer", 35),)
    assert path.phases() == {"fan_out": 90}


def test_a_retry_puts_the_failed_attempt_the_backoff_and_the_wait_on_the_path() -> None:
    pause = Backoff(start=20, end=50, planned=25, source="policy")
    call = make_call(phase="fan_out", branch=0, ready=0, done=99, attempts=2, backoffs=(pause,))
    key: dict[str, Any] = {"phase": "fan_out", "branch": 0}
    attempts = [
        make_attempt(
            **key, attempt=2, ready=50, permit_requested=51, permit_granted=60, sent=61,
            first_reasoning=None, first_answer=70, last_token=97, done=99,
        ),
        make_attempt(
            **key, ready=0, permit_granted=7, sent=9, first_reasoning=None, first_answer=None,
            last_token=None, done=20, outcome="rate_limited",
        ),
    ]  # fmt: skip
    path = path_of([call], attempts)
    assert spelt(path) == [
        ("permit_wait", 0, 7), ("client_wait", 7, 9), ("failed_attempts", 9, 20),
        ("backoff", 20, 50), ("other", 50, 51), ("permit_wait", 51, 60), ("client_wait", 60, 61),
        ("to_first_token", 61, 70), ("answer", 70, 97), ("other", 97, 99),
    ]  # fmt: skip
    assert [segment.attempt for segment in path.segments] == [1, 1, 1, 1, None, 2, 2, 2, 2, 2]


def test_of_a_hedged_call_the_path_has_the_winner_and_what_came_before_it() -> None:
    key: dict[str, Any] = {"phase": "fan_out", "branch": 0}
    slow = make_attempt(
        **key, sent=1, first_reasoning=None, first_answer=None, last_token=None, done=80,
        outcome="cancelled",
    )  # fmt: skip
    hedge = make_attempt(
        **key, attempt=2, ready=40, permit_requested=40, permit_granted=44, sent=45,
        first_reasoning=60, first_answer=70, last_token=95, done=95,
    )  # fmt: skip
    call = make_call(**key, ready=0, done=95, attempts=2)
    assert spelt(path_of([call], [slow, hedge])) == [
        ("client_wait", 0, 1), ("failed_attempts", 1, 40), ("permit_wait", 40, 44),
        ("client_wait", 44, 45), ("to_first_token", 45, 60), ("reasoning", 60, 70),
        ("answer", 70, 95),
    ]  # fmt: skip
    won, lost = slow, hedge
    won = make_attempt(**key, sent=1, first_reasoning=50, first_answer=60, last_token=95, done=95)
    lost = make_attempt(**key, attempt=2, ready=40, sent=45, done=99, outcome="cancelled")
    call = make_call(**key, ready=0, done=99, attempts=2)
    assert spelt(path_of([call], [won, lost])) == [
        ("client_wait", 0, 1), ("to_first_token", 1, 50), ("reasoning", 50, 60),
        ("answer", 60, 95), ("other", 95, 99),
    ]  # fmt: skip


def test_branches_one_after_another_are_on_the_path_one_after_another() -> None:
    made = [branch(0, 50), branch(1, 90, start=50), branch(2, 70, start=50)]
    calls = [
        msgspec.structs.replace(call, ready=ready)
        for (call, _), ready in zip(made, (0, 50, 50), strict=True)
    ]
    path = path_of(calls, [attempt for _, attempt in made])
    assert [segment.branch for segment in path.segments] == [0] * 4 + [1] * 4
    assert path.parts() == {
        "client_wait": 2, "to_first_token": 18, "reasoning": 20, "answer": 50,
    }  # fmt: skip
    assert [straggler.branch for straggler in path.stragglers] == [1]


def test_a_call_may_have_waited_for_a_part_of_a_sequence_beside_it() -> None:
    spans = [(0, 10), (0, 20), (10, 35), (12, 40)]
    calls = [
        make_call(phase="chat", call=number, ready=ready, done=done)
        for number, (ready, done) in enumerate(spans, 1)
    ]
    workflow = make_workflow(ready=0, started=0, done=40, phases=())
    path = critical_path(workflow, WorkflowRecords(calls, []))
    on_path = [(one.call, one.start, one.end) for one in path.segments if one.part != "program"]
    assert on_path == [(1, 0, 10), (4, 12, 40)]


def test_a_branch_that_was_cancelled_held_nothing_up() -> None:
    made = [branch(0, 70), branch(1, 75, outcome="cancelled"), branch(2, 60)]
    path = path_of([call for call, _ in made], [attempt for _, attempt in made])
    assert [straggler.branch for straggler in path.stragglers] == [0]
    assert path.segments[-1] == path.segments[-1]._replace(part="program", start=70, end=75)
    assert path.segments[-1].branch is None


def test_a_permit_that_never_came_in_time_is_permit_wait() -> None:
    call = make_call(
        phase="fan_out", branch=0, ready=5, done=50, attempts=0, outcome="workflow_timeout"
    )
    assert spelt(path_of([call], [])) == [("program", 0, 5), ("permit_wait", 5, 50)]


def test_the_time_before_the_first_phase_and_without_any_call_is_the_programs() -> None:
    nothing: Workflow = make_workflow(
        ready=3, done=9, phases=(), branches=Branches(total=0, ok=0), outcome="failed"
    )
    path = critical_path(nothing, WorkflowRecords([], []))
    assert spelt(path) == [("program", 3, 9)]
    assert path.stragglers == ()


def test_the_paths_of_a_cell_add_up() -> None:
    cell = by_cell(faulty())[2]
    paths = list(paths_of(cell.workflows, cell.groups))
    whole = add_up(paths)
    assert whole.workflows == len(cell.workflows)
    latency = sum(one.done - one.ready for one in cell.workflows)
    assert sum(whole.parts.values()) == latency
    assert sum(map(whole.share, whole.parts)) == pytest.approx(1)
    assert sum(whole.held_by.values()) == sum(len(path.stragglers) for path in paths)
    assert add_up([]).share("answer") == 0


@pytest.mark.parametrize("scope", ["attempt", "call"])
@pytest.mark.parametrize("permits", [1, 2, 5])
def test_what_one_permit_more_would_buy_is_what_the_cell_that_has_it_takes(
    scope: str, permits: int
) -> None:
    """The provider that is played serves as fast with one more call at once."""
    cells = [f"async_{count}_full-jitter_{scope}" for count in (permits, permits + 1)]
    shape = Shape(client_wait_ms=0, failure_rate=0.2)
    few, more = by_cell(make_records(cells, 3, workflows=6, in_flight=3, branches=4, shape=shape))
    bought = one_permit_more(few, 3)
    assert bought is not None
    assert bought.permits == permits + 1
    makespans = [(trial.end - trial.start) / SECOND for trial in more.whole_trials()]
    product = 1.0
    for makespan in makespans:
        product *= makespan
    assert bought.makespan_s.value == pytest.approx(product ** (1 / len(makespans)))
    assert bought.ratio.value < 1


def test_a_permit_that_nobody_waits_for_buys_nothing_and_sync_cannot_have_one() -> None:
    cells = ["async_50_none_attempt", "sync_1_none_attempt"]
    sync, plenty = by_cell(make_records(cells, 2, shape=Shape(client_wait_ms=0)))[::-1]
    bought = one_permit_more(plenty, 2)
    assert bought is not None
    assert bought.ratio.value == 1
    assert one_permit_more(sync, 2) is None
