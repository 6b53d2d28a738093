"""SIGTERM and SIGHUP end a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class EndSignals:
    """Handles SIGTERM and SIGHUP as Ctrl-C. Use it as a context manager.

    A signal that was ignored before, as SIGHUP by nohup, stays ignored. `received`: the last of
    these signals, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._blocked = False

    def __enter__(self) -> EndSignals:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread can handle signals
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A shell starts background commands like this. asyncio handles an interruption only if
            # SIGINT has its default handler, so Ctrl-C is kept away in another way.
            self._blocked = signal.SIGINT not in signal.pthread_sigmask(
                signal.SIG_BLOCK, {signal.SIGINT}
            )
            self._handle(signal.SIGINT, signal.default_int_handler)
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._handle(number, self._end)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._blocked:  # while it is ignored again, so that a pending one is discarded
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def exit_code(self, code: int) -> int:
        """Return the exit code of a command that ends with `code`."""
        return code if self.received is None else 128 + self.received

    def _handle(self, number: signal.Signals, handler: Any) -> None:
        self._before[number] = signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        interrupt = signal.getsignal(signal.SIGINT)  # of asyncio, while it runs
        if not callable(interrupt):
            raise KeyboardInterrupt
        interrupt(signal.SIGINT, frame)
