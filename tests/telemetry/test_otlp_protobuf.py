"""Requests in protobuf: as long as a collector takes, and the same spans as in the files."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.telemetry.export_times import with_export_times
from harness.telemetry.otlp_file import append_spans
from harness.telemetry.otlp_protobuf import MOST_BYTES, MOST_SPANS, Batch, batches
from harness.telemetry.span import Event, Span
from harness.telemetry.spans import TraceMaker
from tests.telemetry.example import example
from tests.telemetry.otlp import parse_line, resource_in, spans_in
from tests.telemetry.test_otlp_file import SAID, span
from tests.telemetry.test_otlp_http import RESOURCE, many


def workflow_spans() -> list[Span]:
    records = example()
    maker = TraceMaker(records.run)
    spans = maker.of_workflows(records.workflows, records.calls, records.attempts)
    return [*spans, *maker.of_run(records.trials)]


def sized(bytes_each: int, count: int) -> list[Span]:
    return [span(n, attributes={"text": "x" * bytes_each}) for n in range(1, count + 1)]


def sent(batch: Batch) -> ExportTraceServiceRequest:
    """Read a request, without what the SDK's encoder writes of what is not there."""
    request = ExportTraceServiceRequest.FromString(batch.body)
    for one in request.resource_spans[0].scope_spans[0].spans:
        if one.status.ByteSize() == 0:
            one.ClearField("status")
        for link in one.links:
            link.ClearField("flags")
    return request


def test_the_collector_gets_what_the_file_has(tmp_path: Path) -> None:
    """Both are projections of the same spans, so they cannot disagree, to the last field."""
    (batch,) = batches(workflow_spans(), RESOURCE)
    append_spans(tmp_path / "x", workflow_spans(), RESOURCE)
    got, written = sent(batch), parse_line((tmp_path / "x").read_bytes())
    assert got == written
    assert resource_in(got) == RESOURCE
    assert [one["ids"][1] for one in spans_in(got)] == list(batch.span_ids)


def test_every_part_of_a_span_survives_both(tmp_path: Path) -> None:
    values = {
        "text": "ü\n", "yes": True, "no": False, "count": 2**60, "part": 0.5, "one": 1, "real": 1.0,
        "list": ("a", "b"), "long": "x" * 3000,
    }  # fmt: skip
    full = span(
        parent_id="b2" * 8, kind="client", attributes=values, error="rate_limited",
        events=(Event("details", 5, {"said": SAID}),),
    )  # fmt: skip
    (batch,) = batches([full], RESOURCE)
    append_spans(tmp_path / "x", [full], RESOURCE)
    got = sent(batch)
    assert got == parse_line((tmp_path / "x").read_bytes())
    (one,) = spans_in(got)
    assert one["attributes"] == values | {"list": ["a", "b"]}
    assert one["event_attributes"] == [{"said": list(SAID)}]
    assert [type(value) for value in one["attributes"].values()] == [
        type(value) if value != ("a", "b") else list for value in values.values()
    ]


def test_a_request_has_a_bound_of_spans() -> None:
    lengths = [len(batch.span_ids) for batch in batches(many(2 * MOST_SPANS + 1), RESOURCE)]
    assert lengths == [MOST_SPANS, MOST_SPANS, 1]


def test_a_request_has_a_bound_of_bytes() -> None:
    """As many as fit go together, and each has the resource."""
    made = list(batches(sized(90_000, 25), RESOURCE))
    assert [len(batch.span_ids) for batch in made] == [11, 11, 3]
    for batch in made:
        assert len(batch.body) < MOST_BYTES + 1000
        assert resource_in(ExportTraceServiceRequest.FromString(batch.body)) == RESOURCE
    assert [one for batch in made for one in batch.span_ids] == [
        one.span_id for one in sized(1, 25)
    ]


def test_a_span_that_is_too_long_has_a_request_to_itself() -> None:
    spans = [*sized(10, 1), span(2, attributes={"text": "x" * 2 * MOST_BYTES}), span(3)]
    assert [batch.span_ids for batch in batches(spans, RESOURCE)] == [
        (one.span_id,) for one in spans
    ]


def test_a_request_is_encoded_when_its_turn_comes() -> None:
    def spans() -> list[Span]:
        return [*many(MOST_SPANS + 1), None]  # type: ignore[list-item]

    first = next(batches(spans(), RESOURCE))
    assert len(first.span_ids) == MOST_SPANS


def test_without_spans_there_is_no_request() -> None:
    assert list(batches([], RESOURCE)) == []


def test_a_span_of_no_length_is_told_as_one_nanosecond(tmp_path: Path) -> None:
    """Jaeger takes a length of 0 for a negative one and warns."""
    (at_once,) = with_export_times([span(start=7, end=7)])
    (batch,) = batches([at_once], RESOURCE)
    append_spans(tmp_path / "x", [at_once], RESOURCE)
    for request in (sent(batch), parse_line((tmp_path / "x").read_bytes())):
        (one,) = request.resource_spans[0].scope_spans[0].spans
        assert (one.start_time_unix_nano, one.end_time_unix_nano) == (7, 8)
