"""The metrics of the model's own server: read within limits, recorded, and shown."""

from __future__ import annotations

import contextlib
import csv
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.selection import Dataset
from harness.analysis.server_load import MeanAndMost, server_loads
from harness.bench import server_metrics
from harness.bench.server_metrics import LoadSeen, read_load, sampling
from harness.cli.main import main
from harness.config.request_settings import RequestSettings
from harness.records.server_sample import ServerSample
from harness.report.export import export
from harness.simulator import wire
from harness.store.run_directory import SERVER_FILE, Records, each
from tests.analysis.played import make_records
from tests.wire.clients import CERTIFICATE
from tests.wire.fault_server import FaultServer
from tests.wire.quirks import respond

VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b{}"} 3.0
vllm:num_requests_running{engine="1",model_name="a"} 2.0 1760000000000
vllm:num_requests_running_total{engine="1"} 99
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0"} 7.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 70
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
"""
OLD_VLLM = b"vllm:gpu_cache_usage_perc 0.125\n"
SGLANG = b"""sglang:num_running_reqs{model_name="m"} 4
sglang:num_queue_reqs{model_name="m"} 5
sglang:token_usage{model_name="m"} 0.28
"""
LLAMA_CPP = b"""# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
llamacpp:requests_deferred 0
llamacpp:kv_cache_usage_ratio 0.9"""


@pytest.mark.parametrize(
    ("text", "load"),
    [
        (VLLM, LoadSeen(5, 7, 0.5)),
        (OLD_VLLM, LoadSeen(None, None, 0.125)),
        (SGLANG, LoadSeen(4, 5, 0.28)),
        (LLAMA_CPP, LoadSeen(1, 0, 0.9)),
        (wire.metrics(2, 3), LoadSeen(2, 3, None)),
        (b"", LoadSeen(None, None, None)),
        (b"other 1\n", LoadSeen(None, None, None)),
        (
            b"sglang:num_queue_reqs NaN\nsglang:num_running_reqs\n",
            LoadSeen(None, None, None),
        ),
        (
            b"sglang:num_queue_reqs x\r\nsglang:num_running_reqs 2\r\n",
            LoadSeen(2, None, None),
        ),
    ],
)
def test_the_load_is_read_by_the_names_of_each_server(text: bytes, load: LoadSeen) -> None:
    assert read_load(text) == load


@given(st.binary() | st.binary().map(lambda text: b"sglang:num_queue_reqs" + text))
def test_any_text_is_read(text: bytes) -> None:
    load = read_load(text)
    assert all(one is None or one == one for one in load)


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Serve metrics on this machine; give their URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join()


def saying(status: int, body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def first_of(
    url: str,
    key: str | None = None,
    request: RequestSettings = RequestSettings(),  # noqa: B008 - immutable
) -> ServerSample:
    """Read until there is a reading, and return it."""
    reader = server_metrics._Reader(url, key, lambda: 5, request)

    def once(timeout: float | None = None) -> bool:
        reader.stop.set()
        return True

    reader.stop.wait = once  # type: ignore[method-assign]
    reader.run()
    ((began, took, load),) = reader.readings
    said = {"problem": load} if isinstance(load, str) else load._asdict()
    return ServerSample(cell="c", repeat=0, execution=0, time=began, took=took, **said)


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"x-a: b\r\n" * 1000)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (saying(404, b"no"), "answered 404 Not Found"),
        (saying(200, b"<html>"), "none of the known metrics"),
        (
            saying(200, b"x" * (server_metrics.MOST_METRICS_BYTES + 1)),
            "its answer is incomplete or too long",
        ),
        (lambda handler: handler.wfile.write(b"nonsense\r\n"), "hangs up or does not speak HTTP"),
        (lambda handler: None, "hangs up or does not speak HTTP"),
        (drip, "hangs up or does not speak HTTP"),
    ],
)
def test_a_reading_that_fails_is_recorded(
    answer: Callable[[BaseHTTPRequestHandler], None], problem: str
) -> None:
    with serving(answer) as url:
        sample = first_of(url)
    assert (sample.running, sample.problem) == (
        None,
        problem.lower() if "hangs" in problem else problem,
    )


def test_a_server_that_is_down_or_silent_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_metrics, "MOST_READING_SECONDS", 0.05)
    let_go = threading.Event()
    with serving(lambda handler: [let_go.wait(10)].clear()) as url:
        assert first_of(url).problem == "no answer within 0.05 s"
        let_go.set()
    assert "refused" in str(first_of(url).problem)
    assert first_of("http://nobody.invalid/metrics").problem


def test_certificates_are_trusted_as_in_requests_to_the_model() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    answer = respond(VLLM, content_type="text/plain")
    with FaultServer(lambda seen: answer, context) as server:
        url = f"https://localhost:{server.port}/metrics"
        assert first_of(url).problem is not None
        for request in (
            RequestSettings(ca_file=str(CERTIFICATE)), RequestSettings(verify=False),
        ):  # fmt: skip
            assert first_of(url, None, request).running == 5


def test_the_samples_of_a_trial_have_its_key() -> None:
    with serving(saying(200, VLLM)) as url:
        seen = threading.Event()
        with sampling(url, None, lambda: seen.set() or 7, ("c", 3, 1)) as samples:  # type: ignore[func-returns-value]
            seen.wait(10)
    first = samples[0]
    assert (first.cell, first.repeat, first.execution, first.time) == ("c", 3, 1, 7)
    assert (first.running, first.waiting, first.kv_cache, first.problem) == (5, 7, 0.5, None)
    with sampling(None, None, lambda: 0, ("c", 0, 0)) as none:
        pass
    assert none == []


def with_samples() -> Records:
    records = make_records(["async_2_none_attempt"], 1, workflows=3)
    busy = sorted((one.sent, one.done) for one in records.attempts if one.sent is not None)
    time = (busy[0][0] + busy[0][1]) // 2
    common = {"cell": "async_2_none_attempt", "repeat": 0, "execution": 0, "took": 9}
    return records._replace(
        server=[
            ServerSample(**common, time=time, running=2, waiting=1, kv_cache=0.5),  # type: ignore[arg-type]
            ServerSample(**common, time=-1, running=0, waiting=3),  # type: ignore[arg-type]
            ServerSample(**common, time=time, problem="answered 404 Not Found"),  # type: ignore[arg-type]
        ]
    )


def test_each_reading_stands_beside_what_the_client_had_in_flight() -> None:
    data = Dataset.of(with_samples())
    (load,) = server_loads(data)
    time = data.server[0].time
    sent = [
        (one.sent, one.done)
        for one in make_records(["async_2_none_attempt"], 1, workflows=3).attempts
    ]
    count = sum(began is not None and began <= time < ended for began, ended in sent)
    assert count > 0
    assert load.in_flight == MeanAndMost(count / 2, count)
    assert (load.running, load.waiting) == (MeanAndMost(1, 2), MeanAndMost(2, 3))
    assert load.kv_cache == MeanAndMost(0.5, 0.5)
    assert (load.readings, load.failed, load.problem) == (3, 1, "answered 404 Not Found")


def test_a_run_records_the_metrics_of_a_simulated_provider(tmp_path: Path) -> None:
    """`harness serve` has metrics, so that they can be tried without a model."""
    from harness.endpoints.simulated import start_simulator

    with start_simulator("deepseek-reasoner", {"slots": 1}, 1, 0.01, tmp_path / "log") as server:
        metrics_url = server.base_url.removesuffix("/v1") + "/metrics"
        scenario = tmp_path / "s.toml"
        scenario.write_text(
            f"""name = "served"
            [endpoint]
            kind = "openai"
            base_url = "{server.base_url}"
            metrics_url = "{metrics_url}"
            model = "m"
            [load]
            workflows = 1
            [workflow]
            topics = ["tides"]
            [sweep]
            mode = ["async"]
            permits = [4]
            """
        )
        out = tmp_path / "run"
        assert main(["run", str(scenario), "--out", str(out), "--yes", "--quiet"]) == 0
    samples = list(each(out, ServerSample))
    assert any(one.running is not None for one in samples), "a busy machine may lose some"
    assert json.loads((out / SERVER_FILE).read_text().splitlines()[0])["cell"].startswith("async_4")
    assert "Load by the server" in (out / "report.html").read_text()
    export(out, tmp_path / "tables", "csv")
    with (tmp_path / "tables" / "server.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(samples)
    assert {"running", "waiting", "kv_cache", "in_flight"} <= set(rows[0])
    metrics = (out / "metrics.otlp.jsonl").read_text()
    assert "harness.server.requests.running" in metrics


@pytest.mark.parametrize(
    ("base", "metrics", "variable", "shared"),
    [
        ("http://h:1/v1", "http://h:1/metrics", "KEY", True),
        ("http://h:1/v1", "http://h:2/metrics", "KEY", False),
        ("https://h:1/v1", "http://h:1/metrics", "KEY", False),
        ("http://h:1/v1", "http://h:1/metrics", None, False),
    ],
)
def test_the_api_key_goes_to_the_models_server_alone(
    base: str, metrics: str, variable: str | None, shared: bool, tmp_path: Path
) -> None:
    from harness.endpoints.openai import OpenAIEndpoint

    endpoint = OpenAIEndpoint(
        kind="openai", base_url=base, model="m", metrics_url=metrics, api_key_env=variable
    )
    with endpoint.server("s3cret", 0, tmp_path / "log") as server:
        assert server.metrics_key == ("s3cret" if shared else None)
