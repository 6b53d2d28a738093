"""Links into Jaeger: where it is, and what is worth a look."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.records import ids
from harness.records.errors import InputError
from harness.records.schema import Workflow
from harness.store.run_directory import Records
from harness.telemetry import delivery_log
from harness.telemetry.delivery_log import DeliveryAccount
from harness.telemetry.export import TRACES, export_stored
from harness.telemetry.jaeger import Jaeger, is_jaeger, jaeger_of, links, require_address
from harness.telemetry.spans import TraceMaker, root_span
from tests.analysis.played import Shape, make_records
from tests.telemetry.otlp import Receiver, receiving
from tests.telemetry.test_export import stored
from tests.telemetry.test_otlp_http import closed_port

CELLS = ["sync_1_none_attempt", "async_2_none_attempt", "async_8_none_attempt"]
BASE = "http://127.0.0.1:16686"


@pytest.fixture(scope="module")
def records() -> Records:
    return make_records(CELLS, 2, workflows=3, shape=Shape(failure_rate=0.15))


def base_of(folder: Path, endpoint: str, delivered: int = 1, url: str = "") -> str | None:
    account = DeliveryAccount(
        made=1, delivered=delivered, undelivered=1 - delivered, endpoint=endpoint
    )
    delivery_log.save_account(folder, account)
    jaeger = jaeger_of(folder, "r", {"HARNESS_JAEGER_URL": url}, answering)
    return None if jaeger is None else jaeger.base


def answering(base: str) -> bool:
    return True


def test_the_variable_says_where_jaeger_is(tmp_path: Path, records: Records) -> None:
    jaeger = jaeger_of(tmp_path, "r", {"HARNESS_JAEGER_URL": "https://jaeger.example/ui/"})
    assert jaeger is not None
    assert jaeger.base == "https://jaeger.example/ui"
    assert all(map(jaeger.has, records.workflows))


@pytest.mark.parametrize("url", ["127.0.0.1", "ftp://x", "http://", "http://me:s3cret@x"])
def test_what_is_no_address_is_refused_by_name(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match=r"^HARNESS_JAEGER_URL: ") as no:
        jaeger_of(tmp_path, "r", {"HARNESS_JAEGER_URL": url})
    assert "s3cret" not in str(no.value)
    with pytest.raises(InputError, match=r"^HARNESS_JAEGER_URL: "):
        require_address({"HARNESS_JAEGER_URL": url})


@pytest.mark.parametrize(
    ("endpoint", "base"),
    [
        ("http://127.0.0.1:4318/v1/traces", BASE),
        ("http://localhost:9/v1/traces", "http://localhost:16686"),
        ("http://[::1]:4318/v1/traces", "http://[::1]:16686"),
        ("http://collector.example:4318/v1/traces", None),
        ("https://10.0.0.7:4318/v1/traces", None),
    ],
)
def test_without_it_jaeger_is_where_the_spans_went_if_that_is_this_machine(
    tmp_path: Path, endpoint: str, base: str | None
) -> None:
    assert base_of(tmp_path, endpoint) == base
    assert base_of(tmp_path, endpoint, delivered=0) is None


def test_there_is_no_link_where_no_jaeger_answers(tmp_path: Path) -> None:
    assert base_of(tmp_path, "http://127.0.0.1:4318/v1/traces") == BASE
    assert jaeger_of(tmp_path, "r", {}, lambda _: False) is None
    named = jaeger_of(
        tmp_path, "r", {"HARNESS_JAEGER_URL": "http://jaeger.example"}, lambda _: False
    )
    assert named is not None, "a named one can be behind a login"


@pytest.mark.parametrize(
    ("status", "body", "is_one"),
    [
        (200, b'{"services": ["harness"]}', True),
        (200, b'{"services": []}', True),
        (200, b"<html>", False),
        (200, b"[1]", False),
        (200, b"{}", False),
        (404, b'{"services": []}', False),
    ],
)
def test_a_jaeger_is_known_by_its_list_of_services(status: int, body: bytes, is_one: bool) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    with saying(head.encode() + body) as port:
        assert is_jaeger(f"http://127.0.0.1:{port}") is is_one


def test_what_hangs_or_does_not_listen_is_no_jaeger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.telemetry.jaeger.PROBE_SECONDS", 0.05)
    with saying(b"") as port:
        assert not is_jaeger(f"http://127.0.0.1:{port}")
    assert not is_jaeger(f"http://127.0.0.1:{closed_port()}")


@contextmanager
def saying(answer: bytes) -> Iterator[int]:
    """Answer one connection with these bytes; without any, keep it open. Yield the port."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(4096)
                if answer:
                    connection.sendall(answer)
                else:
                    done.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join()


def test_a_run_that_was_never_sent_is_nowhere(tmp_path: Path) -> None:
    assert jaeger_of(tmp_path, "r", {}) is None


def test_only_what_was_acknowledged_is_linked_to(tmp_path: Path, records: Records) -> None:
    run_id, one = records.run.run_id, records.workflows[0]
    delivery_log.note(tmp_path, "http://127.0.0.1:4318/v1/traces", [root_span(run_id, one)], 0)
    account = DeliveryAccount(made=2, delivered=1, endpoint="http://127.0.0.1:4318/v1/traces")
    delivery_log.save_account(tmp_path, account)
    jaeger = jaeger_of(tmp_path, run_id, {}, answering)
    assert jaeger is not None
    assert [one for one in records.workflows if jaeger.has(one)] == [one]
    (only,) = links(records, jaeger)
    is_slowest = one is max(records.workflows, key=lambda one: one.done - one.ready)
    assert not is_slowest
    assert only.what == (
        f"slowest delivered workflow, in {one.cell} (the slowest was not delivered)"
    )
    assert only.url == f"{BASE}/trace/{ids.workflow_trace(run_id, one)}"


def test_a_whole_run_that_was_delivered_has_every_link(tmp_path: Path, records: Records) -> None:
    with receiving(Receiver()) as receiver:
        export_stored(tmp_path, stored(records, tmp_path), receiver.target(), {})
    jaeger = jaeger_of(tmp_path / TRACES, records.run.run_id, {}, answering)
    assert jaeger is not None
    assert all(map(jaeger.has, records.workflows))
    assert jaeger.base.endswith(":16686")
    assert closed_port() != 16686


def test_the_root_span_is_the_one_that_is_made(records: Records) -> None:
    spans = TraceMaker(records.run).of_workflows(records.workflows[:1], [], [])
    assert spans[0].span_id == root_span(records.run.run_id, records.workflows[0])


def test_the_links_lead_to_the_slowest_a_failed_and_all_workflows_of_a_cell(
    records: Records,
) -> None:
    slowest, failed, search = links(records, Jaeger(BASE, lambda _: True, "mine"))

    def trace(one: Workflow) -> str:
        return ids.workflow_trace(records.run.run_id, one)

    by_trace = {trace(one): one for one in records.workflows}
    one = max(records.workflows, key=lambda one: one.done - one.ready)
    assert slowest == (f"slowest workflow, in {one.cell}", f"{BASE}/trace/{trace(one)}")
    parts = urlsplit(failed.url)
    lost = by_trace[parts.path.rpartition("/")[2]]
    assert lost.outcome == "failed"
    assert failed.what == f"a failed workflow and its errors, in {lost.cell}"
    assert parse_qs(parts.query) == {"uiFind": ["error.type"]}
    assert search.what == f"all workflows of {one.cell}"
    parts = urlsplit(search.url)
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert parts.path == "/search"
    tags = {"harness.run.id": records.run.run_id, "harness.cell": one.cell}
    assert json.loads(asked.pop("tags")) == tags
    start, end = int(asked.pop("start")) * 1000, int(asked.pop("end")) * 1000
    of_cell = [other for other in records.workflows if other.cell == one.cell]
    unix = records.run.anchor.unix_ns
    assert all(start <= unix + it.ready <= unix + it.done <= end for it in of_cell)
    assert asked == {
        "service": "mine", "operation": "invoke_workflow research", "limit": str(len(of_cell)),
        "lookback": "custom",
    }  # fmt: skip


def test_the_service_is_the_one_that_the_spans_name(tmp_path: Path) -> None:
    named = {"HARNESS_JAEGER_URL": BASE, "OTEL_RESOURCE_ATTRIBUTES": "service.name=mine"}
    for environment, name in (
        (named, "mine"),
        (named | {"OTEL_SERVICE_NAME": "first"}, "first"),
        ({"HARNESS_JAEGER_URL": BASE}, "harness"),
    ):
        jaeger = jaeger_of(tmp_path, "r", environment)
        assert jaeger is not None
        assert jaeger.service == name


def test_a_run_without_failures_and_of_one_workflow_has_one_link() -> None:
    records = make_records(CELLS[:1], 1, workflows=1)
    (only,) = links(records, Jaeger(BASE, lambda _: True))
    assert only.what.startswith("slowest")
    assert list(links(records, Jaeger(BASE, lambda _: False))) == []
