"""A disk for `benchmarks.survival` on which a write, a rename or a flush goes wrong."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from harness.store.run_directory import (
    ATTEMPTS_FILE,
    CALLS_FILE,
    RUN_FILE,
    SPENDING_FILE,
    TRIALS_FILE,
    TRIALS_FOLDER,
    WORKFLOWS_FILE,
)
from harness.telemetry.export import TRACES

KINDS = ("before", "after", "torn", "full", "short")
"""What can happen to one write. `before`, `after`: the process is killed; `torn`: in the middle of
it; `full`: it fails; `short`: a part is written, and then it fails."""
POWER = "power"
"""The power fails after it: what was not synced is on the disk or not."""


TARGETS = (
    "", "", "", RUN_FILE, TRIALS_FILE, WORKFLOWS_FILE, CALLS_FILE, ATTEMPTS_FILE, SPENDING_FILE,
    TRIALS_FOLDER, TRACES,
)  # fmt: skip
"""A file or a folder in which a write goes wrong; empty for any."""


class Killed(BaseException):
    """The process ends here, and does nothing more."""


class Disk:
    """A disk. In a session, one write goes wrong, or none.

    `kinds`: what can happen. `synced`: by the number of a file, how many of its bytes are safe; of
    all sessions. `lost_power`: whether the power has failed.
    """

    def __init__(
        self, random: Random, folder: Path, kinds: Iterable[str], synced: dict[int, int]
    ) -> None:
        self._random = random
        self._folder = folder
        self._kind = random.choice(["", *kinds])
        self._target = random.choice(TARGETS)  # a file with few writes is as likely as all others
        self._left = int(2 ** random.uniform(0, random.choice((2, 5) if self._target else (5, 9))))
        self._is_dead = False
        self._synced = synced
        self._before: dict[Path, bytes | None] = {}
        self.lost_power = False

    @contextmanager
    def mounted(self, booked: Callable[[bytes], None]) -> Iterator[None]:
        """Use this disk for the files of the run. `booked` is called with lines of spending."""
        real_open, real_replace, real_unlink = Path.open, Path.replace, Path.unlink

        def opened(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if ("r" in mode and "+" not in mode) or not self._has(path):
                return real_open(path, mode, *rest, **more)
            self._check()
            is_new = "w" in mode or not path.exists()
            file = real_open(path, mode, *rest, **more)
            if is_new:
                self._before.setdefault(path, None)
                self._synced.pop(os.fstat(file.fileno()).st_ino, None)  # of a file that is gone
            return _File(file, self, booked if path.name == SPENDING_FILE else ignore)

        def replaced(path: Path, target: Path) -> Path:
            if not self._has(path):
                return real_replace(path, target)
            kind = self._act(target)
            if kind in ("before", "torn"):
                self.die()
            if kind in ("full", "short"):
                raise OSError(errno.EIO, "Input/output error")
            old = target.read_bytes() if target.exists() else None
            self._before.pop(path, None)
            self._before.setdefault(target, old)
            moved = real_replace(path, target)
            self._after(kind)
            return moved

        def unlinked(path: Path, *rest: Any, **more: Any) -> None:
            if self._has(path):
                self._check()
            real_unlink(path, *rest, **more)

        with (
            patch.object(Path, "open", opened),
            patch.object(Path, "replace", replaced),
            patch.object(Path, "unlink", unlinked),
            patch("os.fsync", self._sync),
        ):
            yield
        if self.lost_power:
            self._lose()

    @property
    def has_worked(self) -> bool:
        """Whether nothing has gone wrong."""
        return not self._kind or self._left > 0

    def write(self, file: Any, data: bytes, booked: Callable[[bytes], None]) -> int:
        """Write, if nothing goes wrong."""
        kind = self._act(Path(file.name))
        if kind == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if kind == "short":
            cut: int = file.write(self._part(data))
            if isinstance(file, io.RawIOBase):
                if cut == len(data):
                    booked(data)
                return cut
            raise OSError(errno.ENOSPC, "No space left on device")
        if kind == "torn":
            file.write(self._part(data))
        if kind in ("torn", "before"):
            self.die()
        written: int = file.write(data)
        booked(data)
        self._after(kind)
        return written

    def die(self) -> None:
        """Kill the process."""
        self._is_dead = True
        raise Killed

    def check_alive(self) -> None:
        """Raise Killed if the process was killed: it cannot do anything more."""
        self._check()

    def _check(self) -> None:
        if self._is_dead:
            raise Killed

    def _has(self, path: Path) -> bool:
        return path.is_relative_to(self._folder)

    def _act(self, path: Path) -> str:
        """Return what happens to the next write or rename; empty if it succeeds."""
        self._check()
        if self._target and self._target not in (path.name.removesuffix(".part"), path.parent.name):
            return ""
        self._left -= 1
        return self._kind if self._left == 0 else ""

    def _after(self, kind: str) -> None:
        if kind == POWER:
            self.lost_power = True
        if kind in ("after", POWER):
            self.die()

    def _part(self, data: bytes) -> bytes:
        """Return what reached the disk of a write that was cut: often all but a newline."""
        ends = [at for at, byte in enumerate(data) if byte == 10]
        at = self._random.choice(ends) + self._random.choice((0, 0, 1)) if ends else 0
        return data[: self._random.choice((at, self._random.randrange(len(data) or 1)))]

    def _sync(self, number: int) -> None:
        self._check()
        what = os.fstat(number)
        path = Path(f"/proc/self/fd/{number}").readlink()
        if path.is_dir():
            names = [known for known in self._before if known.parent == path]
            for known in names:
                del self._before[known]
        else:
            self._synced[what.st_ino] = what.st_size

    def _lose(self) -> None:
        """Lose what was not synced: names of files, and the ends of files."""
        for path, old in self._before.items():
            if self._random.random() < 0.5:
                if old is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(old)
                    self._synced[path.stat().st_ino] = len(old)
        for path in self._folder.rglob("*"):
            if path.is_file():
                what = path.stat()
                kept = self._synced.get(what.st_ino, 0)
                if kept < what.st_size:
                    any_part = self._random.randint(kept, what.st_size)
                    os.truncate(path, self._random.choice((kept, what.st_size, any_part)))


class _File:
    """A file that is open for writing."""

    def __init__(self, file: Any, disk: Disk, booked: Callable[[bytes], None]) -> None:
        self._file = file
        self._disk = disk
        self._booked = booked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        return self._disk.write(self._file, data, self._booked)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def truncate(self, size: int | None = None) -> int:
        self._disk.check_alive()
        done: int = self._file.truncate(size)
        return done


def ignore(*_: object) -> None:
    """Do nothing."""
