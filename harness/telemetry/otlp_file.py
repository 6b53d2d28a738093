"""Spans as OTLP JSON lines: one ExportTraceServiceRequest per line, each with whole traces.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids in hexadecimal, enumerations
as integers, 64-bit integers as decimal strings. Jaeger can upload such a file, by default up to
20 MiB, so more spans go to further files: `x.otlp.jsonl`, `x.part2.otlp.jsonl` and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from harness import __version__
from harness.store.run_directory import append_to_file, replace_file, writing
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes, AttributeValue
from harness.telemetry.span import Span, SpanRole

SUFFIX = ".otlp.jsonl"
SPANS_PER_LINE = 512
"""The most spans of a line with more than one trace."""
MOST_FILE_BYTES = 20_000_000
"""The most bytes of a file with more than one line."""
_KINDS: dict[SpanRole, int] = {"internal": 1, "client": 3}
_VALUES = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
_STATUS_ERROR = 2
_FLAGS = 0x100
"""As in the SDK: bit 8 means that bit 9 (the parent is remote) is known; here it is 0."""


def packed(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """Yield the spans of traces that follow one another in parts, each for one line."""
    part: list[Span] = []
    for _, trace in groupby(spans, attrgetter("trace_id")):
        whole = list(trace)
        if part and len(part) + len(whole) > SPANS_PER_LINE:
            yield part
            part = []
        part += whole
    if part:
        yield part


def append_spans(path: Path, spans: Iterable[Span], resource: Attributes) -> None:
    """Append spans to the last of the files; create it if needed. Raises StorageError."""
    number = 1
    while _of_part(path, number + 1).exists():
        number += 1
    with writing(path):
        last = _of_part(path, number)
        size = last.stat().st_size if last.exists() else 0
    for line in (_line(part, resource) for part in packed(spans)):
        if size and size + len(line) > MOST_FILE_BYTES:
            number, size = number + 1, 0
        append_to_file(_of_part(path, number), [line])
        size += len(line)


def replace_spans(path: Path, parts: Iterable[Sequence[Span]], resource: Attributes) -> None:
    """Replace the files, each atomically; delete those that are not needed. Raises StorageError.

    `parts`: of `packed`; they are encoded and released one after another.
    """
    lines = (_line(part, resource) for part in parts if part)
    line = next(lines, None)

    def of_one_file() -> Iterator[bytes]:
        nonlocal line
        size = 0
        while line is not None and (not size or size + len(line) <= MOST_FILE_BYTES):
            size += len(line)
            yield line
            line = next(lines, None)

    number = 1
    while line is not None:
        replace_file(_of_part(path, number), of_one_file())
        number += 1
    while (stale := _of_part(path, number)).exists():
        with writing(stale):
            stale.unlink()
        number += 1


def _of_part(path: Path, number: int) -> Path:
    """Return the file with the given number, from 1."""
    if number == 1:
        return path
    return path.with_name(f"{path.name.removesuffix(SUFFIX)}.part{number}{SUFFIX}")


def _line(spans: Sequence[Span], resource: Attributes) -> bytes:
    of_scope = {
        "scope": {"name": semconv.SCOPE, "version": __version__},
        "spans": [_span(span) for span in spans],
        "schemaUrl": semconv.SCHEMA_URL,
    }
    of_resource = {
        "resource": {"attributes": _attributes(resource)},
        "scopeSpans": [of_scope],
        "schemaUrl": semconv.SCHEMA_URL,
    }
    return msgspec.json.encode({"resourceSpans": [of_resource]}) + b"\n"


def _span(span: Span) -> dict[str, Any]:
    message: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "flags": _FLAGS,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes),
    }
    if span.parent_id is not None:
        message["parentSpanId"] = span.parent_id
    if span.events:
        message["events"] = [
            {
                "timeUnixNano": str(event.time),
                "name": event.name,
                "attributes": _attributes(event.attributes),
            }
            for event in span.events
        ]
    if span.links:
        message["links"] = [
            {"traceId": link.trace_id, "spanId": link.span_id} for link in span.links
        ]
    if span.error is not None:
        message["status"] = {"code": _STATUS_ERROR, "message": span.error}
    return message


def _attributes(values: Attributes) -> list[msgspec.Raw]:
    return [
        _attribute.__wrapped__(key, value) if _is_large(value) else _attribute(key, value)
        for key, value in values.items()
    ]


@lru_cache(maxsize=4096, typed=True)  # neighbouring spans share most attributes
def _attribute(key: str, value: AttributeValue) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({"key": key, "value": _value(value)}))


def _is_large(value: AttributeValue) -> bool:
    """Return whether a value is a long text or has objects; neither is likely to occur twice."""
    if isinstance(value, tuple):
        return not all(isinstance(one, str) for one in value)
    return isinstance(value, str) and len(value) > 256


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple | list):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    if isinstance(value, dict):
        pairs = [{"key": key, "value": _value(one)} for key, one in value.items()]
        return {"kvlistValue": {"values": pairs}}
    name = _VALUES[type(value)]
    return {name: str(value) if name == "intValue" else value}
