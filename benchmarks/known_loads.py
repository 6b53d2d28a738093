"""Loads on a server whose times are known: of a bare protocol, and of `harness run`.

The server is `verdict_server.c`. `benchmarks.wire_client` and `benchmarks.peers` measure with them.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import uvloop

from benchmarks.verdict import HERE, ONE_CALL
from harness.records.keys import WARM_UP

CLIENTS = ("wire", "openai")
FLOOR = "bare Protocol"
IN_STEP = "the same in step"
AT_ONCE = 64
TTFT_MS = 200
CERTIFICATE = HERE.parent / "tests" / "wire" / "localhost.pem"
"""A certificate of 127.0.0.1, with its key."""
SCENARIO = (
    'name = "wire-client"'
    + ONE_CALL
    + """client = "{client}"
cache = "keep"
stream = {stream}
[load]
workflows = {calls}
in_flight = {at_once}
warmup_calls = {warm_up}
[timeouts]
connect = "10m"
[sweep]
permits = [{at_once}]
repeats = {repeats}
"""
)


class Shape(NamedTuple):
    """A kind of load. `chunks`: of a response, 0 for a whole body; `gap_ms` between two.

    `warm_up`: the calls before a trial, which open its connections.
    `is_tls`: over TLS.
    """

    ttft_ms: int
    chunks: int
    gap_ms: float
    calls: int
    at_once: int
    warm_up: int = 0
    is_tls: bool = False

    @property
    def form(self) -> tuple[object, ...]:
        """What the server is told."""
        tls = (f"tls={CERTIFICATE}",) if self.is_tls else ()
        return (self.chunks, self.gap_ms, *tls)

    @property
    def end(self) -> bytes:
        """The last bytes of a response."""
        return b"0\r\n\r\n"

    @property
    def response_s(self) -> float:
        """The seconds of a response."""
        return (self.ttft_ms + self.chunks * self.gap_ms) / 1000


class Run(NamedTuple):
    """One run of a client. `sent`, `ttft`: nanoseconds; `cpu_s`: of the client."""

    cpu_s: float
    sent: Sequence[int]
    ttft: Sequence[int]
    efficiency: float | None = None

    @property
    def cost_us(self) -> float:
        """Microseconds of processor time a call."""
        return self.cpu_s / len(self.sent) * 1e6

    def error_ms(self, share: float, truth_ms: float = TTFT_MS) -> float:
        """Return how far a quantile of the time to first token is from the truth."""
        return float(np.quantile(self.ttft, share)) / 1e6 - truth_ms

    @property
    def burst_ms(self) -> float:
        """From the first request to the last one."""
        return (max(self.sent) - min(self.sent)) / 1e6


class _BareProtocol(asyncio.Protocol):
    """Sends the same request again and again over one connection, as long as there are calls."""

    def __init__(self, request: bytes, end: bytes, calls: list[int], found: Run) -> None:
        self._request, self._end, self._calls, self._found = request, end, calls, found
        self.done = asyncio.get_running_loop().create_future()
        self._sent, self._tail = 0, b""
        self._has_begun = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self) -> None:
        """Send the next request, or end."""
        if not self._calls:
            self._transport.close()
            self.done.set_result(None)
            return
        self._calls.pop()
        self._has_begun, self._tail = False, b""
        self._sent = time.monotonic_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Stamp the first bytes of a response."""
        at = time.monotonic_ns()
        if not self._has_begun:
            self._has_begun = True
            self._found.sent.append(self._sent)  # type: ignore[attr-defined]
            self._found.ttft.append(at - self._sent)  # type: ignore[attr-defined]
        self._tail = (self._tail + data)[-len(self._end) :]
        if self._tail == self._end:
            self.send()


def bare(port: int, shape: Shape, *, in_step: bool) -> Run:
    """Measure the floor. `in_step`: all first requests at once, or else spread over a response."""
    body = json.dumps({
        "model": "known", "stream": shape.chunks > 0,
        "messages": [{"role": "user", "content": "Topic: ocean tides. " * 8}],
    }).encode()  # fmt: skip
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    found, calls = Run(0.0, [], []), list(range(shape.calls))
    tls = ssl.create_default_context(cafile=str(CERTIFICATE)) if shape.is_tls else None

    async def whole() -> float:
        loop = asyncio.get_running_loop()
        opened = [
            (await loop.create_connection(
                lambda: _BareProtocol(head.encode() + body, shape.end, calls, found),
                "127.0.0.1", port, ssl=tls,
            ))[1]
            for _ in range(shape.at_once)
        ]  # fmt: skip
        before = time.process_time()
        for number, one in enumerate(opened):
            spread = 0.0 if in_step else shape.response_s * number / len(opened)
            loop.call_later(spread, one.send)
        await asyncio.gather(*(one.done for one in opened))
        return time.process_time() - before

    cpu_s = uvloop.run(whole())
    return found._replace(cpu_s=cpu_s)


def harness_command(client: str, port: int, shape: Shape, folder: Path, repeats: int) -> list[str]:
    """Write the scenario of a load into a folder and return the command that runs it."""
    scenario = folder / "scenario.toml"
    text = SCENARIO.format(
        port=port, client=client, stream=str(shape.chunks > 0).lower(),
        calls=shape.calls, at_once=shape.at_once, repeats=repeats, warm_up=shape.warm_up,
    )  # fmt: skip
    if shape.is_tls:
        text = text.replace("http:", "https:")
        text = text.replace("[load]", f'ca_file = "{CERTIFICATE}"\n[load]')
    scenario.write_text(text)
    command = [sys.executable, "-m", "harness", "run", str(scenario)]
    return [*command, "--out", str(folder / "out"), "--quiet"]


def harness_environment() -> dict[str, str]:
    """Return the environment in which `harness run` reaches the server."""
    return {"NO_PROXY": "*", "PYTHONPATH": str(HERE.parent)}


def harness_run(client: str, port: int, shape: Shape) -> Run:
    """Measure `harness run` with a client; its second trial counts."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        subprocess.run(
            harness_command(client, port, shape, Path(name), 2), check=True,
            stdout=subprocess.DEVNULL, env={**os.environ, **harness_environment()},
        )  # fmt: skip
        attempts = [
            one for one in _lines(out / "attempts.jsonl")
            if one["repeat"] == 1 and one["phase"] != WARM_UP
        ]  # fmt: skip
        trial = next(one for one in _lines(out / "trials.jsonl") if one["repeat"] == 1)
        summary = json.loads((out / "summary.json").read_text())
    failed = [one["outcome"] for one in attempts if one["outcome"] != "ok"]
    assert not failed, f"{len(failed)} attempts failed: {failed[0]}"
    efficiency = summary["cells"][0]["scheduling_efficiency"]
    return Run(
        trial["cpu"] / 1e9,
        [one["sent"] for one in attempts],
        [one["first_answer"] - one["sent"] for one in attempts],
        None if efficiency is None else efficiency["value"],
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
