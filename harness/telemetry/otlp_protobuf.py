"""Spans as OTLP in protobuf, in requests below the size limits of collectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from harness import __version__
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes
from harness.telemetry.span import Span

MOST_SPANS = 512
"""Spans per request."""
MOST_BYTES = 1_000_000
"""Bytes per request: a quarter of the strictest limit of receivers (4 MiB over gRPC)."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope(semconv.SCOPE, __version__, semconv.SCHEMA_URL)


class Batch(NamedTuple):
    """One request: the number of its items, its bytes, and the ids of its spans."""

    items: int
    body: bytes
    span_ids: tuple[str, ...] = ()


def batches(
    spans: Sequence[Span],
    resource: Attributes,
    most_spans: int = MOST_SPANS,
    most_bytes: int = MOST_BYTES,
) -> Iterator[Batch]:
    """Yield requests in order; each is encoded when it is requested.

    A request has at most `most_spans` spans and `most_bytes` bytes, unless it is a single span.
    """
    made_by = Resource(resource, semconv.SCHEMA_URL)
    start = 0
    while start < len(spans):
        some = spans[start : start + most_spans]
        request = encode_spans([_readable(span, made_by) for span in some])
        messages = request.resource_spans[0].scope_spans[0].spans
        sizes = accumulate(message.ByteSize() for message in messages)
        count = max(1, sum(size <= most_bytes for size in sizes))
        del messages[count:]
        span_ids = tuple(span.span_id for span in some[:count])
        yield Batch(count, request.SerializeToString(), span_ids)
        start += count


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    context = _context(span.trace_id, span.span_id)
    return ReadableSpan(
        name=span.name,
        context=context,
        parent=None if span.parent_id is None else _context(span.trace_id, span.parent_id),
        resource=resource,
        attributes=span.attributes,
        events=[Event(event.name, event.attributes, event.time) for event in span.events],
        links=[Link(_context(link.trace_id, link.span_id)) for link in span.links],
        kind=SpanKind[span.kind.upper()],
        status=Status() if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=_SCOPE,
    )


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=_SAMPLED)
