"""What a run directory needs before it is written to again: one writer, and no torn lines."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.records.errors import PreflightError

LOCK = ".lock"
"""Held by the process that writes; the kernel lets go of it however that process ends."""

_BLOCK = 65536


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let no other run write into `directory` meanwhile. Raises PreflightError when one does."""
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
    """Cut off what follows the last whole line: whatever wrote it died. Raises OSError."""
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
