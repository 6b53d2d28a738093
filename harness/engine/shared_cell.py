"""Values that several processes of one machine share, in files that each of them maps.

A process takes the lock of a cell, reads the value, and may replace it. The kernel releases the
lock when its process dies, and a value that was being written then is not seen: a cell has room for
two values, and the last thing that is written says which one counts.
"""

from __future__ import annotations

import fcntl
import mmap
import pickle
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MOST = 1 << 18
"""Bytes of a value. Pages that are never written take no memory."""
_VERSION, _LENGTH = struct.Struct("<Q"), struct.Struct("<I")
_SIZE = _VERSION.size + 2 * _MOST
_HELD = _MOST - _LENGTH.size


class SharedCell:
    """A value in a file, and its lock. Only what the harness itself has written is read.

    `version`: 0 as long as there is no value; each new value has a higher one.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._file.truncate(_SIZE)
        self._map = mmap.mmap(self._file.fileno(), _SIZE)

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        self._file.close()

    @property
    def version(self) -> int:
        """The version of the value; without the lock it can be old at once."""
        version: int = _VERSION.unpack_from(self._map)[0]
        return version

    def lock(self) -> None:
        """Wait until no other process has the lock."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def unlock(self) -> None:
        """Release the lock."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def read(self) -> Any:
        """Return the value; only with the lock, and if there is one."""
        at = self._place(self.version)
        (length,) = _LENGTH.unpack_from(self._map, at)
        at += _LENGTH.size
        return pickle.loads(self._map[at : at + length])  # noqa: S301 - of our own processes

    def write(self, value: Any) -> None:
        """Replace the value; only with the lock. Raises ValueError if it is too large."""
        self.write_pickled(_pickled(value))

    def write_pickled(self, data: bytes) -> None:
        """Replace the value by one that has been pickled, as `write` does."""
        if len(data) > _HELD:
            raise ValueError(f"a shared value has {len(data)} bytes, more than {_HELD}")
        version = self.version + 1
        at = self._place(version)
        _LENGTH.pack_into(self._map, at, len(data))
        self._map[at + _LENGTH.size : at + _LENGTH.size + len(data)] = data
        _VERSION.pack_into(self._map, 0, version)

    def _place(self, version: int) -> int:
        return _VERSION.size + (version & 1) * _MOST


def _pickled(value: Any) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


class SharedState:
    """A lock under which an object has the state that the processes share. A context manager.

    `load` gives the object a state, `dump` returns the state that it has: a value that can be
    pickled. The state that the object has at first counts as long as no process has changed it.
    """

    def __init__(
        self, cell: SharedCell, load: Callable[[Any], None], dump: Callable[[], Any]
    ) -> None:
        self._cell = cell
        self._load = load
        self._dump = dump
        self._version = 0
        self._before: bytes | None = None
        self._threads = threading.Lock()

    @property
    def is_new(self) -> bool:
        """Whether another process has changed the state since this one had the lock."""
        return self._cell.version != self._version

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            self._cell.lock()
            if self.is_new:
                self._load(self._cell.read())
                self._version = self._cell.version
                self._before = None
            if self._before is None:
                self._before = _pickled(self._dump())
        except BaseException:
            self._release()
            raise

    def __exit__(self, *error: object) -> None:
        try:
            # Compared as bytes: named tuples of different types can be equal.
            after = _pickled(self._dump())
            if after != self._before:
                self._cell.write_pickled(after)
                self._before, self._version = after, self._cell.version
        finally:
            self._release()

    def _release(self) -> None:
        self._cell.unlock()
        self._threads.release()


class SharedFlag:
    """Something that is so from a moment on, in all processes. It needs no lock."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._file.truncate(1)
        self._map = mmap.mmap(self._file.fileno(), 1)

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        self._file.close()

    def set(self) -> None:
        """Make it so."""
        self._map[0] = 1

    def is_set(self) -> bool:
        """Return whether it is so."""
        return self._map[0] == 1
