"""Runs against servers that want more, or less, than a plain request."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.store.run_directory import read_records
from tests.cli.answering import KEY, one_line, scenario
from tests.cli.picky import Answer, Asked, picky, refused
from tests.wire.clients import CERTIFICATE

pytestmark = pytest.mark.usefixtures("elsewhere")


def endpoint(base_url: str, **keys: object) -> dict[str, object]:
    return {"kind": "openai", "base_url": base_url, "model": "m", **keys}


SETTINGS: dict[str, object] = {
    "api_key_env": "OWN_KEY",
    "auth": "header:api-key",
    "headers": {"x-tenant": "env:TENANT"},
    "query": {"api-version": "2026-01-01"},
    "omit": ["stream_options"],
    "rename": {"max_tokens": "max_completion_tokens"},
    "system": "user",
    "follow_redirects": True,
    "wait_ready": "20s",
    "price": {"input": 1.0, "output": 2.0},
}


@pytest.mark.parametrize("mode", ["sync", "threads", "async"])
def test_a_gateway_that_wants_its_own_requests_is_measured(
    elsewhere: Path,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Everything at once, with budgets of tokens and money."""
    monkeypatch.setenv("TENANT", "tenant-secret-1")

    def answer(asked: Asked) -> Answer:
        wanted = {"api-key": KEY, "x-tenant": "tenant-secret-1"}
        if any(asked.headers.get(name) != value for name, value in wanted.items()):
            return refused(401, "who?")
        if "authorization" in asked.headers or asked.query != {"api-version": "2026-01-01"}:
            return refused(400, "not so")
        if asked.method == "GET":
            return Answer(200, {}, b"{}")
        roles = {message["role"] for message in asked.body["messages"]}
        if {"stream_options", "max_tokens"} & asked.body.keys() or "system" in roles:
            return refused(422, "unknown key")
        if not asked.path.endswith("/"):
            return Answer(307, {"location": f"{asked.path}/?api-version=2026-01-01"}, b"")
        return Answer()

    with picky(answer) as server:
        budget = {"tokens": 10**6, "usd": 9.0, "attempts": 99}
        own = endpoint(server.base_url, **SETTINGS)
        file = scenario(elsewhere, "", endpoint=own, budget=budget, sweep={"mode": [mode]})
        assert main(["run", str(file), "--out", "out", "--yes"]) == 0
        limits = {asked.body["max_completion_tokens"] for asked in server.asked if asked.body}
    assert limits == {4000}
    records = read_records(elsewhere / "out")
    assert {attempt.outcome for attempt in records.attempts} == {"ok"}
    assert not any(b"tenant-secret" in path.read_bytes() for path in elsewhere.rglob("*.*"))
    assert main(["report", "out", "--verbose"]) == 0
    said = capsys.readouterr()
    assert 'os.environ["TENANT"]' in said.out
    assert "tenant-secret" not in said.out + said.err


def test_a_variable_that_a_header_names_has_to_be_set(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = endpoint("http://127.0.0.1:9/v1", headers={"x-tenant": "env:NOT_SET_ANYWHERE"})
    assert main(["run", str(scenario(elsewhere, "", endpoint=own)), "--out", "out"]) == 2
    assert "NOT_SET_ANYWHERE: not set" in one_line(capsys.readouterr().err)
    assert not (elsewhere / "out").exists()


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.mark.parametrize("mode", ["sync", "threads", "async"])
def test_a_certificate_of_one_s_own_is_trusted_or_not_checked(
    elsewhere: Path, mode: str, tls: ssl.SSLContext, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = "certificate was not checked"
    with picky(lambda _: Answer(), tls) as server:
        trust: dict[str, dict[str, object]] = {
            "ca": {"ca_file": str(CERTIFICATE)},
            "no": {"verify": False},
        }
        for name, keys in trust.items():
            own = endpoint(server.base_url, **keys)
            file = scenario(elsewhere, "", endpoint=own, sweep={"mode": [mode]})
            assert main(["run", str(file), "--out", name, "--yes"]) == 0
            shown = " ".join(capsys.readouterr().out.split())
            assert (warning in shown) == (name == "no")
            assert (warning in (elsewhere / name / "report.html").read_text()) == (name == "no")
    assert main(["report", "no", "--verbose"]) == 0
    assert warning in " ".join(capsys.readouterr().out.split())
