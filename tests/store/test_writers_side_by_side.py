"""Several processes append to the same files: no line is cut, mixed or lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.records.errors import StorageError
from harness.records.schema import Attempt, Workflow
from harness.store.run_directory import ATTEMPTS_FILE, RecordsFrom, Writer, each
from tests.analysis.builders import make_attempt, make_workflow

APPENDING = """
import sys
from pathlib import Path
from harness.store.run_directory import Writer
from tests.analysis.builders import make_attempt
with Writer(Path(sys.argv[1]), others="join") as writer:
    for number in range(300):
        writer.append(make_attempt(workflow=number, request_id=sys.argv[2] * 500))
"""


def test_lines_of_several_processes_are_whole(tmp_path: Path) -> None:
    with Writer(tmp_path, others="start"):
        processes = [
            subprocess.Popen([sys.executable, "-c", APPENDING, str(tmp_path), name])
            for name in "ab"
        ]
        assert [process.wait() for process in processes] == [0, 0]
    attempts = list(each(tmp_path, Attempt))
    for name in "ab":
        own = [one.workflow for one in attempts if one.request_id == name * 500]
        assert own == list(range(300))
    assert len(attempts) == 600


def test_the_line_of_a_process_that_was_killed_is_removed_before_the_next_one(
    tmp_path: Path,
) -> None:
    with Writer(tmp_path, others="start"), Writer(tmp_path, others="join") as writer:
        writer.append(make_attempt(workflow=1))
        with (tmp_path / ATTEMPTS_FILE).open("ab") as file:
            file.write(b'{"cell":"half')
        writer.append(make_attempt(workflow=2))
    assert [one.workflow for one in each(tmp_path, Attempt)] == [1, 2]


def test_a_writer_that_joins_leaves_the_files_as_they_are(tmp_path: Path) -> None:
    with Writer(tmp_path, others="start"):
        (tmp_path / ATTEMPTS_FILE).write_bytes(b"in progress")
        with Writer(tmp_path, others="join"):
            assert (tmp_path / ATTEMPTS_FILE).read_bytes() == b"in progress"


class FullDisk:
    """A file on a disk that is full: some of the bytes are written, or none."""

    def __init__(self, file: Any, write: Callable[[Any, bytes], int]) -> None:
        self._file, self._write = file, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        return self._write(self._file, data)


def half(file: Any, data: bytes) -> int:
    return int(file.write(data[: len(data) // 2]))


def nothing(file: Any, data: bytes) -> int:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("write", [half, nothing])
def test_a_full_disk_removes_the_own_line_and_no_other(
    tmp_path: Path, write: Callable[[Any, bytes], int]
) -> None:
    with Writer(tmp_path, others="start") as first, Writer(tmp_path, others="join") as second:
        second.append(make_attempt(workflow=1))
        first.append(make_attempt(workflow=2))
        file: Any = FullDisk(second._files[Attempt], write)
        second._files[Attempt] = file
        with pytest.raises(StorageError, match="make room"):
            second.append(make_attempt(workflow=3))
        first.append(make_attempt(workflow=4))
    assert [one.workflow for one in each(tmp_path, Attempt)] == [1, 2, 4]


def test_what_is_appended_from_a_moment_on_is_read(tmp_path: Path) -> None:
    with Writer(tmp_path) as writer:
        writer.append(make_attempt(workflow=1))
        writer.append(make_workflow(workflow=1))
        later = RecordsFrom(tmp_path)
        assert later.read(Attempt) == []
        writer.append(make_attempt(workflow=2))
        assert [one.workflow for one in later.read(Attempt)] == [2]
        assert later.read(Workflow) == []
