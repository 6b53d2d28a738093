"""`harness gateway`: what programs get from it, what it records, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from harness.cli.main import main
from harness.store.run_directory import Records, read_records

SCENARIO = """
name = "morning"
[workflow]
topics = ["tides"]
[endpoint]
profile = "plain-chat"
time_scale = 0.01
time = "virtual"
[sweep]
mode = ["sync"]
repeats = 9
[retry.quick]
kind = "exponential"
attempts = 2
base = "10ms"
"""
ASKED = {"model": "m", "messages": [{"role": "user", "content": "why?"}]}


class Gateway:
    """A gateway that runs: its process, its run directory, and a client of its URL."""

    def __init__(self, process: subprocess.Popen[str], out: Path, url: str) -> None:
        self.process, self.out, self.url = process, out, url
        self.client = httpx2.Client(trust_env=False, timeout=60)

    def ask(self, **more: Any) -> httpx2.Response:
        """Send a question."""
        return self.client.post(f"{self.url}/chat/completions", json={**ASKED, **more})

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """End it with a signal, and return its exit code, and what it printed after the URL."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, errors

    def records(self) -> Records:
        """Return what it recorded."""
        return read_records(self.out)


@contextmanager
def serving(folder: Path, *options: str, **environment: str) -> Iterator[Gateway]:
    """Run a gateway in front of a simulated provider of its own."""
    scenario, out = folder / "morning.toml", folder / "run"
    scenario.write_text(SCENARIO)

    def prepare() -> None:  # whoever runs the tests in the background has had Ctrl-C switched off
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    words = ["gateway", str(scenario), "--out", str(out), *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
        env={**os.environ, **environment},
    )
    with process:
        try:
            assert process.stdout is not None
            first, second = process.stdout.readline(), process.stdout.readline()
            found = re.fullmatch(r"export OPENAI_BASE_URL=(http://127\.0\.0\.1:\d+/\S+)\n", first)
            assert found, process.communicate()
            assert second == "export OPENAI_API_KEY=placeholder\n"
            gateway = Gateway(process, out, found[1])
            with gateway.client:
                yield gateway
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_each_request_is_a_workflow_and_a_signal_is_the_regular_end(
    number: int, tmp_path: Path
) -> None:
    context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with serving(tmp_path, "--permits", "3", "--retry", "quick") as gateway:
        answer = gateway.ask(model="program-s")
        assert answer.json()["model"] == "program-s"
        gateway.client.headers["traceparent"] = context
        streamed = gateway.ask(stream=True)
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.text.endswith("data: [DONE]\n\n")
        assert gateway.client.get(f"{gateway.url}/models").json()["data"]
        assert gateway.client.head(f"{gateway.url}/models").status_code == 405
        assert gateway.client.get(f"{gateway.url}/models").status_code == 200
        code, output, errors = gateway.end(number)
    assert code == 0, errors
    assert "served 5 requests with 3 permits and retry quick: 1 failed" in " ".join(output.split())
    assert f"harness fit {gateway.out} -o twin.toml" in output
    records = gateway.records()
    run = records.run
    assert (run.status, [cell.id for cell in run.cells]) == ("complete", ["async_3_quick_attempt"])
    assert run.scenario["load"]["workflows"] is None
    assert [one.workflow for one in records.workflows] == [0, 1, 2, 3, 4]
    phases = ["chat", "chat", "models", "models", "models"]
    assert [one.phase for one in records.calls] == phases
    assert [one.traceparent for one in records.calls] == [None, *[context] * 4]
    for workflow, call in zip(records.workflows, records.calls, strict=True):
        assert workflow.ready == call.ready <= workflow.started <= call.done <= workflow.done
    assert [one.outcome for one in records.workflows] == ["ok", "ok", "ok", "failed", "ok"]
    summary = json.loads((gateway.out / "summary.json").read_text())
    assert (summary["serves_requests"], summary["planned_workflows"]) == (True, None)


def test_permits_are_the_most_requests_at_the_endpoint(tmp_path: Path) -> None:
    many = ["--permits", "2", "--set", "endpoint.override={concurrency_cap = 2}"]
    with serving(tmp_path, *many) as gateway:
        gateway.client.close()
        script = (
            "import asyncio, httpx2\n"
            "async def all():\n"
            "    async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:\n"
            f"        url = {gateway.url!r} + '/chat/completions'\n"
            f"        ask = lambda: http.post(url, json={ASKED})\n"
            "        found = await asyncio.gather(*(ask() for _ in range(30)))\n"
            "        assert {one.status_code for one in found} == {200}\n"
            "asyncio.run(all())\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
        assert gateway.end()[0] == 0
    records = gateway.records()
    assert len(records.workflows) == 30
    assert {one.status for one in records.attempts} == {200}
    assert max(one.permit_wait for one in records.attempts) > 0


def test_a_budget_is_never_exceeded_and_the_program_is_told(tmp_path: Path) -> None:
    with serving(tmp_path, "--set", "budget.attempts=2") as gateway:
        codes = [gateway.ask().status_code for _ in range(2)]
        refused = [gateway.ask() for _ in range(3)]
        code, _, errors = gateway.end()
    assert codes == [200, 200]
    for answer in refused:
        assert answer.status_code == 403
        assert "budget.attempts leaves no room" in answer.json()["error"]["message"]
    assert code == 3
    assert errors.count("requests get 403 from now on") == 1
    records = gateway.records()
    assert len(records.attempts) == 2
    assert records.run.stopped is not None
    assert records.run.stopped.by == "budget"


def test_a_request_without_a_limit_that_the_budget_needs_is_refused_alone(tmp_path: Path) -> None:
    with serving(tmp_path, "--set", "budget.tokens=100000") as gateway:
        refused = gateway.ask()
        assert refused.status_code == 400
        assert "max_tokens" in refused.json()["error"]["message"]
        assert gateway.ask(max_tokens=2000).status_code == 200
        assert gateway.end()[0] == 0
    assert len(gateway.records().attempts) == 1


def test_the_url_is_secret_and_can_stay_the_same(tmp_path: Path) -> None:
    with serving(tmp_path, "--token-env", "OWN_TOKEN", OWN_TOKEN="a-token-of-mine") as gateway:
        host, _, token = gateway.url.rpartition("/")
        assert token == "a-token-of-mine"
        assert gateway.client.get(f"{host}/another-token/models").status_code == 404
        assert gateway.client.get(f"{gateway.url}/models").status_code == 200
        assert gateway.end()[0] == 0
    for file in gateway.out.rglob("*"):
        assert file.is_dir() or token.encode() not in file.read_bytes(), file


def test_a_client_that_vanishes_cancels_its_request(tmp_path: Path) -> None:
    with serving(tmp_path, "--set", "endpoint.time_scale=1.0") as gateway:
        with gateway.client.stream(
            "POST", f"{gateway.url}/chat/completions", json={**ASKED, "stream": True}
        ) as response:
            next(response.iter_raw())
        assert gateway.client.get(f"{gateway.url}/models").status_code == 200
        assert gateway.end()[0] == 0
    records = gateway.records()
    assert sorted(one.outcome for one in records.attempts) == ["cancelled", "ok"]
    assert sorted(one.outcome for one in records.workflows) == ["cancelled", "ok"]


def test_requests_in_flight_at_the_end_are_recorded(tmp_path: Path) -> None:
    with serving(tmp_path, "--set", "endpoint.time_scale=1.0") as gateway:
        asked = {**ASKED, "stream": True}
        with gateway.client.stream(
            "POST", f"{gateway.url}/chat/completions", json=asked
        ) as response:
            pieces = response.iter_raw()  # kept, as its end closes the connection
            next(pieces)
            gateway.process.send_signal(signal.SIGINT)
            assert gateway.process.stderr is not None
            line = next(one for one in gateway.process.stderr if "to end" in one)
            assert line.startswith("1 request has 5 s to end")
            code, _, _ = gateway.end(signal.SIGINT)
    assert code == 130
    [attempt] = gateway.records().attempts
    assert attempt.outcome == "cancelled"


def test_a_gateway_without_a_request_says_so_in_a_line(tmp_path: Path) -> None:
    with serving(tmp_path, "--quiet") as gateway:
        code, output, errors = gateway.end()
    assert (code, output) == (0, "")
    assert errors.splitlines() == [
        f"harness: no request has ended at the gateway, so {gateway.out} has nothing to report"
    ]


def test_a_killed_gateway_loses_only_what_is_in_flight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path) as gateway:
        for _ in range(3):
            gateway.ask()
        deadline = time.monotonic() + 30
        while len(gateway.records().workflows) < 3:  # the last line is written after the answer
            assert time.monotonic() < deadline
        gateway.process.kill()
    assert main(["report", str(gateway.out)]) == 0
    assert "served 3 requests" in " ".join(capsys.readouterr().out.split())


def test_a_run_of_a_gateway_is_for_fit_and_not_for_whatif_or_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as gateway:
        for _ in range(12):
            gateway.ask(stream=True, stream_options={"include_usage": True})
        assert gateway.end()[0] == 0
    monkeypatch.chdir(tmp_path)
    assert main(["trace", "run", "--slowest", "1"]) == 0
    assert main(["fit", "run", "-o", "twin.toml"]) == 0
    capsys.readouterr()
    assert main(["whatif", "run", "--set", "sweep.permits=2"]) == 2
    assert "`harness fit run -o twin.toml` makes a twin" in capsys.readouterr().err
    assert main(["run", "--resume", "run"]) == 2
    assert "start another one with `harness gateway`" in capsys.readouterr().err
    traces = "run/traces/async_64_none_attempt.otlp.jsonl"
    assert main(["import", traces, "-o", "afternoon.toml"]) == 0
    options = ["--set", "endpoint.profile=twin.toml", "--set", "sweep.repeats=1", "--quiet"]
    assert main(["run", "afternoon.toml", *options]) == 0


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "s.toml"
    scenario.write_text('name = "s"\n[workflow]\nkind = "gateway"\n[sweep]\npermits = [2, 4]\n')
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        for words, said in {
            ("gateway",): "gateway: no endpoint; give --endpoint",
            ("gateway", "--endpoint", url, "--port", str(port)): f"--port {port}: cannot listen",
            ("gateway", "--endpoint", url, "--port", "99999"): "--port 99999: cannot listen",
            ("gateway", "--endpoint", url, "--retry", "nine"): "gateway: sweep.retry[0]",
            ("gateway", "--endpoint", url, "--permits", "nine"): "gateway: sweep.permits[0]",
            ("gateway", "--endpoint", url, "--token-env", "NO_SUCH"): "--token-env NO_SUCH: holds",
            ("gateway", "--model", "m"): "gateway: no endpoint",
            (
                "gateway",
                "--endpoint",
                url,
                "--set",
                "budget.usd=1",
                "--set",
                "endpoint.price={input=1.0, output=1.0}",
                "--set",
                "workflow.max_tokens.chat=9",
            ): ("budget.usd = 1: the price is that of one model"),
            ("gateway", str(scenario)): f"{scenario}: sweep.permits has 2 values",
            ("run", str(scenario)): f"{scenario}: workflow.kind = 'gateway' serves",
            ("gateway", "--endpoint", url, "--set", "sweep.permits=[1, 2]"): "--set sweep: a gate",
        }.items():
            assert main(list(words)) == 2
            error = capsys.readouterr().err
            assert error.startswith(f"harness: {said}"), error
            assert error.count("\n") == 1
