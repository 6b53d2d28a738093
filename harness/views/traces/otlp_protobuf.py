"""Spans as OTLP in protobuf, in requests that no collector finds too long.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. Most attributes of a span stand on its
neighbours too, so each is made into a message once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

from harness import __version__
from harness.views.traces import semconv
from harness.views.traces.attributes import Attributes, Value, is_long
from harness.views.traces.span import Kind, Span

MOST_SPANS = 512
"""Spans a request."""
MOST_BYTES = 1_000_000
"""Bytes a request: a quarter of what the strictest receivers take (4 MiB over gRPC)."""

_KINDS: dict[Kind, Message.SpanKind.ValueType] = {
    "internal": Message.SPAN_KIND_INTERNAL,
    "client": Message.SPAN_KIND_CLIENT,
}
_SAMPLED = 0x100 | 1
"""W3C trace flags; bit 8 says that bit 9, whether the parent is remote, is known: it is not."""


class Batch(NamedTuple):
    """One request: which spans are in it, and its bytes."""

    span_ids: tuple[str, ...]
    body: bytes


def batches(
    spans: Sequence[Span],
    resource: Attributes,
    most_spans: int = MOST_SPANS,
    most_bytes: int = MOST_BYTES,
) -> Iterator[Batch]:
    """Yield requests in order, each encoded when its turn comes.

    None has more than `most_spans` spans or `most_bytes` bytes of them; a span that is longer by
    itself has a request to itself.
    """
    request, scope = _request(resource)
    ids: list[str] = []
    size = 0
    for span in spans:
        message = _span(span)
        length = message.ByteSize()
        if ids and (len(ids) == most_spans or size + length > most_bytes):
            yield Batch(tuple(ids), request.SerializeToString())
            request, scope = _request(resource)
            ids, size = [], 0
        scope.spans.append(message)
        ids.append(span.span_id)
        size += length
    if ids:
        yield Batch(tuple(ids), request.SerializeToString())


def _request(resource: Attributes) -> tuple[ExportTraceServiceRequest, ScopeSpans]:
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add(schema_url=semconv.SCHEMA_URL)
    of_resource.resource.attributes.extend(_attributes(resource))
    scope = of_resource.scope_spans.add(schema_url=semconv.SCHEMA_URL)
    scope.scope.name, scope.scope.version = semconv.SCOPE, __version__
    return request, scope


def _span(span: Span) -> Message:
    message = Message(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=b"" if span.parent_id is None else bytes.fromhex(span.parent_id),
        flags=_SAMPLED,
        name=span.name,
        kind=_KINDS[span.kind],
        start_time_unix_nano=span.start,
        end_time_unix_nano=span.end,
        attributes=_attributes(span.attributes),
    )
    for event in span.events:
        message.events.add(
            name=event.name, time_unix_nano=event.time, attributes=_attributes(event.attributes)
        )
    for link in span.links:
        message.links.add(
            trace_id=bytes.fromhex(link.trace_id), span_id=bytes.fromhex(link.span_id)
        )
    if span.error is not None:
        message.status.code = Status.STATUS_CODE_ERROR
        message.status.message = span.error
    return message


def _attributes(values: Attributes) -> list[KeyValue]:
    return [
        _made(key, value) if is_long(value) else _attribute(key, value)
        for key, value in values.items()
    ]


@lru_cache(maxsize=4096, typed=True)
def _attribute(key: str, value: Value) -> KeyValue:
    return _made(key, value)


def _made(key: str, value: Value) -> KeyValue:
    return KeyValue(key=key, value=_value(value))


def _value(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):  # before int: True is one
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=map(_value, value)))
