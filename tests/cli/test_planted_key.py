"""A server that repeats the key in every text brings it into no file and no output."""

from __future__ import annotations

import base64
import itertools
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.cli.main import main
from harness.store.run_directory import read_records, read_transcripts
from tests.cli.answering import scenario
from tests.cli.picky import Answer, Asked, echoed, picky

pytestmark = pytest.mark.usefixtures("elsewhere")

SECRET = "sk-or/v1+planted9c0de1b2planted=="
"""Its URL-encoded form is another one."""


def traces_of_key() -> list[bytes]:
    """The key in all forms, as far as each does not depend on what stands around it."""
    found = [b"planted9c0de1b2", quote(SECRET, safe="").encode()[:16]]
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + SECRET.encode())
        found += [encoded[4:28], encoded[8:32]]
    return found


def holding_key(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        str(path)
        for path in files
        for content in [path.read_bytes()]
        if any(trace in content for trace in traces_of_key())
    ]


@pytest.mark.parametrize("mode", ["sync", "threads", "async"])
def test_a_key_that_is_repeated_everywhere_is_nowhere(
    elsewhere: Path,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OWN_KEY", SECRET)
    numbers = itertools.count()
    with picky(lambda asked: echoed(asked, next(numbers))) as server:
        file = scenario(
            elsewhere,
            server.base_url,
            transcripts=True,
            sweep={"mode": [mode], "permits": [2], "retry": ["patient"]},
            retry={"patient": {"kind": "fixed", "attempts": 4, "delay": "1ms"}},
        )
        arguments = ["--out", "out", "--yes", "--verbose", "--log-level", "debug"]
        assert main(["run", str(file), *arguments]) in (0, 1)
        assert all(SECRET in asked.headers["authorization"] for asked in server.asked)
    records, transcripts = read_records(elsewhere / "out"), read_transcripts(elsewhere / "out")[0]
    seen = {attempt.outcome for attempt in records.attempts}
    assert {"ok", "server_error", "unknown_finish", "error_in_stream", "http_error"} <= seen
    for name in ("request_id", "response_id", "response_model", "finish_reason", "error_body"):
        texts = {str(getattr(attempt, name)) for attempt in records.attempts}
        assert any("[redacted]" in text for text in texts), name
    assert any("[redacted]" in str(attempt.location) for attempt in records.attempts)
    assert any("[redacted]" in one.answer for one in transcripts)
    assert main(["export", "out", "--out", "exported"]) == 0
    assert main(["trace", "out", "--failed"]) == 0
    told = capsys.readouterr()
    assert holding_key(elsewhere) == []
    said = (told.out + told.err).encode()
    assert not any(trace in said for trace in traces_of_key())


def test_the_search_finds_a_planted_key(tmp_path: Path) -> None:
    for number, text in enumerate((SECRET, quote(SECRET, safe=""))):
        (tmp_path / str(number)).write_text(f"x {text} y")
    for before in range(3):
        encoded = base64.b64encode(b"u" * before + SECRET.encode() + b"!").decode()
        (tmp_path / f"b{before}").write_text(f"x {encoded} y")
    assert len(holding_key(tmp_path)) == 5


def test_bodies_are_not_kept_where_the_scenario_says_so(elsewhere: Path) -> None:
    def answer(asked: Asked) -> Answer:
        return echoed(asked, 1)

    with picky(answer) as server:
        file = scenario(elsewhere, server.base_url, keep_error_bodies=False)
        assert main(["run", str(file), "--out", "out", "--yes", "--quiet"]) == 1
    attempts = read_records(elsewhere / "out").attempts
    assert {(attempt.outcome, attempt.error_body) for attempt in attempts} == {
        ("server_error", None)
    }
