"""The simulated provider as a run sees it: a process of its own, started and stopped by the run."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import HarnessError

_STOP_SECONDS = 10


class Simulator:
    """A `harness serve` on a free port of 127.0.0.1. Use it as a context manager.

    It reads its own standard input and ends when that closes, so it cannot outlive this process
    however this process ends.
    """

    def __init__(
        self, profile: str, override: Mapping[str, Any], seed: int, time_scale: float, log: Path
    ) -> None:
        self._command: Sequence[str] = [
            sys.executable, "-m", "harness", "serve", profile,
            "--port", "0", "--seed", str(seed), "--time-scale", repr(time_scale),
            "--log", str(log), "--json", "--until-stdin-closes",
            *(part for key, value in override.items() for part in ("--set", _setting(key, value))),
        ]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None
        self.base_url = ""

    def __enter__(self) -> Simulator:
        # A group of its own: Ctrl-C is for the run, which stops the provider when it is done.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None, "asked for above"
        line = self._process.stdout.readline()
        try:
            self.base_url = json.loads(line)["base_url"]
        except (ValueError, KeyError):
            self._stop()
            raise HarnessError(
                "the simulated provider did not start; see its message above"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def begin_trial(self, cell: str, repeat: int) -> None:
        """Start afresh: no request in service, no memory of earlier ones."""
        self._control("trial", {"cell": cell, "repeat": repeat})

    def _control(self, what: str, body: Mapping[str, Any]) -> None:
        url = f"{self.base_url.removesuffix('/v1')}/simulator/{what}"
        request = urllib.request.Request(  # noqa: S310 - our own provider on loopback
            url, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as response:
                response.read()
        except (urllib.error.URLError, OSError) as error:
            raise HarnessError(f"the simulated provider does not answer ({error})") from None

    def _stop(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None, "asked for at the start"
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _setting(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value)}"
