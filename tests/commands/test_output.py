"""What becomes of a command whose output nobody takes, and of names that the system refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from tests.commands.answering import one_line

COMMAND = [sys.executable, "-m", "harness"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_error_to_talk_of(unbuffered: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)  # nobody will ever read it
    done = subprocess.run(
        [*COMMAND, "scenarios"], stdout=theirs, stderr=subprocess.PIPE, text=True, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(theirs)
    assert (done.returncode, done.stderr) == (141, "")


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
