"""A server that a run starts and stops in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from harness.records.errors import HarnessError

_STOP_SECONDS = 10


class Child:
    """A Python module that serves until its standard input closes.

    So it cannot outlive this process, however this process ends. `arguments` go to the module,
    `environment` is added to ours; `what` names it in errors.
    """

    def __init__(
        self,
        what: str,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._what = what
        self._command = [sys.executable, "-m", module, *arguments]
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start it and return the base URL that it says as its first line, a JSON object."""
        # A group of its own: Ctrl-C is for the run, which stops the server when it is done.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=self._environment,
        )
        assert self._process.stdout is not None, "asked for above"
        try:
            line = self._process.stdout.readline()
        except BaseException:  # Ctrl-C, which it does not hear itself
            self.stop()
            raise
        try:
            base_url: str = json.loads(line)["base_url"]
        except (ValueError, KeyError):
            self.stop()
            raise HarnessError(f"{self._what} did not start; see its message above") from None
        return base_url

    def stop(self) -> None:
        """Ask it to end, wait for that, and end it if it does not."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None, "asked for at the start"
        assert process.stdout is not None, "asked for at the start"
        process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
