"""Spans as OTLP JSON lines: one ExportTraceServiceRequest per line.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids in hexadecimal, enumerations
as integers, 64-bit integers as decimal strings. Jaeger can upload such a file, up to 50 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from harness import __version__
from harness.store.run_directory import append_to_file, replace_file, writing
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes, AttributeValue
from harness.telemetry.span import Span, SpanRole

SPANS_PER_LINE = 512
_KINDS: dict[SpanRole, int] = {"internal": 1, "client": 3}
_VALUES = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
_STATUS_ERROR = 2
_FLAGS = 0x100
"""As in the SDK: bit 8 means that bit 9 (the parent is remote) is known; here it is 0."""


def append_spans(path: Path, spans: Sequence[Span], resource: Attributes) -> None:
    """Append spans to a file; create it if it does not exist. Raises StorageError."""
    append_to_file(path, _lines(spans, resource))


def replace_spans(path: Path, parts: Iterable[Sequence[Span]], resource: Attributes) -> None:
    """Replace a file atomically, or delete it if there are no spans. Raises StorageError.

    `parts`: spans that are encoded and released one part after another.
    """
    lines = chain.from_iterable(_lines(spans, resource) for spans in parts)
    first = next(lines, None)
    if first is not None:
        replace_file(path, chain([first], lines))
    else:
        with writing(path):
            path.unlink(missing_ok=True)


def _lines(spans: Sequence[Span], resource: Attributes) -> Iterator[bytes]:
    for start in range(0, len(spans), SPANS_PER_LINE):
        of_scope = {
            "scope": {"name": semconv.SCOPE, "version": __version__},
            "spans": [_span(span) for span in spans[start : start + SPANS_PER_LINE]],
            "schemaUrl": semconv.SCHEMA_URL,
        }
        of_resource = {
            "resource": {"attributes": _attributes(resource)},
            "scopeSpans": [of_scope],
            "schemaUrl": semconv.SCHEMA_URL,
        }
        yield msgspec.json.encode({"resourceSpans": [of_resource]}) + b"\n"


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
        # A long text is unlikely to occur twice.
        _attribute.__wrapped__(key, value)
        if isinstance(value, str) and len(value) > 256
        else _attribute(key, value)
        for key, value in values.items()
    ]


@lru_cache(maxsize=4096, typed=True)  # neighbouring spans share most attributes
def _attribute(key: str, value: AttributeValue) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({"key": key, "value": _value(value)}))


def _value(value: AttributeValue) -> dict[str, Any]:
    if isinstance(value, tuple):
        return {"arrayValue": {"values": [_value(text) for text in value]}}
    name = _VALUES[type(value)]
    return {name: str(value) if name == "intValue" else value}
