"""One line about the progress of a command, on standard error if that is a terminal."""

from __future__ import annotations

import contextlib
import threading
import time

from rich.live import Live
from rich.text import Text

from harness.cli.live import clock
from harness.report.console import Output

_FIRST_SECONDS = 1.0
"""A command that takes less shows nothing."""
_REFRESH_SECONDS = 0.5


class ProgressLine:
    """Shows what a command does until the context ends. Use it as a context manager.

    A thread draws the line in place, and it is erased at the end. Nothing is drawn if `console` is
    no terminal or if the command is `silent`.
    """

    def __init__(self, console: Output, *, silent: bool = False) -> None:
        self._console = console
        self._shows = console.is_terminal and not silent
        self._step = ""
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False,
            redirect_stderr=False,
        )  # fmt: skip

    def __enter__(self) -> ProgressLine:
        if self._shows:
            self._thread = threading.Thread(target=self._draw, name="progress line", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def say(self, step: str) -> None:
        """Set what the command does from now on."""
        self._step = step

    def text(self, seconds: float) -> str:
        """Return the line after so many seconds, within the width of the terminal."""
        return f"{clock(seconds)}  {self._step}"[: self._console.width]

    def _draw(self) -> None:
        if self._ended.wait(_FIRST_SECONDS):
            return
        with contextlib.suppress(OSError):  # the terminal is gone; the command goes on
            self._live.start()
            try:
                while True:
                    line = self.text(time.monotonic() - self._began)
                    self._live.update(Text(line, no_wrap=True), refresh=True)
                    if self._ended.wait(_REFRESH_SECONDS):
                        break
            finally:
                self._live.stop()
