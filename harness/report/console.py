"""Standard output, as tables and sentences are written to it."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from rich.console import Console


class Output(Console):
    """Standard output; BrokenPipeError tells of a reader that hung up, as print does."""

    def on_broken_pipe(self) -> NoReturn:
        """Say so: rich itself would end the process with the exit code of a regression."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
