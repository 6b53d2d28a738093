"""The times of exported spans, and the critical path that Jaeger finds with them."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.critical_path import critical_path
from harness.records import ids
from harness.records.groups import WorkflowGroups
from harness.store.run_directory import Records
from harness.telemetry.export_times import MICROSECOND, with_export_times
from harness.telemetry.span import Event, Span
from harness.telemetry.spans import TraceMaker
from tests.analysis.played import Shape, make_records
from tests.telemetry.jaeger_path import jaeger_path

US = MICROSECOND


def make_span(number: int, parent: int | None, start: int, end: int) -> Span:
    return Span(
        name="a", trace_id="t", span_id=str(number), attributes={}, start=start, end=end,
        parent_id=None if parent is None else str(parent), events=(Event("last", end),),
    )  # fmt: skip


@st.composite
def traces(draw: st.DrawFn) -> list[Span]:
    """Traces on a grid of half microseconds, with many times that are equal or almost equal."""
    root_end = draw(st.integers(0, 40))
    spans = [make_span(0, None, 10 * US, 10 * US + root_end * 500)]
    for number in range(1, draw(st.integers(1, 14))):
        parent = spans[draw(st.integers(0, number - 1))]
        times = st.integers(0, (parent.end - parent.start) // 500)
        first, last = sorted((draw(times), draw(times)))
        start, end = parent.start + first * 500, parent.start + last * 500
        spans.append(make_span(number, int(parent.span_id), start, end))
    return spans


def of_parents(spans: list[Span]) -> dict[str, list[int]]:
    """Return the places of the children of each parent in `spans`."""
    found: dict[str, list[int]] = defaultdict(list)
    for place, span in enumerate(spans):
        if span.parent_id is not None:
            found[span.parent_id].append(place)
    return found


@settings(max_examples=400, deadline=None)
@given(traces())
def test_exported_spans_last_stay_within_their_parents_and_keep_their_order(
    spans: list[Span],
) -> None:
    exported = with_export_times(spans)
    by_id = {span.span_id: span for span in exported}
    assert [span.span_id for span in exported] == [span.span_id for span in spans]
    for span, moved in zip(spans, exported, strict=True):
        assert moved.start < moved.end
        assert all(event.time <= moved.end for event in moved.events)
        if moved.parent_id is None:
            assert (moved.start, moved.end) == (span.start, max(span.end, span.start + 1))
            continue
        parent = by_id[moved.parent_id]
        assert parent.start <= moved.start < moved.end <= parent.end
        assert moved.start <= span.start
        assert moved.end <= max(span.end, moved.start + 1)
    for places in of_parents(spans).values():
        for one in places:
            for other in places:
                if spans[one].start <= spans[other].start:
                    assert exported[one].start <= exported[other].start
                if spans[one].end < exported[other].start:
                    assert exported[one].end <= exported[other].start


def test_a_span_that_abuts_the_next_one_ends_one_to_two_microseconds_earlier() -> None:
    spans = [
        make_span(0, None, 0, 9000),
        make_span(1, 0, 0, 4700),  # the next one starts when this one ends
        make_span(2, 1, 1000, 4700),  # within the span that ends earlier
        make_span(3, 1, 4000, 4650),
        make_span(4, 0, 4700, 9000),  # the last one
        make_span(5, 0, 2000, 6000),  # overlaps both
    ]
    times = [(one.start, one.end) for one in with_export_times(spans)]
    assert times == [(0, 9000), (0, 3000), (1000, 3000), (2999, 3000), (4700, 9000), (2000, 6000)]
    assert 1000 <= 4700 - 3000 < 2000


@st.composite
def played(draw: st.DrawFn) -> Records:
    """Records of trials on a clock of whole milliseconds, where ends and starts coincide."""
    return make_records(
        [draw(st.sampled_from(["async_4_full-jitter_attempt", "async_2_none_call"]))],
        workflows=draw(st.integers(1, 3)),
        in_flight=draw(st.integers(1, 2)),
        branches=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 1000)),
        shape=Shape(failure_rate=draw(st.sampled_from([0.0, 0.3])), attempts=3),
    )


@settings(max_examples=40, deadline=None)
@given(played())
def test_the_critical_path_of_jaeger_names_the_attempts_of_our_own(records: Records) -> None:
    run_id = records.run.run_id
    groups = WorkflowGroups(records.calls, records.attempts)
    maker = TraceMaker(records.run)
    for workflow in records.workflows:
        path = critical_path(workflow, groups.of(workflow))
        ours = {
            (one.phase, one.branch, one.call, one.attempt)
            for one in path.segments
            if one.attempt is not None and one.part not in ("permit_wait", "backoff")
            if one.length > 10 * US
        }
        by_id = {ids.attempt_span(run_id, one): one for one in groups.of(workflow).attempts}
        (spans,) = maker.traces([workflow], *groups.of(workflow))
        found = jaeger_path(with_export_times(spans))
        theirs = {
            (one.phase, one.branch, one.call, one.attempt)
            for one in (by_id[s.span.span_id] for s in found if s.span.name == "attempt")
        }
        assert theirs == ours
        assert all(later.start == earlier.end or later.start - earlier.end <= 2
                   for earlier, later in pairwise(reversed(found)))  # fmt: skip
