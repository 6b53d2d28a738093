"""A server that a run starts and stops in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from harness.records.errors import HarnessError

_STOP_SECONDS = 10


@contextmanager
def serving(
    what: str, module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a Python module that serves until its standard input closes; yield its base URL.

    So it cannot outlive this process, however this process ends. Its first line of output is a JSON
    object with `base_url`. `arguments` go to the module, `environment` is added to ours. Raises
    HarnessError, which calls the server `what`, if it does not start.
    """
    # A process group of its own: Ctrl-C is for the run, which stops the server at its end.
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
    ) as process:
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        try:
            try:
                base_url: str = json.loads(process.stdout.readline())["base_url"]
            except (ValueError, KeyError):
                raise HarnessError(f"{what} did not start; see its message above") from None
            yield base_url
        finally:
            process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
