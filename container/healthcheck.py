"""The health check of the image: asks `harness serve` for /health, and accepts other commands.

It reads the command line of the container's first process. Exit codes: 0 healthy, 1 not.
"""

from __future__ import annotations

import sys
import urllib.request
from itertools import pairwise
from pathlib import Path

FIRST_PROCESS = Path("/proc/1/cmdline")
PORT = "8000"
"""The default port of `harness serve`."""


def served_port(words: list[str]) -> str | None:
    """Return the port of `harness serve`; None for another command."""
    names = [Path(word).name for word in words]
    if ("harness", "serve") not in zip(names, words[1:], strict=False):
        return None
    for word, following in pairwise([*words, ""]):
        if word == "--port":
            return following
        if word.startswith("--port="):
            return word.removeprefix("--port=")
    return PORT


def is_healthy(words: list[str]) -> bool:
    """Return whether the server of this command line answers; true for another command."""
    port = served_port(words)
    if port is None:
        return True
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not is_healthy(FIRST_PROCESS.read_bytes().decode().split("\0")))
