"""OTLP JSON lines, read back with the protocol's own messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.records.errors import StorageError
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes
from harness.telemetry.otlp_file import SPANS_PER_LINE, append_spans, replace_spans
from harness.telemetry.span import Event, Span, SpanLink
from harness.telemetry.spans import TraceMaker
from tests.telemetry.example import example
from tests.telemetry.otlp import parse_line, resource_in, spans_in

RESOURCE: Attributes = {"service.name": "harness", "harness.simulated": True}


def span(number: int = 1, **fields: object) -> Span:
    plain: dict[str, object] = {
        "name": "attempt", "trace_id": "a1" * 16, "span_id": f"{number:016x}", "parent_id": None,
        "start": 1_760_000_000_000_000_001, "end": 1_760_000_000_000_000_009, "attributes": {},
    }  # fmt: skip
    return Span(**(plain | fields))  # type: ignore[arg-type]


SAID = ({"role": "user", "parts": [{"type": "text", "content": "Why?"}]}, {"number": 1})
"""A structured value: a list of objects."""


def test_every_part_of_a_span_survives_the_file(tmp_path: Path) -> None:
    full = span(
        parent_id="b2" * 8,
        kind="client",
        attributes={
            "text": "ü\n", "yes": True, "no": False, "count": 2**60, "part": 0.5, "zero": 0,
            "list": ("a", "b"),
        },
        events=(Event("first_answer", 1_760_000_000_000_000_005, {"said": SAID}),),
        links=(SpanLink("c3" * 16, "d4" * 8),),
        error="rate_limited",
    )  # fmt: skip
    append_spans(tmp_path / "x.otlp.jsonl", [full], RESOURCE)
    (line,) = (tmp_path / "x.otlp.jsonl").read_bytes().splitlines()
    message = parse_line(line)
    assert spans_in(message) == [
        {
            "name": "attempt",
            "ids": ("a1" * 16, "0000000000000001", "b2" * 8),
            "times": (1_760_000_000_000_000_001, 1_760_000_000_000_000_009),
            "kind": "SPAN_KIND_CLIENT",
            "status": ("STATUS_CODE_ERROR", "rate_limited"),
            "attributes": {
                "text": "ü\n", "yes": True, "no": False, "count": 2**60, "part": 0.5, "zero": 0,
                "list": ["a", "b"],
            },
            "events": [("first_answer", 1_760_000_000_000_000_005)],
            "event_attributes": [{"said": list(SAID)}],
            "links": [("c3" * 16, "d4" * 8)],
        }
    ]  # fmt: skip
    assert resource_in(message) == RESOURCE
    assert message.resource_spans[0].scope_spans[0].scope.name == "harness"
    assert message.resource_spans[0].scope_spans[0].schema_url == semconv.SCHEMA_URL


def test_equal_values_of_different_types_keep_their_types(tmp_path: Path) -> None:
    values = [1, True, 1.0, 0, False, 0.0]
    append_spans(tmp_path / "x", [span(attributes={"same": value}) for value in values], RESOURCE)
    read = [
        one["attributes"]["same"] for one in spans_in(parse_line((tmp_path / "x").read_bytes()))
    ]
    assert [(value, type(value)) for value in read] == [(value, type(value)) for value in values]


def test_ids_are_hexadecimal_and_wide_integers_are_strings(tmp_path: Path) -> None:
    """This is where OTLP's JSON differs from protobuf's own, and a parser may forgive it."""
    append_spans(tmp_path / "x", [span(attributes={"count": 7})], RESOURCE)
    raw = json.loads((tmp_path / "x").read_bytes())
    (written,) = raw["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert written["traceId"] == "a1" * 16
    assert written["startTimeUnixNano"] == "1760000000000000001"
    assert written["attributes"] == [{"key": "count", "value": {"intValue": "7"}}]
    assert written["kind"] == 1
    assert "status" not in written
    assert "parentSpanId" not in written


def test_a_workflow_reads_back_whole(tmp_path: Path) -> None:
    records = example()
    spans = TraceMaker(records.run).of_workflows(records.workflows, records.calls, records.attempts)
    append_spans(tmp_path / "x", spans, RESOURCE)
    read = spans_in(parse_line((tmp_path / "x").read_bytes()))
    assert [one["ids"] for one in read] == [
        (one.trace_id, one.span_id, one.parent_id or "") for one in spans
    ]
    assert [one["times"] for one in read] == [(one.start, one.end) for one in spans]


def of_trace(number: int, count: int) -> list[Span]:
    trace = f"{number:032x}"
    return [replace(span(number * 10_000 + one), trace_id=trace) for one in range(count)]


def counts(path: Path) -> list[int]:
    return [len(spans_in(parse_line(line))) for line in path.read_bytes().splitlines()]


def test_a_line_holds_whole_traces_and_appending_adds_lines(tmp_path: Path) -> None:
    half = SPANS_PER_LINE // 2
    many = [*of_trace(1, half), *of_trace(2, half), *of_trace(3, 1), *of_trace(4, 3 * half)]
    append_spans(tmp_path / "x", many, RESOURCE)
    append_spans(tmp_path / "x", of_trace(5, 1), RESOURCE)
    assert counts(tmp_path / "x") == [2 * half, 1, 3 * half, 1]


def test_files_stay_below_the_limit_of_an_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appending and replacing cut the files at the same traces."""
    traces = [of_trace(number, SPANS_PER_LINE) for number in range(1, 8)]
    line = b"".join(lines_of(tmp_path / "one", traces[:1]))
    monkeypatch.setattr("harness.telemetry.otlp_file.MOST_FILE_BYTES", 3 * len(line) + 10)
    for trace in traces:
        append_spans(tmp_path / "x.otlp.jsonl", trace, RESOURCE)
    names = ["x.otlp.jsonl", "x.part2.otlp.jsonl", "x.part3.otlp.jsonl"]
    assert sorted(file.name for file in tmp_path.glob("x*")) == names
    appended = [(tmp_path / name).read_bytes() for name in names]
    assert [len(one.splitlines()) for one in appended] == [3, 3, 1]
    replace_spans(tmp_path / "x.otlp.jsonl", traces, RESOURCE)
    assert [(tmp_path / name).read_bytes() for name in names] == appended
    replace_spans(tmp_path / "x.otlp.jsonl", traces[:1], RESOURCE)
    assert [file.name for file in tmp_path.glob("x*")] == names[:1]


def lines_of(path: Path, traces: list[list[Span]]) -> list[bytes]:
    replace_spans(path, traces, RESOURCE)
    return path.read_bytes().splitlines(keepends=True)


def test_replacing_leaves_nothing_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    append_spans(path, [span(1)], RESOURCE)
    replace_spans(path, [[span(2)]], RESOURCE)
    assert [one["ids"][1] for one in spans_in(parse_line(path.read_bytes()))] == [f"{2:016x}"]
    replace_spans(path, [], RESOURCE)
    assert list(tmp_path.iterdir()) == []


def replace_part(path: Path, spans: Sequence[Span], resource: Attributes) -> None:
    replace_spans(path, [spans], resource)


@pytest.mark.parametrize("write", [append_spans, replace_part])
def test_a_file_that_cannot_be_written_is_a_storage_error_that_names_it(
    tmp_path: Path, write: Callable[[Path, Sequence[Span], Attributes], None]
) -> None:
    path = tmp_path / "missing" / "x.otlp.jsonl"
    with pytest.raises(StorageError, match=r"missing/x\.otlp\.jsonl: cannot be written"):
        write(path, [span()], RESOURCE)
