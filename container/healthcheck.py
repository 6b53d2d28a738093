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


def health_url(words: list[str]) -> str | None:
    """Return the URL at which the server of a command line says whether it is healthy.

    None for another command than `harness serve`.
    """
    names = [Path(word).name for word in words]
    if ("harness", "serve") not in pairwise(names):
        return None
    host, port = option(words, "--host", "127.0.0.1"), option(words, "--port", PORT)
    if host in ("0.0.0.0", "::"):  # noqa: S104 - all addresses, this one among them
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/health" if ":" in host else f"http://{host}:{port}/health"


def option(words: list[str], name: str, default: str) -> str:
    """Return the value of an option, written `--name VALUE` or `--name=VALUE`."""
    for word, following in pairwise([*words, ""]):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return default


def is_healthy(words: list[str]) -> bool:
    """Return whether the server of this command line answers; true for another command."""
    url = health_url(words)
    if url is None:
        return True
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not is_healthy(FIRST_PROCESS.read_bytes().decode().split("\0")))
