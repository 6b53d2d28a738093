"""Ends a program whose own code runs for too long, such as a loop without an end.

The driver of a program notes when its code begins to run in a thread and when it pauses. A thread
looks at these times. It raises OwnTimeExceededError in code that is over its limit, again and again
until the code pauses: in the main thread by a signal, which also ends a blocking system call, and
in other threads between two instructions of Python.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_LOOK_EVERY = 0.2
"""Seconds between two looks."""

_since: dict[int, float] = {}
"""Since when the code of a program runs, by thread; times of the monotonic clock."""


_interrupts: list[int] = []
"""The signals that have interrupted code of a program."""


class OwnTimeExceededError(BaseException):
    """The program's own code ran for too long. `except Exception` does not catch it."""


def begin_own_code() -> None:
    """Note that code of a program begins to run in this thread."""
    _since[threading.get_ident()] = time.monotonic()


def is_own_code() -> bool:
    """Return whether code of a program runs in this thread now."""
    return threading.get_ident() in _since


def end_own_code() -> None:
    """Note that it pauses or has ended."""
    _since.pop(threading.get_ident(), None)


def is_interrupted() -> bool:
    """Return whether SIGINT has interrupted code of a program in this trial."""
    return bool(_interrupts)


def take_interrupt() -> bool:
    """Return whether SIGINT has interrupted code of a program since the last call.

    The code may have caught the exception.
    """
    was_interrupted = bool(_interrupts)
    _interrupts.clear()
    return was_interrupted


class OwnTimeWatch:
    """A context manager that limits the own code of programs in all threads to some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="own-time", daemon=True)
        self._main: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> OwnTimeWatch:
        if threading.current_thread() is threading.main_thread():
            self._main = threading.get_ident()
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_alarm)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY):
            for thread in list(_since):
                if not self._is_over(thread):
                    continue
                if thread == self._main:
                    signal.pthread_kill(thread, signal.SIGALRM)
                else:
                    error = ctypes.py_object(OwnTimeExceededError)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)

    def _is_over(self, thread: int) -> bool:
        since = _since.get(thread)
        return since is not None and time.monotonic() > since + self._seconds

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self._main is not None and self._is_over(self._main):
            raise OwnTimeExceededError


class InterruptibleCode:
    """A context manager in the main thread: SIGINT interrupts the code of a program at once.

    The handler of an event loop only cancels a task, which such code never notices. That handler is
    called while no code of a program runs.
    """

    def __enter__(self) -> None:
        self._before: Any = None
        _interrupts.clear()
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_interrupt)

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if threading.get_ident() in _since:
            _interrupts.append(number)
            raise KeyboardInterrupt
        if callable(self._before):
            self._before(number, frame)
