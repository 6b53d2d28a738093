"""Keys: where they come from, that they are never shown, and what a wrong one does."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.store.run_directory import read_records, read_transcripts
from tests.cli.answering import KEY, Refusing, one_line, refusing, scenario, working

pytestmark = pytest.mark.usefixtures("elsewhere")


# The key.


def test_the_key_is_taken_from_a_file_in_the_current_folder(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OWN_KEY")
    (elsewhere / ".env").write_text("export OWN_KEY='from-the-file'\n")
    with refusing(401) as refuser:
        assert main(["run", str(scenario(elsewhere, refuser.base_url)), "--out", "out"]) == 2
    assert set(refuser.keys) == {"Bearer from-the-file"}


def test_the_environment_goes_before_the_file(elsewhere: Path) -> None:
    (elsewhere / ".env").write_text("OWN_KEY=from-the-file\n")
    with refusing(401) as refuser:
        assert main(["run", str(scenario(elsewhere, refuser.base_url)), "--out", "out"]) == 2
    assert set(refuser.keys) == {f"Bearer {KEY}"}


def test_a_missing_key_and_a_broken_file_are_one_line(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OWN_KEY")
    file = scenario(elsewhere, "http://127.0.0.1:9")
    assert main(["run", str(file)]) == 2
    assert "OWN_KEY: not set" in one_line(capsys.readouterr().err)
    (elsewhere / ".env").write_text("sk-secret\n")
    assert main(["run", str(file)]) == 2
    said = one_line(capsys.readouterr().err)
    assert ".env:1:" in said
    assert "secret" not in said


def holds_key(folder: Path) -> list[Path]:
    """Return the files that hold the planted key, whole or in its telling part."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if b"plantedkey" in path.read_bytes()]


@pytest.mark.parametrize("mode", ["sync", "threads", "async"])
def test_the_key_stands_in_no_output_and_no_file_of_a_run(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    with working(elsewhere) as base_url:
        file = scenario(elsewhere, base_url, transcripts=True, sweep={"mode": [mode]})
        assert main(["run", str(file), "--out", "out"]) == 0
    told = capsys.readouterr()
    assert "plantedkey" not in told.out + told.err
    assert holds_key(elsewhere) == []


@pytest.mark.parametrize(
    ("status", "mode"), [(400, "async"), (401, "threads"), (500, "sync"), (500, "async")]
)
def test_not_even_a_server_that_repeats_the_key_brings_it_into_a_file(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], status: int, mode: str
) -> None:
    with refusing(status) as refuser:
        file = scenario(elsewhere, refuser.base_url, transcripts=True, sweep={"mode": [mode]})
        assert main(["run", str(file), "--out", "out"]) in (1, 2)
        assert refuser.keys[0] == f"Bearer {KEY}"
    told = capsys.readouterr()
    assert "plantedkey" not in told.out + told.err
    assert holds_key(elsewhere) == []


# The first answer.


def refused(folder: Path, refuser: Refusing, mode: str) -> int:
    file = scenario(folder, refuser.base_url, sweep={"mode": [mode], "permits": [4]})
    return main(["run", str(file), "--out", "out"])


@pytest.mark.parametrize(
    ("status", "way_out", "mode"),
    [
        (401, "check the API key (OWN_KEY)", "async"),
        (401, "check the API key (OWN_KEY)", "threads"),
        (401, "check the API key (OWN_KEY)", "sync"),
        (402, "top up the account", "async"),
        (403, "the key may not use this model", "async"),
        (404, "check base_url and model", "async"),
    ],
)
def test_a_hopeless_first_answer_is_one_line_and_one_attempt(
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    status: int,
    way_out: str,
    mode: str,
) -> None:
    with refusing(status) as refuser:
        assert refused(elsewhere, refuser, mode) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert str(status) in said
    assert way_out in said
    assert "Traceback" not in said
    records = read_records(elsewhere / "out")
    assert [attempt.status for attempt in records.attempts] == [status]
    assert not records.calls
    assert not records.workflows
    assert records.run.status == "partial"
    assert records.run.stopped is not None
    assert records.run.stopped.by == "first_call"


def test_a_run_that_goes_on_with_a_key_that_is_wrong_still_ends_at_its_first_answer(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with refusing(401) as refuser:
        assert refused(elsewhere, refuser, "async") == 2
        assert main(["run", "--resume", "out", "--yes", "--quiet"]) == 2
    assert "check the API key (OWN_KEY)" in capsys.readouterr().err.splitlines()[-1]
    records = read_records(elsewhere / "out")
    assert [attempt.status for attempt in records.attempts] == [401, 401]
    assert [attempt.execution for attempt in records.attempts] == [0, 1]


def test_the_log_has_lines_and_no_key_prompt_or_answer(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with working(elsewhere) as base_url:
        file = scenario(elsewhere, base_url, transcripts=True)
        command = ["run", str(file), "--out", "out", "--yes", "--quiet", "--log-level", "debug"]
        assert main(command) == 0
    said = capsys.readouterr().err
    records = read_records(elsewhere / "out")
    lines = [line for line in said.splitlines() if " DEBUG " in line or " INFO " in line]
    assert len(lines) >= len(records.attempts) + len(records.calls)
    assert "plantedkey" not in said
    assert "tides" not in said
    answers = [one.answer for one in read_transcripts(elsewhere / "out")[0] if one.answer]
    assert answers
    assert not any(answer[:40] in said for answer in answers)
