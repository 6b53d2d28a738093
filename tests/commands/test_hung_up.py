"""What a command does when nobody reads on."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "command", [["scenarios"], ["serve", "--list"], ["run", "hedge", "--dry-run"]]
)
def test_a_reader_that_hangs_up_is_no_error_of_the_harness(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "harness", *command],
        stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
