"""Runs a command of a user as a process, and keeps what it prints."""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, cast

_STDOUT, _STDERR = 1, 2
_GRACE = 0.3
"""Seconds in which a process that is asked to end can do so, less than `engine.hosting` grants."""
MOST_STDERR_LINES, MOST_STDERR = 20, 4000
"""The most lines and characters that are kept of what a process writes to stderr: the last ones."""


class CommandLine(NamedTuple):
    """A command, its environment, and the folder in which it runs."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path


class LastLines:
    """The last lines of a text, whole lines where a line is not too long itself."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, text: str) -> None:
        """Add text to the end."""
        self._text = last_lines(self._text + text)

    def __str__(self) -> str:
        return self._text.rstrip()


def last_lines(text: str) -> str:
    """Return the last `MOST_STDERR_LINES` lines of a text, at most `MOST_STDERR` characters.

    A line whose beginning would be missing is left out, unless it is the last one: half of a secret
    is not recognised as one.
    """
    lines = text.splitlines(keepends=True)[-MOST_STDERR_LINES:]
    while len(lines) > 1 and sum(map(len, lines)) > MOST_STDERR:
        del lines[0]
    return "".join(lines)[-MOST_STDERR:]


class ChildProcess(asyncio.SubprocessProtocol):
    """A running command. `stderr`: its last lines. `write`: takes all that it prints.

    It leads a process group, so that the processes that it starts end with it.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self.stderr = LastLines()
        self._write = write
        self._decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in (_STDOUT, _STDERR)
        }
        loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport (asyncio)."""
        self._transport = cast(asyncio.SubprocessTransport, transport)  # uvloop has its own class

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take what the process prints (asyncio)."""
        text = self._decoders[fd].decode(data)
        self._write(text)
        if fd == _STDERR:
            self.stderr.add(text)

    def process_exited(self) -> None:
        """Note that the process has ended (asyncio)."""
        if not self._exited.done():
            self._exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that all pipes are closed (asyncio)."""
        if not self._closed.done():
            self._closed.set_result(None)

    async def exit_code(self) -> int:
        """Wait for the end of the process; return its exit code, negative for a signal."""
        await self._exited
        code = self._transport.get_returncode()
        assert code is not None, "it has exited"
        return code

    async def end(self) -> None:
        """End the process and those that it has started: SIGTERM, and a little later SIGKILL."""
        try:
            if not self._exited.done():
                self._signal(signal.SIGTERM)
                await asyncio.wait((self._exited,), timeout=_GRACE)
            self._signal(signal.SIGKILL)
            await asyncio.wait((self._closed,), timeout=_GRACE)
        finally:
            self._signal(signal.SIGKILL)
            self._transport.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # the group has ended
            os.killpg(self._transport.get_pid(), number)


async def start_command(command: CommandLine, write: Callable[[str], object]) -> ChildProcess:
    """Start a command; `write` takes what it prints. Raises OSError if it cannot be started."""
    loop = asyncio.get_running_loop()
    _, child = await loop.subprocess_exec(
        lambda: ChildProcess(write),
        *command.arguments,
        env=dict(command.environment),
        cwd=command.folder,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    return child
