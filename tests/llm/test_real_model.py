"""The shipped scenario against a real model, in every mode, and failures that a real server gives.

Needs the optional extra: `make test-llm`.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest

from harness.bench.scenario_file import load_scenario
from harness.cli.main import main
from harness.config.shipped_scenarios import find
from harness.endpoints.local_llm import PACKAGES, LocalLLMEndpoint
from harness.endpoints.section import EndpointServer
from harness.records.schema import Transcript
from harness.store.run_directory import TRANSCRIPTS_FILE, Records, read_records

Failing = Callable[..., Records]
"""(API key, *settings of the scenario, code=exit code that is expected) -> records."""
MODES = ("sync", "threads", "async")
SMALL = LocalLLMEndpoint(kind="local-llm", context=512, parallel=1)


class Finished(NamedTuple):
    """What `harness run local-llm` left behind, and the server that it had started."""

    code: int
    directory: Path
    records: Records
    transcripts: list[Transcript]
    server: EndpointServer


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    directory = tmp_path_factory.mktemp("local-llm") / "run"
    servers: list[EndpointServer] = []
    start = LocalLLMEndpoint.server

    @contextmanager
    def remembered(
        endpoint: LocalLLMEndpoint, api_key: str, seed: int, log: Path
    ) -> Iterator[EndpointServer]:
        with start(endpoint, api_key, seed, log) as running:
            servers.append(running)
            yield running

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalLLMEndpoint, "server", remembered)
        cold = "load.warmup_calls=0"  # the tests expect the attempts of workflows alone
        code = main(["run", "local-llm", "--out", str(directory), "--quiet", "--set", cold])
    lines = (directory / TRANSCRIPTS_FILE).read_bytes().splitlines()
    transcripts = [msgspec.json.decode(line, type=Transcript) for line in lines]
    [server] = servers
    return Finished(code, directory, read_records(directory), transcripts, server)


@pytest.fixture(scope="module")
def server() -> Iterator[EndpointServer]:
    with SMALL.server("", 0, Path()) as running:
        yield running


@pytest.fixture
def failing(server: EndpointServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Return what runs a scenario in which no workflow succeeds against the model's server."""

    def run(api_key: str, *settings: str, code: int = 1) -> Records:
        scenario, directory = tmp_path / "failing.toml", tmp_path / "run"
        scenario.write_text(
            'name = "failing"\nworkflow.topics = "tides"\nload.warmup_calls = 0\n'
            '[endpoint]\nkind = "openai"\n'
            f'base_url = "{server.base_url}"\nmodel = "any"\napi_key_env = "THE_KEY"\n'
        )
        monkeypatch.setenv("THE_KEY", api_key)
        overrides = [part for setting in settings for part in ("--set", setting)]
        arguments = ["run", str(scenario), "--out", str(directory), "--quiet", *overrides]
        assert main(arguments) == code
        return read_records(directory)

    return run


def test_the_shipped_scenario_compares_sync_threads_and_async() -> None:
    assert set(load_scenario(find("local-llm")).sweep.mode) == set(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_the_workflow_decomposes_fans_out_and_synthesizes(finished: Finished, mode: str) -> None:
    [workflow] = _of(mode, finished.records.workflows)
    assert (workflow.outcome, workflow.error) == ("ok", None)
    assert [(phase.name, phase.outcome) for phase in workflow.phases] == [
        ("decompose", "ok"), ("fan_out", "ok"), ("synthesize", "ok"),
    ]  # fmt: skip
    assert (workflow.branches.total, workflow.branches.ok) == (3, 3)


@pytest.mark.parametrize("mode", MODES)
def test_records_are_complete_and_in_order(finished: Finished, mode: str) -> None:
    attempts = _of(mode, finished.records.attempts)
    calls = _of(mode, finished.records.calls)
    assert sorted(map(_branch, calls)) == [
        ("decompose", -1), ("fan_out", 0), ("fan_out", 1), ("fan_out", 2), ("synthesize", -1),
    ]  # fmt: skip
    assert sorted(attempt.call_key for attempt in attempts if attempt.outcome == "ok") == sorted(
        call.call_key for call in calls
    )
    assert {call.outcome for call in calls} == {"ok"}
    for attempt in attempts:
        assert attempt.sent is not None
        assert attempt.headers is not None
        assert attempt.first_answer is not None
        assert attempt.last_token is not None
        assert attempt.ready <= attempt.permit_granted <= attempt.sent <= attempt.headers
        assert attempt.headers <= attempt.first_answer <= attempt.last_token <= attempt.done
        assert (attempt.status, attempt.finish_reason) == (200, "stop")
        assert attempt.chunks > 1
        assert sum(attempt.gaps.values()) == attempt.chunks - 1
        assert attempt.tokens.input
        assert attempt.tokens.output
        assert attempt.tokens.output >= attempt.chunks - 1


@pytest.mark.parametrize("mode", MODES)
def test_reasoning_and_answer_are_apart(finished: Finished, mode: str) -> None:
    transcripts = _of(mode, finished.transcripts)
    assert len(transcripts) == 5
    for transcript in transcripts:
        assert transcript.outcome == "ok"
        assert transcript.answer.strip()
        assert "think>" not in transcript.reasoning + transcript.answer
        assert [message.role for message in transcript.messages] == ["system", "user"]
        # Only where thinking was switched off is there none.
        assert bool(transcript.reasoning.strip()) == (transcript.phase != "decompose")
    thoughtful = [a for a in _of(mode, finished.records.attempts) if a.phase != "decompose"]
    for attempt in thoughtful:
        assert attempt.first_reasoning is not None
        assert attempt.first_answer is not None
        assert attempt.first_reasoning < attempt.first_answer


@pytest.mark.parametrize("mode", MODES)
def test_what_was_found_goes_into_the_synthesis(finished: Finished, mode: str) -> None:
    transcripts = {(t.phase, t.branch): t for t in _of(mode, finished.transcripts)}
    asked = transcripts["synthesize", None].messages[-1].content
    for branch in range(3):
        assert transcripts["fan_out", branch].answer in asked


def test_the_run_is_complete_and_not_simulated(finished: Finished) -> None:
    described = finished.records.run
    assert finished.code == 0
    assert described.status == "complete"
    assert not described.simulated
    assert described.time_scale == 1
    assert set(PACKAGES) <= set(described.versions)
    assert finished.records.provider is None


def test_the_server_is_gone_when_the_run_has_ended(finished: Finished) -> None:
    assert not _listens(finished.server.base_url)


def test_the_key_is_in_no_file_of_the_run(finished: Finished) -> None:
    files = [path for path in finished.directory.rglob("*") if path.is_file()]
    key = finished.server.api_key.encode()
    assert len(files) > 5
    assert len(key) > 30
    assert [path for path in files if key in path.read_bytes()] == []


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_key_is_unauthorized_and_ends_the_run(
    failing: Failing, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    records = failing("not-the-key", f"sweep.mode={mode}", code=2)
    [attempt] = records.attempts
    assert (attempt.outcome, attempt.status) == ("unauthorized", 401)
    shown = capsys.readouterr().err
    assert "check the API key (THE_KEY)" in shown
    assert "not-the-key" not in shown


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_beyond_the_context_is_a_bad_request_and_ends_the_run(
    failing: Failing, server: EndpointServer, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    topic = "tides " * SMALL.context
    records = failing(server.api_key, f"sweep.mode={mode}", f"workflow.topics={topic}", code=2)
    [attempt] = records.attempts
    assert (attempt.outcome, attempt.status) == ("bad_request", 400)
    assert "exceeds the available context size" in capsys.readouterr().err


@pytest.mark.parametrize("mode", MODES)
def test_a_token_limit_that_is_too_small_truncates(
    failing: Failing, server: EndpointServer, mode: str
) -> None:
    limit = "workflow.max_tokens.decompose=3"
    records = failing(server.api_key, f"sweep.mode={mode}", limit)
    [attempt] = records.attempts
    assert (attempt.outcome, attempt.finish_reason) == ("truncated", "length")
    assert attempt.tokens.output == 3


def test_the_server_ends_with_the_run_however_that_ends() -> None:
    script = (
        "from pathlib import Path\n"
        "from harness.endpoints.local_llm import LocalLLMEndpoint\n"
        "endpoint = LocalLLMEndpoint(kind='local-llm', context=512, parallel=1)\n"
        "with endpoint.server('', 0, Path()) as server:\n"
        "    print(server.base_url, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        base_url = parent.stdout.readline().strip()
        assert _listens(base_url)
        parent.kill()
    patience = time.monotonic() + 60
    while _listens(base_url):
        assert time.monotonic() < patience, "the server outlives the run"


def _of(mode: str, records: Sequence[Any]) -> list[Any]:
    return [record for record in records if record.cell.startswith(f"{mode}_")]


def _branch(record: Any) -> tuple[str, int]:
    return record.phase, -1 if record.branch is None else record.branch


def _listens(base_url: str) -> bool:
    url = urlsplit(base_url)
    try:
        socket.create_connection((url.hostname or "", url.port or 0), timeout=5).close()
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:  # it is just about to end
        return True
    return True
