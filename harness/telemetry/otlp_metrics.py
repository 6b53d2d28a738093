"""Metrics as OTLP: requests in protobuf, and the same messages as JSON lines.

A file line is one ExportMetricsServiceRequest, as `otlp_file` has them of spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from harness import __version__
from harness.store.run_directory import replace_file
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes
from harness.telemetry.metrics import MetricPoint
from harness.telemetry.otlp_protobuf import Batch

MOST_POINTS = 400
"""Data points per request: with all exemplars, one has up to 2 KB."""

_SCOPE = InstrumentationScope(semconv.SCOPE, __version__, semconv.SCHEMA_URL)


def metric_requests(
    points: Sequence[MetricPoint], resource: Attributes
) -> Iterator[ExportMetricsServiceRequest]:
    """Yield requests with at most MOST_POINTS points; each is encoded when it is requested.

    `points`: those of one instrument follow each other.
    """
    made_by = Resource(resource, semconv.SCHEMA_URL)
    for start in range(0, len(points), MOST_POINTS):
        some = points[start : start + MOST_POINTS]
        metrics = [_metric(list(mine)) for _, mine in groupby(some, lambda one: one.instrument)]
        of_scope = ScopeMetrics(_SCOPE, metrics, semconv.SCHEMA_URL)
        yield encode_metrics(
            MetricsData([ResourceMetrics(made_by, [of_scope], semconv.SCHEMA_URL)])
        )


def metric_batches(points: Sequence[MetricPoint], resource: Attributes) -> Iterator[Batch]:
    """Yield the requests as batches; an item is a data point."""
    for number, request in enumerate(metric_requests(points, resource)):
        items = min(MOST_POINTS, len(points) - number * MOST_POINTS)
        yield Batch(items, request.SerializeToString())


def write_metrics(path: Path, points: Sequence[MetricPoint], resource: Attributes) -> None:
    """Replace a file atomically. Raises StorageError."""
    replace_file(path, map(_line, metric_requests(points, resource)))


def _line(request: ExportMetricsServiceRequest) -> bytes:
    """Return one line of OTLP JSON, which has ids in hexadecimal where protobuf's has base64."""
    message = MessageToDict(request, use_integers_for_enums=True)
    for metric in message["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]:
        for point in next(value for key, value in metric.items() if key in _KINDS)["dataPoints"]:
            for exemplar in point.get("exemplars", ()):
                for key in ("traceId", "spanId"):
                    exemplar[key] = _hexadecimal(exemplar[key])
    return msgspec.json.encode(message) + b"\n"


_KINDS = ("histogram", "sum", "gauge")


def _hexadecimal(base64: str) -> str:
    return msgspec.convert(base64, bytes).hex()


def _metric(points: list[MetricPoint]) -> Metric:
    instrument = points[0].instrument
    cumulative = AggregationTemporality.CUMULATIVE
    data: Any
    if instrument.kind == "histogram":
        data = Histogram([_histogram_point(point) for point in points], cumulative)
    elif instrument.kind == "counter":
        data = Sum([_number_point(point) for point in points], cumulative, is_monotonic=True)
    else:
        data = Gauge([_number_point(point) for point in points])
    return Metric(instrument.name, instrument.description, instrument.unit, data)


def _histogram_point(point: MetricPoint) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=point.attributes,
        start_time_unix_nano=point.start,
        time_unix_nano=point.time,
        count=sum(point.counts),
        sum=point.value,
        bucket_counts=point.counts,
        explicit_bounds=point.instrument.bounds,
        min=point.low,
        max=point.high,
        exemplars=_exemplars(point),
    )


def _number_point(point: MetricPoint) -> NumberDataPoint:
    is_count = point.instrument.unit != "s" and float(point.value).is_integer()
    return NumberDataPoint(
        attributes=point.attributes,
        start_time_unix_nano=point.start,
        time_unix_nano=point.time,
        value=int(point.value) if is_count else point.value,
        exemplars=_exemplars(point),
    )


def _exemplars(point: MetricPoint) -> list[Exemplar]:
    return [
        Exemplar({}, one.value, one.time, int(one.span_id, 16), int(one.trace_id, 16))
        for _, one in sorted(point.exemplars.items())
    ]
