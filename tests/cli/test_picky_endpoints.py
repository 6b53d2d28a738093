"""Runs against servers that want more, or less, than a plain request."""

from __future__ import annotations

import itertools
import ssl
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.store.run_directory import read_records
from tests.cli.answering import KEY, one_line, scenario
from tests.cli.picky import Answer, Asked, picky, refused, whole_or_stream
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


# What the server says.


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        (
            refused(400, "maximum context length is 1024 tokens, you requested 4007"),
            "bad_request",
            ["400 (bad_request) on the first call", "1024 tokens, you requested 4007"],
        ),
        (refused(413, "too big"), "payload_too_large", ["too big", "shorten prompts"]),
        (
            Answer(429, {}, b'{"error": {"message": "pay", "code": "insufficient_quota"}}'),
            "quota_exhausted",
            ["429 (quota_exhausted) on the first call", "the server says: pay", "used up"],
        ),
        (
            Answer(308, {"location": "https://new.test/v1"}, b""),
            "http_error",
            ["308", "it redirects to https://new.test/v1", "check base_url"],
        ),
        (refused(422, "no\nstream_options\x1b[1m"), "unprocessable", ["no stream_options\\x1b[1m"]),
    ],
)
def test_a_first_refusal_is_one_line_with_what_the_server_said(
    elsewhere: Path,
    answer: Answer,
    outcome: str,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with picky(lambda _: answer) as server:
        own = endpoint(server.base_url)
        assert main(["run", str(scenario(elsewhere, "", endpoint=own)), "--out", "out"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert all(word in said for word in words), said
    assert [one.outcome for one in read_records(elsewhere / "out").attempts] == [outcome]


def test_a_certificate_that_is_not_trusted_ends_the_run_at_the_first_call(
    elsewhere: Path, tls: ssl.SSLContext, capsys: pytest.CaptureFixture[str]
) -> None:
    with picky(lambda _: Answer(), tls) as server, picky(lambda _: Answer()) as plain:
        other = plain.base_url.replace("http:", "https:")
        for url, outcome in ((server.base_url, "certificate_error"), (other, "wrong_protocol")):
            for mode in ("sync", "async"):
                own, out = endpoint(url), f"{outcome}-{mode}"
                file = scenario(elsewhere, "", endpoint=own, sweep={"mode": [mode]})
                assert main(["run", str(file), "--out", out]) == 2, out
                assert f"{outcome} on the first call" in capsys.readouterr().err.splitlines()[-1]


def test_later_refusals_and_another_model_are_in_the_results(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = itertools.count()

    def answer(asked: Asked) -> Answer:
        number = next(numbers)
        if number % 5 == 4:
            return refused(400, "content <b>policy</b> violated")
        kind, body = whole_or_stream(asked, {"model": f"m-{number % 2}"})
        return Answer(200, {"content-type": kind}, body)

    with picky(answer) as server:
        file = scenario(elsewhere, "", endpoint=endpoint(server.base_url))
        assert main(["run", str(file), "--out", "out", "--verbose"]) in (0, 1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "server: content <b>policy</b> violated" in shown
    assert "requests for m were answered by m-" in shown
    page = (elsewhere / "out" / "report.html").read_text()
    assert "content &lt;b&gt;policy" in page
    assert "<b>policy" not in page
