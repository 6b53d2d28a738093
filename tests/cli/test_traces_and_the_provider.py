"""The traces of a run with faults, as a backend gives them back, held against the provider's log.

Always with a receiver of our own; and with a real Jaeger, found by attribute through its v3 API,
when HARNESS_JAEGER_URL says where one is (its OTLP port is taken to be 4318 on the same machine).
"""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest

from harness.analysis.critical_path import paths_of
from harness.analysis.oracle import join
from harness.cli.main import main
from harness.records.clock import SECOND
from harness.records.groups import WorkflowGroups
from harness.records.ids import attempt_span, workflow_trace
from harness.records.provider_log import Served
from harness.store.run_directory import Records, read_records
from tests.telemetry.otlp import Receiver, receiving, spans_in

JAEGER = os.environ.get("HARNESS_JAEGER_URL", "")
SLACK = SECOND // 20
"""How far two clocks and the operating system may set one moment apart, in nanoseconds."""

SCENARIO = """
name = "faulty"
seed = 3
[workflow]
topics = ["tides", "kelp"]
sub_questions = 3
[endpoint]
kind = "simulated"
profile = "deepseek-reasoner"
override = { tokens_per_chunk = 40, concurrency_cap = 3 }
time_scale = 0.002
[load]
workflows = 3
in_flight = 2
[timeouts]
idle = "1h"
call = "5h"
[sweep]
mode = ["async"]
permits = [5]
retry = ["patient"]
[retry.patient]
kind = "exponential"
attempts = 20
base = "2s"
cap = "30s"
"""


class Found(NamedTuple):
    """One span as a backend gave it back: ids in hexadecimal, times since the Unix epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int


def run(folder: Path, endpoint: str) -> Records:
    file = folder / "faulty.toml"
    file.write_text(SCENARIO)
    out = folder / "out"
    command = ["run", str(file), "--out", str(out), "--quiet"]
    assert main([*command, "--otlp", endpoint, "--otlp-wait"]) == 0
    records = read_records(out)
    assert {attempt.outcome for attempt in records.attempts} > {"ok"}
    return records


def from_a_receiver(folder: Path) -> tuple[Records, list[Found]]:
    with receiving(Receiver()) as receiver:
        records = run(folder, receiver.url)
    return records, [
        Found(span["name"], *span["ids"], *span["times"])
        for one in receiver.got
        for span in spans_in(one.message)
    ]


def from_jaeger(folder: Path) -> tuple[Records, list[Found]]:
    if not JAEGER:
        pytest.skip("HARNESS_JAEGER_URL is not set: there is no Jaeger to ask")
    records = run(folder, f"http://{urlsplit(JAEGER).hostname}:4318")
    for _ in range(60):  # it takes a moment until what was acknowledged can be found
        found = list(search(records))
        roots = [span for span in found if not span.parent_id and "invoke" in span.name]
        if len(roots) == len(records.workflows):
            return records, found
        time.sleep(0.5)
    raise AssertionError(f"{len(roots)} of {len(records.workflows)} workflows can be found")


def search(records: Records) -> Iterator[Found]:
    """Ask for the run's workflows by an attribute, as a person does in the user interface."""
    began = datetime.fromtimestamp(records.run.anchor.unix_ns / SECOND, UTC)
    service = os.environ.get("OTEL_SERVICE_NAME", "harness")
    times = [
        at.isoformat().replace("+00:00", "Z")
        for at in (began - timedelta(minutes=1), began + timedelta(hours=1))
    ]
    asked = {
        "query.attributes": json.dumps({"harness.run.id": records.run.run_id}),
        "query.serviceName": service,
        "query.startTimeMin": times[0],
        "query.startTimeMax": times[1],
        "query.searchDepth": "100",
        # As Jaeger spelt it before 2.21, where a search looked at no attributes.
        "query.service_name": service,
        "query.start_time_min": times[0],
        "query.start_time_max": times[1],
        "query.num_traces": "100",
    }
    url = f"{JAEGER.rstrip('/')}/api/v3/traces?{urlencode(asked)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        if error.code != 404:  # that is how it says that nothing matches
            raise
        return
    for of_resource in answer["result"]["resourceSpans"]:
        for of_scope in of_resource["scopeSpans"]:
            for span in of_scope["spans"]:
                yield Found(
                    span["name"], hexadecimal(span["traceId"], 16), hexadecimal(span["spanId"], 8),
                    hexadecimal(span.get("parentSpanId", ""), 8),
                    int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"]),
                )  # fmt: skip


def hexadecimal(value: Any, length: int) -> str:
    """Read an id: OTLP's JSON has it in hexadecimal, protobuf's own in base64."""
    text = str(value)
    return text if len(text) in (0, 2 * length) else base64.b64decode(text).hex()


@pytest.fixture(scope="module", params=[from_a_receiver, from_jaeger])
def traced(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Records, list[Found]]:
    found: tuple[Records, list[Found]] = request.param(tmp_path_factory.mktemp("run"))
    return found


def test_every_attempt_of_the_providers_log_has_its_span_where_it_belongs(
    traced: tuple[Records, list[Found]],
) -> None:
    records, spans = traced
    by_id = {span.span_id: span for span in spans}
    assert records.provider is not None
    served: list[Served] = records.provider[1]
    assert len(served) == len(records.attempts)
    for attempt in records.attempts:
        span = by_id[attempt_span(records.run.run_id, attempt)]
        assert span.trace_id == workflow_trace(records.run.run_id, attempt)
        chain = []
        while span.parent_id:
            span = by_id[span.parent_id]
            chain.append(span.name)
        branch = ["sub_question"] if attempt.branch is not None else []
        assert chain == [
            "chat simulated-reasoner", "call", *branch, f"phase {attempt.phase}",
            "invoke_workflow research",
        ]  # fmt: skip
    assert {one.span_id for one in served} <= set(by_id)


def test_an_attempts_span_lasts_as_long_as_the_provider_served_it(
    traced: tuple[Records, list[Found]],
) -> None:
    """The client sees a request from before it arrives until after its last byte was written."""
    records, spans = traced
    by_id = {span.span_id: span for span in spans}
    assert records.provider is not None
    head, served = records.provider
    for one in served:
        span = by_id[str(one.span_id)]
        arrived = head.anchor.unix_ns + one.arrived
        assert span.start <= arrived + SLACK
        assert arrived <= span.end + SLACK
        if one.last_written is not None:
            assert head.anchor.unix_ns + one.last_written <= span.end + SLACK
            assert span.end - span.start >= one.last_written - one.arrived - SLACK


def test_children_account_for_nearly_all_of_a_workflows_time(
    traced: tuple[Records, list[Found]],
) -> None:
    _, spans = traced
    for root in (span for span in spans if span.name.startswith("invoke_workflow")):
        covered = sum(one.end - one.start for one in spans if one.parent_id == root.span_id)
        assert covered >= 0.99 * (root.end - root.start)


def test_the_straggler_of_each_workflow_is_the_branch_that_the_provider_served_last(
    traced: tuple[Records, list[Found]],
) -> None:
    records, _ = traced
    joined = join(records)
    assert joined is not None
    ends: dict[tuple[int, int], dict[int, int]] = {}
    for attempt, served in joined.pairs:
        if attempt.branch is not None:
            of = ends.setdefault((attempt.repeat, attempt.workflow), {})
            of[attempt.branch] = max(of.get(attempt.branch, 0), served.done)
    paths = list(paths_of(records.workflows, WorkflowGroups(records.calls, records.attempts)))
    assert len(paths) == 3
    for path in paths:
        last = ends[path.workflow.repeat, path.workflow.workflow]
        (straggler,) = path.stragglers
        assert straggler.branch == max(last, key=lambda branch: last[branch])
        assert sum(path.parts().values()) == path.latency
