"""The keys of an endpoint that the run does not start: what is refused, and what is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.config.request_settings import RequestSettings, Secrets
from harness.endpoints.readiness import Clock, wait_until_ready
from harness.records.errors import InputError, PreflightError
from tests.wire.fault_server import FaultServer, Seen, Step, Write

HEAD = """\
name = "s"
[workflow]
topics = ["tides"]
max_tokens = { decompose = 9, research = 9, synthesize = 9 }
[endpoint]
kind = "openai"
base_url = "https://api.test/v1"
model = "m"
"""


def parsed(more: str, folder: Path = Path()) -> Scenario:
    return parse_scenario(HEAD + more, "file.toml", folder=folder)


def refusal(more: str) -> str:
    with pytest.raises(InputError) as caught:
        parsed(more)
    [line] = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("more", "key", "way_out"),
    [
        ('headers = { Authorization = "x" }', "headers.Authorization", "use api_key_env and auth"),
        ('headers = { x-api-key = "abc" }', "headers.x-api-key", "env:ITS_NAME"),
        ('headers = { X-Who = "Bearer abc" }', "headers.X-Who", "env:ITS_NAME"),
        ('headers = { "a b" = "c" }', "headers", "correct it"),
        ('headers = { a = "env:1x" }', "headers.a", "env:MY_KEY"),
        ('headers = { a = "line\\nbreak" }', "headers.a", "printable ASCII"),
        ('headers = { a = "1", A = "2" }', "headers", "same header twice"),
        ('query = { code = "abc" }', "query.code", "env:ITS_NAME"),
        ('auth = "basic"', "auth = 'basic'", "'bearer', 'header:NAME' or 'none'"),
        ('auth = "header:"', "auth = 'header:'", "'bearer', 'header:NAME' or 'none'"),
        ('auth = "header:api-key"', "auth", "name its environment variable"),
        ('auth = "none"\napi_key_env = "K"', "auth", "remove one"),
        ('omit = ["messages"]', "omit", "which every request needs"),
        ('omit = ["stream"]', "omit", "set endpoint.stream = false"),
        ('rename = { stream = "s" }', "rename.stream", "remove it"),
        ('rename = { a = "c", b = "c" }', "rename", "same name"),
        ('omit = ["a"]\nrename = { a = "b" }', "rename.a", "remove one"),
        ('ca_file = "ca.pem"\nverify = false', "ca_file", "remove one"),
        ('system = "drop"', "system", "'message'"),
        ('omit = ["max_tokens"]\n[budget]\ntokens = 9', "budget.tokens", "rename it instead"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_one_line(more: str, key: str, way_out: str) -> None:
    said = refusal(more)
    assert said.startswith(f"file.toml: {'' if key.startswith('budget') else 'endpoint.'}{key}")
    assert way_out in said
    assert "abc" not in said


def test_a_renamed_limit_keeps_the_budget() -> None:
    read = parsed('rename = { max_tokens = "max_completion_tokens" }\n[budget]\ntokens = 9')
    assert read.endpoint.facts.request.rename == {"max_tokens": "max_completion_tokens"}


def test_a_file_of_certificates_is_in_the_folder_of_the_scenario(tmp_path: Path) -> None:
    read = parsed('ca_file = "ca.pem"', tmp_path)
    assert read.endpoint.facts.request.ca_file == str(tmp_path / "ca.pem")
    typed = parse_scenario(HEAD, "f", ["endpoint.ca_file=ca.pem"], tmp_path)
    assert typed.endpoint.facts.request.ca_file == "ca.pem"


def test_secrets_are_named_in_the_settings_and_taken_from_the_environment() -> None:
    request = parsed('headers = { x-key = "env:A", y = "z" }\nquery = { sig = "env:B" }')
    settings = request.endpoint.facts.request
    assert settings.variables == ("A", "B")
    filled = settings.with_values({"A": "secret-1", "B": "secret-2"})
    assert filled.headers == {"x-key": "secret-1", "y": "z"}
    assert filled.query == {"sig": "secret-2"}
    assert "secret-1" not in str(request.as_dict())


# Waiting.


class Jumps:
    """A clock that jumps instead of sleeping."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    @property
    def clock(self) -> Clock:
        return Clock(self.now, self.sleep)


def status(code: int) -> list[Step]:
    return [Write(f"HTTP/1.1 {code} So\r\ncontent-length: 0\r\n\r\n".encode())]


@contextmanager
def answering(*statuses: int) -> Iterator[FaultServer]:
    left, lock = list(statuses), threading.Lock()

    def answer(_: Seen) -> list[Step]:
        with lock:
            return status(left.pop(0) if len(left) > 1 else left[0])

    with FaultServer(answer) as server:
        yield server


@pytest.mark.parametrize("last", [200, 401, 404, 500])
def test_a_server_that_starts_is_asked_until_it_answers(last: int) -> None:
    jumps, said = Jumps(), list[str]()
    settings = RequestSettings(auth="header:api-key", headers={"x": "y"}, query={"v": "1"})
    with answering(503, 502, 425, last) as server:
        wait_until_ready(server.base_url, settings, "sk", 60, said.append, jumps.clock)
        seen = server.seen[-1]
        assert len(server.seen) == 4
    assert seen.head.startswith(b"GET /v1/models?v=1 HTTP/1.1\r\n")
    assert (seen.header("api-key"), seen.header("authorization")) == ("sk", None)
    assert seen.header("x") == "y"
    assert said == [f"{server.base_url} is not ready (status 503); waiting up to 60 s"]


def test_a_server_that_does_not_start_is_one_line() -> None:
    jumps = Jumps()
    url = "http://127.0.0.1:9/v1"
    with pytest.raises(PreflightError) as caught:
        wait_until_ready(url, RequestSettings(), "none", 3, lambda _: None, jumps.clock)
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"{url}: not ready within endpoint.wait_ready = 3 s (")
    assert jumps.time <= 3


def test_without_the_key_nothing_is_waited_for() -> None:
    parsed("").endpoint.wait(Secrets("none"), lambda _: pytest.fail("said something"))
