"""What must hold before the first record; each failure is one line that says the way out."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.bench.preflight import require_free, run_directory, secrets
from harness.bench.scenario import Scenario
from harness.bench.scenario_file import parse_scenario
from harness.config.request_settings import Secrets
from harness.records.errors import PreflightError
from tests.bench.examples import HEAD, LIVE


def live(base_url: str = "http://127.0.0.1:9/v1", more: str = "") -> Scenario:
    return parse_scenario(LIVE.replace("https://api.test/v1", base_url) + more, "file.toml")


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(PreflightError) as caught:
        act()
    [line] = str(caught.value).splitlines()
    return line


# The directory.


def test_a_run_gets_a_new_directory_named_after_the_time_and_the_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = run_directory("tides", None)
    assert re.fullmatch(r"results/\d{8}T\d{6}Z-tides", str(directory))
    assert list(directory.iterdir()) == []


def test_a_directory_that_was_asked_for_may_exist_when_it_is_empty(tmp_path: Path) -> None:
    assert run_directory("tides", str(tmp_path)) == tmp_path
    assert run_directory("tides", str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    said = refusal(lambda: run_directory("tides", str(tmp_path)))
    assert said == f"{tmp_path}: not empty; name a new directory with --out"


def test_a_directory_is_refused_before_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    said = refusal(lambda: require_free(str(tmp_path)))
    assert said == f"{tmp_path}: not empty; name a new directory with --out"
    for free in (None, str(tmp_path / "new"), str(tmp_path / "run.json" / "x"), "\0"):
        require_free(free)
    assert not (tmp_path / "new").exists()


def test_two_runs_in_one_second_do_not_share_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    results.mkdir()
    monkeypatch.setattr("harness.bench.preflight.datetime", _Clock)
    first = run_directory("tides", None)
    said = refusal(lambda: run_directory("tides", None))
    assert said == f"{first}: exists already; name another with --out"


class _Clock:
    """A clock that stands still."""

    @classmethod
    def now(cls, zone: object) -> _Clock:
        return cls()

    def strftime(self, form: str) -> str:
        return "20261123T120000Z"


def test_a_file_in_the_way_of_the_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.write_text("")
    assert refusal(lambda: run_directory("tides", str(path))) == (
        f"{path}: exists already; name another with --out"
    )
    assert refusal(lambda: run_directory("tides", str(path / "below"))) == (
        f"{path / 'below'}: cannot be written (Not a directory); name another with --out"
    )


def test_a_directory_that_cannot_be_written_to_is_named() -> None:
    assert refusal(lambda: run_directory("tides", "/proc/here")).startswith(
        "/proc/here: cannot be written ("
    )


# The key.


def test_the_key_is_read_from_the_variable_that_the_scenario_names() -> None:
    named = live(more='api_key_env = "SOME_KEY"\n')
    assert secrets(named, {"SOME_KEY": " sk-0123\n", "OTHER": "x"}) == Secrets("sk-0123")


def test_endpoints_that_want_no_key_get_a_placeholder() -> None:
    assert secrets(live(), {"OPENAI_API_KEY": "sk-0123"}) == Secrets("none")
    assert secrets(parse_scenario(HEAD, "file.toml"), {"OPENAI_API_KEY": "sk-0123"}) == Secrets(
        "none"
    )


@pytest.mark.parametrize("environment", [{}, {"SOME_KEY": ""}, {"SOME_KEY": "  \n"}])
def test_a_key_that_is_not_there_is_asked_for_by_its_name(environment: dict[str, str]) -> None:
    named = live(more='api_key_env = "SOME_KEY"\n')
    assert refusal(lambda: secrets(named, environment)) == (
        "SOME_KEY: not set; put the API key into this environment variable or .env"
    )


@pytest.mark.parametrize("key", ["sk-\n0123", "sk-0123…", "sk\x000123", "sk-\t0123"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    named = live(more='api_key_env = "SOME_KEY"\n')
    said = refusal(lambda: secrets(named, {"SOME_KEY": key}))
    assert said == "SOME_KEY: has characters that no header can carry; set the key anew"


# The endpoint.


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_an_endpoint_that_listens_gets_one_connection_and_no_byte(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    live(f"http://127.0.0.1:{port}/v1").endpoint.check()
    connection, _ = listener.accept()
    with connection:
        assert connection.recv(1) == b""


def test_an_endpoint_where_nobody_listens_is_named_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert refusal(lambda: live(f"http://127.0.0.1:{port}/v1").endpoint.check()) == (
        f"127.0.0.1:{port}: cannot be reached (Connection refused); check endpoint.base_url, "
        "or skip this check with --no-preflight"
    )


@pytest.mark.parametrize(
    ("base_url", "host", "port"),
    [("http://api.test/v1", "api.test", 80), ("https://api.test", "api.test", 443)],
)
def test_the_port_follows_from_the_scheme_when_the_url_has_none(
    base_url: str, host: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append(address)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)
    said = refusal(lambda: live(base_url).endpoint.check())
    assert tried == [(host, port)]
    assert said.startswith(f"{host}:{port}: cannot be reached (timed out); check")


def test_a_host_name_that_is_none_cannot_be_reached() -> None:
    label = "x" * 64
    said = refusal(lambda: live(f"http://{label}.test/v1").endpoint.check())
    assert said.startswith(f"{label}.test:80: cannot be reached (")


def test_the_simulated_provider_needs_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("nothing to connect to")

    monkeypatch.setattr(socket, "create_connection", connect)
    parse_scenario(HEAD, "file.toml").endpoint.check()
