"""Metrics made from records: they count what the spans show, and files and requests agree."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

from harness.records.clock import SECOND
from harness.records.schema import Run
from harness.store.run_directory import Records
from harness.telemetry import instruments
from harness.telemetry.delivery_log import MetricsAccount
from harness.telemetry.export import Exporter, export_stored
from harness.telemetry.instruments import INSTRUMENTS, Instrument
from harness.telemetry.metric_export import METRICS_FILE
from harness.telemetry.metrics import Exemplar, MetricMaker, MetricPoint, peaks
from harness.telemetry.otlp_metrics import MOST_POINTS, metric_batches, write_metrics
from harness.telemetry.spans import TraceMaker
from tests.analysis.played import Shape, make_records
from tests.telemetry.example import example
from tests.telemetry.otlp import Receiver, receiving
from tests.telemetry.test_export import STILL, stored, trials_of
from tests.telemetry.test_otlp_http import RESOURCE

CELLS = ("async_2_full-jitter_attempt", "sync_1_none_attempt")


def made_of(records: Records) -> list[MetricPoint]:
    maker = MetricMaker(records.run)
    for ended in trials_of(records):
        maker.add_trial([ended.trial], ended.workflows, ended.calls, ended.attempts)
    return maker.points()


def failing() -> Records:
    """Return records with failures; the first chunk of each answer comes with the headers."""
    records = make_records(CELLS, 2, workflows=4, branches=4, shape=Shape(failure_rate=0.3))
    attempts = [replace(one, first_chunk=one.headers) for one in records.attempts]
    return records._replace(attempts=attempts)


def of(points: list[MetricPoint], instrument: Instrument) -> list[MetricPoint]:
    return [point for point in points if point.instrument is instrument]


def test_metrics_count_what_the_spans_show() -> None:
    records = failing()
    points = made_of(records)
    spans = TraceMaker(records.run).of_workflows(records.workflows, records.calls, records.attempts)
    for instrument, name in (
        (instruments.OPERATION_DURATION, "chat "),
        (instruments.WORKFLOW_DURATION, "invoke_workflow "),
        (instruments.PERMIT_WAIT, "permit_wait"),
        (instruments.BACKOFF, "backoff"),
    ):
        mine = [span for span in spans if span.name.startswith(name)]
        if name == "permit_wait":
            mine = [span for span in mine if "error.type" not in span.attributes]
        found = of(points, instrument)
        assert sum(sum(point.counts) for point in found) == len(mine)
        seconds = sum(span.end - span.start for span in mine) / SECOND
        assert sum(point.value for point in found) == pytest.approx(seconds)
    attempts = Counter(
        span.attributes.get("http.response.status_code") for span in spans if span.name == "attempt"
    )
    counted: Counter[Any] = Counter()
    for point in of(points, instruments.ATTEMPTS_ENDED):
        counted[point.attributes.get("http.response.status_code")] += int(point.value)
    assert counted == attempts
    assert attempts[429] > 0
    tokens = sum(
        int(str(span.attributes.get("gen_ai.usage.output_tokens", 0)))
        for span in spans
        if span.name.startswith("chat ")
    )
    usage = [
        point
        for point in of(points, instruments.TOKEN_USAGE)
        if point.attributes["gen_ai.token.type"] == "output"
        and not point.attributes["harness.tokens.wasted"]
    ]
    assert sum(point.value for point in usage) == tokens > 0


def test_every_exemplar_is_a_span_of_its_run_and_its_cell() -> None:
    records = failing()
    spans = {
        (span.trace_id, span.span_id): span
        for span in TraceMaker(records.run).of_workflows(
            records.workflows, records.calls, records.attempts
        )
    }
    points = made_of(records)
    exemplars = [(point, one) for point in points for one in point.exemplars.values()]
    assert {point.instrument for point, _ in exemplars} == {
        one for one in INSTRUMENTS if one.kind != "gauge" and one is not instruments.TRIAL_DURATION
    }
    for point, one in exemplars:
        span = spans[one.trace_id, one.span_id]
        assert span.attributes["harness.cell"] == point.attributes["harness.cell"]
        if point.instrument is instruments.OPERATION_DURATION:
            assert one.value == pytest.approx((span.end - span.start) / SECOND)
            assert span.name.startswith("chat ")


def test_warm_ups_and_workflows_that_did_not_end_are_not_counted() -> None:
    records = example()._replace(workflows=[])
    assert {point.instrument.name for point in made_of(records)} == {
        "harness.attempts.in_flight", "harness.trial.duration",
    }  # fmt: skip


@given(st.lists(st.floats(0, 100), max_size=50))
def test_each_value_is_in_the_bucket_whose_upper_boundary_includes_it(values: list[float]) -> None:
    instrument = Instrument("x", "histogram", "s", "", (0.01, 1.0, 50.0))
    point = MetricPoint(instrument, {}, counts=[0] * 4)
    for value in values:
        point.add(value, Exemplar(value, 0, "", ""))
    bounds = [-1.0, *instrument.bounds, float("inf")]
    for bucket, count in enumerate(point.counts):
        mine = [one for one in values if bounds[bucket] < one <= bounds[bucket + 1]]
        assert len(mine) == count
        assert (bucket in point.exemplars) == bool(mine)
        assert not mine or point.exemplars[bucket].value == max(mine)


INTERVAL = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(
    lambda pair: (min(pair) * SECOND, max(pair) * SECOND)
)


@given(st.lists(INTERVAL, max_size=12), st.integers(0, 30))
def test_the_most_in_flight_is_that_of_the_whole_trial(
    busy: list[tuple[int, int]], seconds: int
) -> None:
    end = seconds * SECOND
    steps = list(peaks(busy, 0, end))
    assert [time for time, _ in steps] == sorted({time for time, _ in steps})
    assert steps[-1][0] == end
    assert len(steps) <= 21
    moments = {one for pair in busy for one in pair if one <= end}
    long = [(began, ended) for began, ended in busy if began < ended]
    most = max(
        [sum(began <= moment < ended for began, ended in long) for moment in moments], default=0
    )
    assert max(count for _, count in steps) == most


def test_names_units_and_boundaries_are_those_of_the_conventions() -> None:
    known = {
        value for name, value in vars(gen_ai_metrics).items() if name.startswith("GEN_AI_CLIENT_")
    }
    mine = {one.name for one in INSTRUMENTS if one.name.startswith("gen_ai.client.")}
    assert mine == known
    by_name = {one.name: one for one in INSTRUMENTS}
    assert len(by_name) == len(INSTRUMENTS)
    doubled = tuple(0.01 * 2**power for power in range(14))
    for name in mine - {"gen_ai.client.token.usage"}:
        assert by_name[name].bounds == pytest.approx(doubled)
        assert by_name[name].unit == "s"
    tokens = by_name["gen_ai.client.token.usage"]
    assert (tokens.unit, tokens.bounds[0], tokens.bounds[-1]) == ("{token}", 1, 67_108_864)
    workflow = by_name["gen_ai.workflow.duration"]
    assert (workflow.bounds[0], workflow.bounds[-1], len(workflow.bounds)) == (1, 7200, 11)
    for one in INSTRUMENTS:
        assert one.kind == "histogram" or not one.bounds
        assert one.name.startswith(("gen_ai.", "harness."))


def parse_line(line: str) -> ExportMetricsServiceRequest:
    """Read one OTLP JSON line strictly; protobuf's own JSON has ids in base64."""

    def with_base64(value: Any) -> Any:
        if isinstance(value, list):
            return [with_base64(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode()
            if key in ("traceId", "spanId")
            else with_base64(item)
            for key, item in value.items()
        }

    return json_format.ParseDict(with_base64(json.loads(line)), ExportMetricsServiceRequest())


def test_the_file_has_the_requests_of_the_collector(tmp_path: Path) -> None:
    points = made_of(failing())
    sent = list(metric_batches(points, RESOURCE))
    write_metrics(tmp_path / "x", points, RESOURCE)
    lines = (tmp_path / "x").read_text().splitlines()
    assert [parse_line(line) for line in lines] == [
        ExportMetricsServiceRequest.FromString(batch.body) for batch in sent
    ]
    assert sum(batch.items for batch in sent) == len(points)
    assert len(sent) == -(-len(points) // MOST_POINTS)
    assert all(len(batch.body) < 1_000_000 for batch in sent)


def test_a_run_and_its_stored_records_give_the_same_metrics(tmp_path: Path) -> None:
    records = failing()
    exporter = Exporter(tmp_path, None, {})
    for ended in trials_of(records):
        exporter.after_trial(records.run, ended)
    account = exporter.finish(records.run)
    written = (tmp_path / METRICS_FILE).read_text().splitlines()
    again = export_stored(tmp_path, stored(records, tmp_path), None, {})
    assert account.metrics == again.metrics
    assert account.metrics is not None
    assert account.metrics.made > 0
    rewritten = (tmp_path / METRICS_FILE).read_text().splitlines()
    assert sorted(points_of(written)) == sorted(points_of(rewritten))


def points_of(lines: list[str]) -> list[str]:
    """Return each point as text; trials may be read in another order than they ran in."""
    found = []
    for line in lines:
        for metric in json.loads(line)["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]:
            (data,) = (metric[key] for key in ("histogram", "sum", "gauge") if key in metric)
            found += [
                json.dumps([metric["name"], _rounded(point)], sort_keys=True)
                for point in data["dataPoints"]
            ]
    return found


def _rounded(point: dict[str, Any]) -> dict[str, Any]:
    sums = {key: f"{point[key]:.9g}" for key in ("sum", "asDouble") if key in point}
    return point | sums


def sent_by(run: Run, records: Records, directory: Path, receiver: Receiver) -> MetricsAccount:
    exporter = Exporter(
        directory, receiver.target(), {}, clock=STILL,
        metrics_target=receiver.target(signal="metrics"),
    )  # fmt: skip
    for ended in trials_of(records):
        exporter.after_trial(run, ended)
    account = exporter.finish(run)
    assert account.delivered == account.made
    assert account.metrics is not None
    return account.metrics


def test_metrics_are_delivered_and_accounted_for(tmp_path: Path) -> None:
    records = failing()
    with receiving(Receiver()) as receiver:
        account = sent_by(records.run, records, tmp_path, receiver)
    assert account == MetricsAccount(
        made=account.made, delivered=account.made, endpoint=f"{receiver.url}/v1/metrics"
    )
    lines = (tmp_path / METRICS_FILE).read_text().splitlines()
    assert receiver.metrics == [parse_line(line) for line in lines]


@pytest.mark.parametrize(("status", "unsupported"), [(404, True), (400, False), (503, False)])
def test_a_collector_that_takes_only_spans_is_no_failure(
    status: int, unsupported: bool, tmp_path: Path
) -> None:
    records = failing()
    with receiving(Receiver(metrics_status=status)) as receiver:
        account = sent_by(records.run, records, tmp_path, receiver)
    assert account.unsupported == unsupported
    assert account.is_incomplete != unsupported
    assert account.refused + account.undelivered == account.made
