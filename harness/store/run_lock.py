"""The lock of a run directory, and the removal of incomplete last lines."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.records.errors import PreflightError

LOCK = ".lock"
"""The lock file. The kernel releases the lock when the writing process ends."""

_BLOCK = 65536


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock `directory` for writing. Raises PreflightError if another run has locked it."""
    path = directory / LOCK
    try:
        file = path.open("ab")
    except OSError as error:
        raise PreflightError(
            f"{path}: cannot be written ({error.strerror}); name another directory with --out"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PreflightError(
                f"{directory}: another run is writing into it; wait for its end, or name another "
                "directory with --out"
            ) from None
        yield


def cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, whose writer was killed. Raises OSError."""
    try:
        with path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            at = end
            while at > 0:
                start = max(0, at - _BLOCK)
                file.seek(start)
                found = file.read(at - start).rfind(b"\n")
                if found >= 0:
                    at = start + found + 1
                    break
                at = start
            if at < end:
                file.truncate(at)
    except FileNotFoundError:
        return
