"""A run of many planned calls in virtual time makes no traces; its records can make them later."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bench.virtual import Played
from harness.cli.main import main
from tests.telemetry.otlp import Receiver, receiving, spans_in
from tests.telemetry.test_export import spans_made

SCENARIO = """
name = "many-calls"
seed = 3
[workflow]
topics = ["tides"]
sub_questions = 3
[endpoint]
profile = "plain-chat"
time = "virtual"
[load]
workflows = 4
[sweep]
permits = [2, 4]
repeats = 2
"""
CALLS = 4 * (1 + 3 + 1) * 2 * 2


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    return path


def set_limit(calls: int, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("harness.cli.execute.MOST_TRACED_CALLS", calls)


def test_a_run_of_as_many_calls_as_are_allowed_makes_traces(
    scenario: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_limit(CALLS, monkeypatch)
    assert main(["run", str(scenario), "--out", str(tmp_path / "out")]) == 0
    assert spans_made(tmp_path / "out")
    assert "no traces" not in capsys.readouterr().err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_run_of_more_calls_makes_none_and_decodes_no_record_for_them(
    scenario: Path,
    tmp_path: Path,
    jobs: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(_: Played) -> None:
        raise AssertionError("the records were decoded")

    set_limit(CALLS - 1, monkeypatch)
    monkeypatch.setattr(Played, "records", refuse)
    out = tmp_path / "out"
    command = ["run", str(scenario), "--out", str(out), "--jobs", jobs, "--verbose"]
    assert main(command) == 0
    assert not (out / "traces").exists()
    said = capsys.readouterr().err
    assert "could not be made" not in said
    assert said.splitlines()[-1] == (
        f"harness: no traces: {CALLS} planned calls are more than {CALLS - 1}; `harness trace "
        f"export {out}` writes them, and sends them with --endpoint URL"
    )
    report = (out / "report.html").read_text()
    assert "not made; “harness trace export” writes and sends them at any time" in report


def test_the_traces_that_are_made_later_are_those_of_the_run(
    scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main(["run", str(scenario), "--out", str(out), "--quiet"]) == 0
    files = {path.name: path.read_bytes() for path in (out / "traces").iterdir()}
    assert len(files) == 4, "the run, two cells and the account"
    for name in files:
        (out / "traces" / name).unlink()
    (out / "traces").rmdir()
    assert main(["trace", "export", str(out)]) == 0
    assert {path.name: path.read_bytes() for path in (out / "traces").iterdir()} == files


def test_whoever_waits_for_the_delivery_gets_the_traces_at_the_end(
    scenario: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_limit(1, monkeypatch)
    out = tmp_path / "out"
    with receiving(Receiver()) as receiver:
        command = ["run", str(scenario), "--out", str(out), "--otlp", receiver.url]
        assert main([*command, "--otlp-wait"]) == 0
        sent = [span["ids"][1] for one in receiver.got for span in spans_in(one.message)]
    assert sorted(sent) == sorted(spans_made(out).elements())
    assert "no traces" not in capsys.readouterr().err


def test_the_log_has_the_records_of_a_run_without_traces(
    scenario: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_limit(1, monkeypatch)
    command = ["run", str(scenario), "--out", str(tmp_path / "out"), "--log-level", "info"]
    assert main(command) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if " workflow " in line]
    assert len(lines) == 4 * 2 * 2
