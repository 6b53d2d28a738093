"""What a Dask worker executes for a share of a trial in real time.

Nothing of it is a Dask task, which Dask would run again elsewhere after a worker is lost: its calls
may have been paid. A worker starts a process, passes on messages, and ends the process if nobody
has asked for its messages for a while, because then nobody keeps its records.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

_UNASKED = 60.0
"""Seconds without a question for messages after which the process is killed."""
_GRACE = 2.0
"""Seconds in which a process can end by itself."""


class Sealed:
    """Bytes with secrets: Dask logs the arguments of a function that fails."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __repr__(self) -> str:
        return f"Sealed({len(self.content)} bytes)"


class TakenMessages(NamedTuple):
    """The messages of a process from one number on, and its exit code once it has ended."""

    messages: list[bytes]
    exit_code: int | None


class _Child:
    """A process that runs shares, and a thread that receives its messages."""

    def __init__(self, session: bytes) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "harness.bench.share_child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._line = Connection(ours.detach())
        self._asked = time.monotonic()
        self._lock = threading.Lock()
        self._messages: list[bytes] = []
        self._first = 0
        self._exit_code: int | None = None
        threading.Thread(target=self._receive, args=(session,), daemon=True).start()

    def _receive(self, session: bytes) -> None:
        try:
            self._line.send_bytes(session)  # can wait until the process has imported what it needs
            while True:
                while not self._line.poll(1.0):
                    if time.monotonic() > self._asked + _UNASKED:
                        self._process.kill()
                message = self._line.recv_bytes()
                with self._lock:
                    self._messages.append(message)
        except (EOFError, OSError):
            code = self._process.wait()
            self._line.close()
            with self._lock:
                self._exit_code = code

    def send(self, task: bytes) -> None:
        """Send a task, which is small; the process may have ended."""
        with contextlib.suppress(OSError):
            self._line.send_bytes(task)

    def take(self, start: int) -> TakenMessages:
        """Return the messages from number `start` on; those before it have been received."""
        self._asked = time.monotonic()
        with self._lock:
            del self._messages[: start - self._first]
            self._first = start
            return TakenMessages(list(self._messages), self._exit_code)

    def interrupt(self) -> None:
        """Interrupt the share that the process runs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """End the process."""
        # Not closed, which the thread would not notice: both see the end of the connection.
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(self._line.fileno())) as other,
        ):
            other.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()


_children: dict[str, _Child] = {}
"""The processes of this worker, by the key of their session."""


def start_share_process(key: str, session: Sealed) -> None:
    """Start the process of a session. `session`: a pickled ShareSession."""
    _children[key] = _Child(session.content)


def send_share(key: str, tasks: Mapping[str, Sealed], dask_worker: Any = None) -> None:
    """Send the pickled WorkerTask or ShareStart of this worker, by its address."""
    _children[key].send(tasks[dask_worker.address].content)


def take_messages(key: str, starts: Mapping[str, int], dask_worker: Any = None) -> tuple[Any, ...]:
    """Return TakenMessages from the number on that `starts` has for the address of this worker."""
    return tuple(_children[key].take(starts[dask_worker.address]))


def interrupt_share(key: str) -> None:
    """Interrupt the share that the process of a session runs."""
    if key in _children:
        _children[key].interrupt()


def end_share_process(key: str) -> None:
    """End the process of a session, without waiting for it here."""
    child = _children.pop(key, None)
    if child is not None:
        threading.Thread(target=child.end, daemon=True).start()


def read_clock() -> int:
    """Return the monotonic clock of this machine in nanoseconds."""
    return time.monotonic_ns()


def machine_identity() -> str:
    """Return what tells whether two processes have the same loopback interface."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/net').stat().st_ino}"
    except OSError:  # not Linux
        return socket.gethostname()
