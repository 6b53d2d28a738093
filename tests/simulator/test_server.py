"""The provider as a process: how it starts, and every way in which it ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from harness.records.errors import InputError
from harness.records.provider_log import ProviderHead, Served
from harness.simulator.profiles import load_profile
from harness.simulator.server import serve

SCRIPT = """
import resource, sys
sys.dont_write_bytecode = True  # Python would save code that is cut off at the limit
from pathlib import Path
from harness.records.errors import StorageError
from harness.simulator.profiles import load_profile
from harness.simulator.server import serve

log, most, of_a_run = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    serve(
        load_profile("streams", {"ttft.median": "24h"}),
        seed=5, time_scale=0.5, log=log, until_stdin_closes=of_a_run,
        ready=lambda url: print(url, flush=True),
    )
except StorageError as error:
    sys.exit(str(error))
"""
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True})


@contextmanager
def process(
    log: Path, most: int = 0, *, of_a_run: bool = True
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a provider; gives it and the host and port where it serves."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(log), str(most), str(of_a_run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            url = running.stdout.readline().strip()
            assert url.endswith("/v1")
            yield running, urllib.parse.urlsplit(url).netloc
        finally:
            running.kill()


def ended(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the exit code and what else was printed."""
    out, err = running.communicate(timeout=30)
    return running.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_with_the_log_complete(tmp_path: Path, number: int) -> None:
    log = tmp_path / "provider.jsonl"
    with process(log) as (running, where), closing(http.client.HTTPConnection(where)) as client:
        client.request("POST", "/v1/chat/completions", BODY)
        assert client.getresponse().status == 200
        running.send_signal(number)
        assert ended(running) == (0, "", "")
    head, line = log.read_bytes().splitlines()
    assert msgspec.json.decode(line, type=Served).outcome == "server_stopped"
    told = msgspec.json.decode(head, type=ProviderHead)
    assert (told.seed, told.time_scale) == (5, 0.5)
    assert told.profile["name"] == "streams"


def test_it_ends_when_its_standard_input_does(tmp_path: Path) -> None:
    with process(tmp_path / "provider.jsonl") as (running, _):
        assert running.stdin is not None
        running.stdin.write("something that is not the end\n")
        running.stdin.flush()
        assert ended(running) == (0, "", "")  # closes its input


def test_a_log_that_cannot_be_written_any_more_ends_it_with_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "provider.jsonl"
    with process(log) as (running, _):
        ended(running)
    most = log.stat().st_size
    with (
        process(log, most, of_a_run=False) as (running, where),
        closing(http.client.HTTPConnection(where)) as client,
    ):
        client.request("POST", "/v1/chat/completions", "{")
        client.getresponse().read()
        code, _, err = ended(running)
    assert code == 1
    assert "provider.jsonl: cannot be written (File too large); make room" in err


def test_the_server_of_a_run_goes_on_without_its_log(tmp_path: Path) -> None:
    """The run's own records fill the same disk: it is the run that says so, once."""
    log = tmp_path / "provider.jsonl"
    with process(log) as (running, _):
        ended(running)
    most = log.stat().st_size
    with process(log, most) as (running, where):
        for _ in range(2):
            with closing(http.client.HTTPConnection(where)) as client:
                client.request("POST", "/v1/chat/completions", "{")
                assert client.getresponse().status == 400
        assert ended(running) == (0, "", "")
    assert log.stat().st_size == most


def never(url: str) -> None:
    raise AssertionError(f"served at {url}")


def test_a_port_that_is_taken_is_said_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port}: cannot listen .*another port"):
            serve(load_profile("streams"), port=port, log=None, ready=never)


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", 70000), ("203.0.113.1", 0), ("label" * 20, 0)],  # the second: RFC 5737
)
def test_an_address_that_is_none_is_said_with_the_way_out(host: str, port: int) -> None:
    with pytest.raises(InputError, match=f"{host}:{port}: .*; (choose another|use 127)"):
        serve(load_profile("streams"), host=host, port=port, log=None, ready=never)


def test_a_log_that_cannot_be_made_is_said_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "provider.jsonl"
    with pytest.raises(InputError, match=r"cannot be written .*name a file in a directory"):
        serve(load_profile("streams"), log=path, ready=never)
