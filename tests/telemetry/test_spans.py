"""From records to spans."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import ids
from harness.records.schema import Attempt, Backoff, Branches, Call, CellInfo, retry_in
from harness.store.run_directory import Records
from harness.telemetry import semconv
from harness.telemetry.span import Event, Span, SpanLink
from harness.telemetry.spans import TraceMaker
from tests.analysis.builders import make_call, make_trial
from tests.analysis.played import Shape, make_records
from tests.telemetry.example import (
    CELL,
    KEY,
    example,
    example_run,
    failed_workflow,
    gave_up,
    retried,
)

ANCHOR = example_run().anchor.unix_ns


def workflow_spans(records: Records) -> list[Span]:
    maker = TraceMaker(records.run)
    return maker.of_workflows(records.workflows, records.calls, records.attempts)


def tree(spans: list[Span]) -> list[str]:
    """Draw spans as indented lines `name start-end`, with `!` on errors; times from the anchor."""
    depths: dict[str | None, int] = {None: -1}
    lines = []
    for span in spans:
        depths[span.span_id] = depths[span.parent_id] + 1
        flag = "!" if span.error else ""
        times = f"{span.start - ANCHOR}-{span.end - ANCHOR}"
        lines.append(f"{'  ' * depths[span.span_id]}{span.name}{flag} {times}")
    return lines


def test_a_workflow_with_a_retry_gives_exactly_this_tree() -> None:
    assert tree(workflow_spans(example())) == [
        "invoke_workflow research 1-300",
        "  phase decompose 2-100",
        "    call 2-100",
        "      permit_wait 2-3",
        "      chat simulated-reasoner 3-100",
        "        attempt 3-100",
        "  phase fan_out 100-190",
        "    sub_question 100-150",
        "      call 100-150",
        "        permit_wait 100-101",
        "        chat simulated-reasoner 101-150",
        "          attempt 101-150",
        "    sub_question 100-190",
        "      call 100-190",
        "        permit_wait 101-110",
        "        chat simulated-reasoner 110-190",
        "          attempt! 110-125",
        "          backoff 125-155",
        "          permit_wait 156-160",
        "          attempt 160-190",
        "  phase synthesize 190-300",
        "    call 190-300",
        "      permit_wait 190-191",
        "      chat simulated-reasoner 191-300",
        "        attempt 191-300",
    ]


def test_every_span_hangs_where_the_tree_shows_it() -> None:
    """The drawing above tells depth; this tells which parent."""
    spans = {span.span_id: span for span in workflow_spans(example())}
    paths = set()
    for span in spans.values():
        branch, parent = span.attributes.get(semconv.BRANCH), span.parent_id
        assert parent is None or spans[parent].attributes.get(semconv.BRANCH) in (None, branch)
        phase = span.attributes.get(semconv.PHASE)
        assert parent is None or spans[parent].attributes.get(semconv.PHASE) in (None, phase)
        paths.add((spans[parent].name if parent else None, span.name))
    assert paths == {
        (None, "invoke_workflow research"),
        ("invoke_workflow research", "phase decompose"),
        ("invoke_workflow research", "phase fan_out"),
        ("invoke_workflow research", "phase synthesize"),
        ("phase decompose", "call"),
        ("phase synthesize", "call"),
        ("phase fan_out", "sub_question"),
        ("sub_question", "call"),
        ("call", "permit_wait"),
        ("call", "chat simulated-reasoner"),
        ("chat simulated-reasoner", "attempt"),
        ("chat simulated-reasoner", "backoff"),
        ("chat simulated-reasoner", "permit_wait"),
    }


def test_titles_tell_spans_of_the_same_name_apart() -> None:
    records = example()
    spans = [*TraceMaker(records.run).of_run(records.trials), *workflow_spans(records)]
    titles = [(span.name.split()[0], span.attributes.get("harness.title")) for span in spans]
    assert titles[:3] == [
        ("harness.run", records.run.name),
        ("harness.cell", CELL),
        ("harness.trial", f"{CELL}, repeat 2"),
    ]
    assert titles[3:6] == [
        ("invoke_workflow", f"{CELL}/2/4"),
        ("phase", "decompose 1"),
        ("call", "decompose"),
    ]
    assert titles[-13:-5] == [
        ("sub_question", "branch 2"),
        ("call", "fan_out, branch 2"),
        ("permit_wait", "fan_out, branch 2, before attempt 1"),
        ("chat", "fan_out, branch 2"),
        ("attempt", "fan_out, branch 2, attempt 1: rate_limited"),
        ("backoff", "fan_out, branch 2, after attempt 1"),
        ("permit_wait", "fan_out, branch 2, before attempt 2"),
        ("attempt", "fan_out, branch 2, attempt 2"),
    ]


def test_chat_and_attempt_are_client_spans_and_no_others() -> None:
    kinds = {(span.name.split()[0], span.kind) for span in workflow_spans(example())}
    assert {name for name, kind in kinds if kind == "client"} == {"chat", "attempt"}
    assert {name for name, kind in kinds if kind == "internal"}.isdisjoint({"chat", "attempt"})


def test_an_attempt_has_the_ids_that_went_out_as_traceparent() -> None:
    records = example()
    spans = {(span.trace_id, span.span_id) for span in workflow_spans(records)}
    for attempt in records.attempts:
        run_id = records.run.run_id
        assert (ids.workflow_trace(run_id, attempt), ids.attempt_span(run_id, attempt)) in spans


def test_the_first_texts_are_the_only_events() -> None:
    by_name: dict[str, list[Event]] = defaultdict(list)
    for span in workflow_spans(example()):
        by_name[span.name] += list(span.events)
    events = by_name.pop("attempt")
    assert [event for name in by_name.values() for event in name] == []
    assert events[2:6] == [
        Event("first_reasoning", ANCHOR + 104), Event("first_answer", ANCHOR + 105),
        Event("first_reasoning", ANCHOR + 170), Event("first_answer", ANCHOR + 180),
    ]  # fmt: skip


def test_a_failed_attempt_is_an_error_though_its_call_succeeds() -> None:
    refused, good = [s for s in workflow_spans(example()) if s.name == "attempt"][2:4]
    assert refused.error == "rate_limited"
    assert good.error is None


def test_a_degraded_workflow_says_so_and_is_no_error() -> None:
    records = example()
    degraded = msgspec.structs.replace(
        records.workflows[0], outcome="degraded", branches=Branches(total=2, ok=1)
    )
    root = workflow_spans(records._replace(workflows=[degraded]))[0]
    assert root.error is None
    assert root.attributes["harness.outcome"] == "degraded"
    assert semconv.ERROR_TYPE not in root.attributes


def test_a_failed_workflow_says_why() -> None:
    call = make_call(**KEY, done=20, outcome="connect_failed", tokens=None)
    records = example()._replace(
        workflows=[failed_workflow(call)], calls=[call], attempts=[gave_up()]
    )
    spans = workflow_spans(records)
    assert tree(spans) == [
        "invoke_workflow research! 0-20",
        "  phase decompose! 0-20",
        "    call! 0-20",
        "      permit_wait 0-10",
        "      chat simulated-reasoner! 10-20",
        "        attempt! 10-20",
    ]
    assert spans[0].error == "decompose: connect_failed"
    assert spans[0].attributes[semconv.ERROR_TYPE] == "failed"


def test_a_call_that_never_got_a_permit_is_one_long_wait() -> None:
    call = make_call(**KEY, ready=5, done=50, outcome="workflow_timeout", attempts=0, tokens=None)
    records = example()._replace(workflows=[failed_workflow(call)], calls=[call], attempts=[])
    spans = workflow_spans(records)
    assert tree(spans) == [
        "invoke_workflow research! 5-50",
        "  phase decompose! 5-50",
        "    call! 5-50",
        "      permit_wait! 5-50",
    ]
    assert spans[-1].attributes[semconv.ERROR_TYPE] == "workflow_timeout"


def test_a_call_that_gave_up_waiting_for_a_later_permit_shows_that_wait() -> None:
    backoff = Backoff(start=20, end=40, planned=20, source="policy")
    call = make_call(
        **KEY, done=70, outcome="call_timeout", attempts=1, backoffs=(backoff,), tokens=None
    )
    again = retry_in(20, "policy")
    records = example()._replace(
        workflows=[failed_workflow(call)], calls=[call], attempts=[gave_up(decision=again)]
    )
    assert tree(workflow_spans(records))[3:] == [
        "      permit_wait 0-10",
        "      chat simulated-reasoner! 10-70",
        "        attempt! 10-20",
        "        backoff 20-40",
        "        permit_wait! 40-70",
    ]


def call_tree(call: Call, attempts: list[Attempt], cell: str = CELL) -> list[str]:
    """Draw the only call of a workflow."""
    workflow = msgspec.structs.replace(failed_workflow(call), cell=cell)
    records = Records(example_run(cell), attempts, [call], [workflow], [], None)
    return tree(workflow_spans(records))[2:]


def test_a_hedged_call_has_both_attempts_and_the_slower_one_is_no_error() -> None:
    slow = gave_up(phase="decompose", branch=None, permit_granted=1, sent=2, done=50,
                   outcome="cancelled", decision=None)  # fmt: skip
    hedge = gave_up(phase="decompose", branch=None, attempt=2, ready=20, permit_requested=20,
                    permit_granted=24, sent=25, first_answer=49, last_token=60, done=60,
                    outcome="ok", decision=None, hedge=True, finish_reason="stop")  # fmt: skip
    call = make_call(**KEY, phase="decompose", branch=None, ready=0, done=60, attempts=2)
    for cell in (CELL, CELL.replace("_attempt", "_call")):
        of_cell = [msgspec.structs.replace(one, cell=cell) for one in (slow, hedge)]
        assert call_tree(msgspec.structs.replace(call, cell=cell), of_cell, cell) == [
            "    call 0-60",
            "      permit_wait 0-1",
            "      chat simulated-reasoner 1-60",
            "        attempt 1-50",
            "        permit_wait 20-24",
            "        attempt 24-60",
        ]
    spans = workflow_spans(
        Records(example_run(), [slow, hedge], [call], [failed_workflow(call)], [], None)
    )
    chat, first, _, second = spans[-4:]
    assert chat.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert "harness.hedge" not in first.attributes
    assert first.attributes["harness.outcome"] == "cancelled"
    assert second.attributes["harness.hedge"] is True


def test_parking_before_the_first_attempt_stands_before_the_question_to_the_model() -> None:
    parked = Backoff(start=5, end=40, planned=30, source="breaker")
    later = Backoff(start=60, end=70, planned=10, source="breaker")
    tried = gave_up(phase="decompose", branch=None, ready=40, permit_requested=40,
                    permit_granted=45, sent=46, done=60)  # fmt: skip
    call = make_call(**KEY, phase="decompose", branch=None, ready=0, done=75, attempts=1,
                     backoffs=(parked, later), outcome="call_timeout")  # fmt: skip
    assert call_tree(call, [tried]) == [
        "    call! 0-75",
        "      permit_wait 0-5",
        "      backoff 5-40",
        "      permit_wait 40-45",
        "      chat simulated-reasoner! 45-75",
        "        attempt! 45-60",
        "        backoff 60-70",
        "        permit_wait! 70-75",
    ]


def test_a_call_that_was_cancelled_in_line_has_its_wait_and_no_error() -> None:
    call = make_call(**KEY, phase="decompose", branch=None, ready=0, done=75, attempts=0,
                     outcome="cancelled")  # fmt: skip
    assert call_tree(call, []) == ["    call 0-75", "      permit_wait 0-75"]


def test_a_call_that_holds_its_permit_waits_for_it_once() -> None:
    cell = "async_2_full-jitter_call"
    attempts, call = (
        [
            msgspec.structs.replace(
                attempt,
                cell=cell,
                permit_requested=attempt.ready,
                permit_granted=attempt.ready if attempt.attempt > 1 else 110,
            )
            for attempt in retried()[0]
        ],
        msgspec.structs.replace(retried()[1], cell=cell),
    )
    workflow = msgspec.structs.replace(example().workflows[0], cell=cell)
    records = example(example_run(cell))._replace(
        workflows=[workflow], calls=[call], attempts=attempts
    )
    assert tree(workflow_spans(records))[5:-1] == [
        "        permit_wait 100-110",
        "        chat simulated-reasoner 110-190",
        "          attempt! 110-125",
        "          backoff 125-155",
        "          attempt 155-190",
    ]


def test_a_wait_of_no_time_is_still_a_span() -> None:
    records = example()
    at_once = [
        msgspec.structs.replace(
            attempt, permit_requested=attempt.permit_granted, ready=attempt.permit_granted
        )
        for attempt in records.attempts
    ]
    waits = [s for s in workflow_spans(records._replace(attempts=at_once)) if "permit" in s.name]
    assert [wait.end - wait.start for wait in waits] == [0] * 5


def test_a_call_of_a_phase_that_is_not_recorded_hangs_from_its_workflow() -> None:
    records = example()
    bare = msgspec.structs.replace(records.workflows[0], phases=())
    spans = workflow_spans(records._replace(workflows=[bare]))
    parents = {span.parent_id for span in spans if span.name in ("call", "sub_question")}
    assert spans[0].span_id in parents
    assert parents <= {span.span_id for span in spans}


def test_records_of_a_workflow_that_never_ended_have_no_spans() -> None:
    assert workflow_spans(example()._replace(workflows=[])) == []


def test_the_run_trace_holds_the_run_its_cells_and_their_trials() -> None:
    other = "sync_1_full-jitter_attempt"
    run = msgspec.structs.replace(example_run(), cells=make_cells(CELL, other))
    trials = [
        make_trial(cell=CELL, repeat=0, execution=0, start=10, end=20),
        make_trial(cell=other, repeat=0, execution=0, start=30, end=90),
        make_trial(cell=CELL, repeat=1, execution=0, start=100, end=120),
    ]
    spans = TraceMaker(run).of_run(trials)
    assert tree(spans) == [
        "harness.run 10-120",
        "  harness.cell 10-120",
        "    harness.trial 10-20",
        "    harness.trial 100-120",
        "  harness.cell 30-90",
        "    harness.trial 30-90",
    ]
    assert len({span.span_id for span in spans}) == 6
    assert len({span.trace_id for span in spans}) == 1
    assert TraceMaker(run).of_run([]) == []


def make_cells(*names: str) -> tuple[CellInfo, ...]:
    return tuple(example_run(name).cells[0] for name in names)


def test_a_workflow_links_to_its_trial() -> None:
    records = example()
    trial = TraceMaker(records.run).of_run(records.trials)[-1]
    assert trial.name == "harness.trial"
    roots = [span for span in workflow_spans(records) if span.links]
    assert [span.parent_id for span in roots] == [None]
    assert roots[0].links == (SpanLink(trial.trace_id, trial.span_id),)
    assert roots[0].trace_id != trial.trace_id


@st.composite
def sound_records(draw: st.DrawFn) -> Records:
    """Records of whole trials that were played on a small clock."""
    mode = draw(st.sampled_from(["async", "sync"]))
    permits = 1 if mode == "sync" else draw(st.integers(1, 4))
    retry = draw(st.sampled_from(["none", "full-jitter"]))
    scope = draw(st.sampled_from(["attempt", "call"]))
    return make_records(
        [f"{mode}_{permits}_{retry}_{scope}"],
        repeats=draw(st.integers(1, 2)),
        workflows=draw(st.integers(1, 3)),
        in_flight=draw(st.integers(1, 2)),
        branches=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 1000)),
        shape=Shape(failure_rate=draw(st.sampled_from([0.0, 0.3, 0.8])), attempts=3),
    )


@settings(max_examples=60, deadline=None)
@given(sound_records())
def test_every_attempt_has_one_span_and_every_parent_exists(records: Records) -> None:
    spans = workflow_spans(records)
    run_id = records.run.run_id
    expected = sorted(ids.attempt_span(run_id, attempt) for attempt in records.attempts)
    assert sorted(span.span_id for span in spans if span.name == "attempt") == expected
    seen: set[tuple[str, str]] = set()
    for span in spans:
        if span.parent_id is not None:
            assert (span.trace_id, span.parent_id) in seen, "a parent stands before its children"
        seen.add((span.trace_id, span.span_id))
    assert len(seen) == len(spans), "no id stands twice"
    assert len({trace for trace, _ in seen}) == len(records.workflows)


@settings(max_examples=30, deadline=None)
@given(sound_records())
def test_exporting_again_gives_the_same_spans(records: Records) -> None:
    assert workflow_spans(records) == workflow_spans(records)
    copy = msgspec.structs.replace(records.run, run_id="another")
    before = {span.span_id for span in workflow_spans(records)}
    assert before.isdisjoint(span.span_id for span in workflow_spans(records._replace(run=copy)))


@settings(max_examples=60, deadline=None)
@given(sound_records())
def test_no_span_lies_outside_its_parent_and_children_cover_their_parents(
    records: Records,
) -> None:
    """The shares of a workflow's time add up: at least 99 % is told by the children."""
    spans = workflow_spans(records)
    by_id = {span.span_id: span for span in spans}
    children: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        assert span.start <= span.end
        if span.parent_id is not None:
            parent = by_id[span.parent_id]
            assert parent.start <= span.start <= span.end <= parent.end
            children[span.parent_id].append(span)
        for event in span.events:
            assert span.start <= event.time <= span.end
    for parent_id, inside in children.items():
        parent = by_id[parent_id]
        assert covered(inside) >= 0.99 * (parent.end - parent.start), parent.name


def test_in_an_open_loop_what_a_workflow_waited_to_begin_is_a_span_of_its_own() -> None:
    records = example()
    load = records.run.scenario["load"] | {"arrivals": {"process": "poisson", "per_second": 1.0}}
    run = msgspec.structs.replace(records.run, scenario=records.run.scenario | {"load": load})
    late = msgspec.structs.replace(records.workflows[0], ready=records.workflows[0].started - 7)
    assert not [span for span in workflow_spans(records) if span.name == "queue"]
    spans = workflow_spans(records._replace(run=run, workflows=[late, *records.workflows[1:]]))
    queues = [span for span in spans if span.name == "queue"]
    assert len(queues) == len(records.workflows)
    root = next(span for span in spans if span.span_id == queues[0].parent_id)
    assert (queues[0].start, queues[0].end) == (root.start, root.start + 7)


def covered(spans: list[Span]) -> int:
    """Return how much time the union of the spans takes."""
    edges = sorted({edge for span in spans for edge in (span.start, span.end)})
    return sum(
        later - sooner
        for sooner, later in pairwise(edges)
        if any(span.start <= sooner and later <= span.end for span in spans)
    )


@pytest.mark.parametrize("name", ["run_id", "cell", "mode", "permits", "retry", "repeat"])
def test_every_span_of_a_trace_can_be_searched_by_its_cell(name: str) -> None:
    """A filter of Jaeger's matches one span, so each must carry the keys itself."""
    key = {"run_id": semconv.RUN_ID}.get(name, f"harness.{name}")
    values = {span.attributes[key] for span in workflow_spans(example())}
    expected = {
        "run_id": example_run().run_id, "cell": CELL, "mode": "async", "permits": 2,
        "retry": "full-jitter", "repeat": 1,
    }  # fmt: skip
    assert values == {expected[name]}
