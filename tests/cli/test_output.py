"""What becomes of a command whose output nobody takes, and of names that the system refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.store.run_directory import read_records
from tests.cli.answering import one_line
from tests.cli.test_compare import run_of

COMMAND = [sys.executable, "-m", "harness"]


def hung_up(arguments: list[str], **environment: str) -> tuple[int, str]:
    """Run a command whose output nobody will ever read."""
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*COMMAND, *arguments], stdout=theirs, stderr=subprocess.PIPE, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    os.close(theirs)
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command", [["scenarios"], ["serve", "--list"], ["run", "hedge", "--dry-run"]]
)
def test_a_reader_that_has_seen_enough_is_no_error_to_talk_of(
    command: list[str], unbuffered: str
) -> None:
    assert hung_up(command, PYTHONUNBUFFERED=unbuffered) == (141, "")


def test_a_comparison_whose_reader_hung_up_is_no_regression(tmp_path: Path) -> None:
    runs = [run_of(tmp_path, name, {"async_8_none_attempt": [10.0, 10.2, 9.9]}) for name in "ab"]
    assert hung_up(["compare", *runs]) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "scenarios"], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.returncode == 4
    assert one_line(done.stderr).startswith("harness: the output: cannot be written (No space")


NAME = "a" * 300
"""No file system here takes a name of so many letters."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", NAME], ["run", "--resume", NAME], ["report", NAME], ["trace", NAME],
        ["compare", NAME, NAME], ["export", NAME],
    ],
)  # fmt: skip
def test_a_name_that_the_system_refuses_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "cannot be read (File name too long); give" in one_line(capsys.readouterr().err)


def closed(arguments: str, where: str, folder: Path) -> tuple[int, str]:
    """Run a command whose standard streams the shell has closed, and return what it printed."""
    command = f"exec {sys.executable} -m harness {arguments} {where}"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, cwd=folder
    )
    return done.returncode, done.stdout + done.stderr


REAL = "endpoint.time=real --set endpoint.time_scale=0.0005 --set sweep.mode=async"


@pytest.mark.parametrize("where", ["2>&-", ">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("settings", [REAL, "sweep.mode=sync"], ids=["real", "virtual"])
def test_closed_standard_streams_lose_nothing_of_a_run(
    where: str, settings: str, tmp_path: Path
) -> None:
    few = "--set sweep.repeats=1 --set load.workflows=1 --set sweep.permits=2"
    run = f"run quickstart --set {settings} {few} --out out"
    code, said = closed(run, where, tmp_path)
    assert (code, "Traceback" in said) == (0, False)
    assert (tmp_path / "out" / "report.html").exists()
    assert len(read_records(tmp_path / "out").workflows) == 2


@pytest.mark.parametrize("where", ["2>&-", ">&- 2>&-"])
def test_an_error_with_closed_streams_has_its_exit_code(where: str, tmp_path: Path) -> None:
    assert closed("run nowhere", where, tmp_path) == (2, "")
    assert closed("run --nonsense", where, tmp_path) == (2, "")


def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(options: object) -> int:
        raise MemoryError

    monkeypatch.setattr("harness.cli.scenarios.list_scenarios", fails)
    assert main(["scenarios"]) == 4
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("harness: out of memory")
