"""Spans as OTLP JSON lines: one ExportTraceServiceRequest per line.

The JSON mapping of OTLP (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): ids
in hexadecimal, enumerations as integers, 64-bit integers as decimal strings. Jaeger's user
interface can upload such a file, up to 50 MB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from harness import __version__
from harness.records.errors import StorageError
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes, AttributeValue, is_long
from harness.telemetry.span import Span, SpanRole

SPANS_PER_LINE = 512
"""Spans per line."""

_KINDS: dict[SpanRole, int] = {"internal": 1, "client": 3}
_STATUS_ERROR = 2
_FLAGS = 0x100
"""As in the SDK: bit 8 means that bit 9 (the parent is remote) is known; here it is 0."""


def append_spans(path: Path, spans: Sequence[Span], resource: Attributes) -> None:
    """Append spans to a file; create it if it does not exist. Raises StorageError."""
    try:
        with path.open("ab", buffering=0) as file:
            for line in _lines(spans, resource):
                file.write(line)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def replace_spans(path: Path, spans: Sequence[Span], resource: Attributes) -> None:
    """Replace a file atomically. Raises StorageError.

    Without spans, the file is deleted.
    """
    part = path.with_name(path.name + ".part")
    try:
        if not spans:
            path.unlink(missing_ok=True)
            return
        with part.open("wb") as file:
            file.writelines(_lines(spans, resource))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def _lines(spans: Sequence[Span], resource: Attributes) -> Iterator[bytes]:
    encoder = msgspec.json.Encoder()
    for start in range(0, len(spans), SPANS_PER_LINE):
        request = _request(spans[start : start + SPANS_PER_LINE], resource)
        yield encoder.encode(request) + b"\n"


def _request(spans: Sequence[Span], resource: Attributes) -> dict[str, Any]:
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [
                    {
                        "scope": {"name": semconv.SCOPE, "version": __version__},
                        "spans": [_span(span) for span in spans],
                        "schemaUrl": semconv.SCHEMA_URL,
                    }
                ],
                "schemaUrl": semconv.SCHEMA_URL,
            }
        ]
    }


def _span(span: Span) -> dict[str, Any]:
    message: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "flags": _FLAGS,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.exported_end),
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
        _made(key, value) if is_long(value) else _attribute(key, value)
        for key, value in values.items()
    ]


@lru_cache(maxsize=4096, typed=True)  # neighbouring spans share most attributes
def _attribute(key: str, value: AttributeValue) -> msgspec.Raw:
    return _made(key, value)


def _made(key: str, value: AttributeValue) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({"key": key, "value": _value(value)}))


def _value(value: AttributeValue) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):  # before int: bool is a subclass of int
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"arrayValue": {"values": [{"stringValue": text} for text in value]}}
