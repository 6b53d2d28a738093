"""The simulated provider as a run sees it: a process of its own, started and stopped by the run."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.bench.child import Child
from harness.errors import HarnessError

_WHAT = "the simulated provider"


class Simulator:
    """A `harness serve` on a free port of 127.0.0.1. Use it as a context manager."""

    api_key = "none"
    """It wants none, but the client must send something."""

    def __init__(
        self, profile: str, override: Mapping[str, Any], seed: int, time_scale: float, log: Path
    ) -> None:
        arguments = [
            "serve", profile,
            "--port", "0", "--seed", str(seed), "--time-scale", repr(time_scale),
            "--log", str(log), "--json", "--until-stdin-closes",
            *(part for setting in settings(override) for part in ("--set", setting)),
        ]  # fmt: skip
        self._child = Child(_WHAT, "harness", arguments)
        self.base_url = ""

    def __enter__(self) -> Simulator:
        self.base_url = self._child.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.stop()

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
            raise HarnessError(f"{_WHAT} does not answer ({error})") from None


def settings(override: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the `dotted.key=value` settings that say what nested tables say."""
    for key, value in override.items():
        if isinstance(value, Mapping):
            yield from settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"  # also TOML, for a plain value
