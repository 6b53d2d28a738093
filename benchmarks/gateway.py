"""What `harness gateway` adds to a response, beside nginx as a plain reverse proxy.

    python -m benchmarks.gateway [--rounds 2] [--seconds 10] [--connections 1000]

A server in C (`verdict_server.c`, built with `cc`) sends streams of 50 chunks in 2 seconds, and
writes into each chunk when it was sent. A bare `asyncio.Protocol` on uvloop sends requests in an
open loop, so that 64 are in flight, and stamps what it receives: directly, through nginx
(`proxy_buffering off`, connections to the server kept open), and through `harness gateway`, in
turns. Both proxies have one process. A request begins on an open connection that is free.

- latency: from sending a request to the first byte of its response, and to its end without the
  time between the server's first write and its last one, which differs between responses; what a
  proxy adds is the difference to the median without one;
- delay of a chunk: from the server's write to the client's stamp; what a proxy adds is the
  difference to the same quantile without one;
- processor time: of the server, the proxy and the client, as a share of this machine.

Then each proxy has 1,000 requests in flight at once, all sent within a second.

Ends with 1 if the gateway misses one of these: at the median it adds at most 1 ms more than nginx
to the first byte and to the end; to a chunk it adds at the 99th percentile at most 5 ms more; no
request fails, also not with 1,000 at once. It ends with 2 if nginx or a compiler is missing, and
says so if the processors were busy for more than half of the time, as the figures then say little.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import uvloop

from benchmarks.verdict import HERE, built_server, known_server, raise_open_files

WAYS = ("direct", "nginx", "gateway")
TTFT_MS, CHUNKS, GAP_MS = 500, 50, 30
IN_FLIGHT = 64
MOST_OVER_MEDIAN_MS, MOST_OVER_CHUNK_MS, MOST_BUSY = 1.0, 5.0, 0.5
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    upstream known {{ server 127.0.0.1:{port}; keepalive 2048; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{own} backlog=4096;
        location / {{
            proxy_pass http://known;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""
_SENT = re.compile(rb'"sent_ns":(\d+),')
_END = b"\r\n0\r\n\r\n"
_TAIL = 64
"""Bytes that are kept of a piece, as a stamp of the server can be split."""


class Shape(NamedTuple):
    """A load: the form of a response, the requests, and the seconds in which they are sent."""

    ttft_ms: float
    chunks: int
    gap_ms: float
    requests: int
    seconds: float


class Measured(NamedTuple):
    """Milliseconds: to the first byte, to the end, and of each chunk; and the share of processors.

    `failed`: responses that were no whole stream.
    """

    first: Sequence[float]
    whole: Sequence[float]
    chunk: Sequence[float]
    busy: float
    proxy_cpu_us: float
    failed: int


class Place(NamedTuple):
    """Where requests go: a port, the path of the API, and the processes to count."""

    port: int
    path: str
    processes: tuple[int, ...]


class _Stream(asyncio.Protocol):
    """A connection with at most one request, which stamps what it receives."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._kept = b""
        self._seen = 0
        self._sent = self._written = self._last = 0
        self._is_first = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, request: bytes) -> None:
        """Send a request."""
        self._is_first, self._kept, self._seen = True, b"", 0
        self._sent = time.monotonic_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Stamp the chunks in a piece of a response."""
        at = time.monotonic_ns()
        if self._is_first:
            self._is_first = False
            self._load.first.append((at - self._sent) / 1e6)
        text = self._kept + data
        last = 0
        for found in _SENT.finditer(text):
            self._last = int(found[1])
            self._load.chunk.append((at - self._last) / 1e6)
            if not self._seen:
                self._written = self._last
            self._seen, last = self._seen + 1, found.end()
        self._kept = text[max(last, len(text) - _TAIL) :]
        if text.endswith(_END):
            of_server = self._last - self._written
            self._load.whole.append((at - self._sent - of_server) / 1e6)
            self._load.ended(self, self._seen == self._load.shape.chunks)

    def connection_lost(self, exc: Exception | None) -> None:
        if self not in self._load.free:
            self._load.ended(None, False)


class _Load:
    """An open loop of requests at one place."""

    def __init__(self, place: Place, shape: Shape) -> None:
        body = json.dumps({
            "model": "known", "stream": True,
            "messages": [{"role": "user", "content": "Topic: ocean tides. " * 8}],
        }).encode()  # fmt: skip
        head = (
            f"POST {place.path}/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{place.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.shape, self._port, self._request = shape, place.port, head.encode() + body
        self.first: list[float] = []
        self.whole: list[float] = []
        self.chunk: list[float] = []
        self.free: deque[_Stream] = deque()
        self.failed, self._left = 0, shape.requests
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connection(self) -> _Stream:
        """Open a connection."""
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: _Stream(self), "127.0.0.1", self._port)
        return stream

    def ended(self, stream: _Stream | None, whole: bool) -> None:
        """Note the end of a response; its connection is free again."""
        self.failed += not whole
        self._left -= 1
        if stream is not None:
            self.free.append(stream)
        if not self._left and not self._done.done():
            self._done.set_result(None)

    def begin(self) -> None:
        """Send a request on a free connection."""
        if self.free:
            self.free.popleft().send(self._request)
        else:
            self._late = asyncio.ensure_future(self._begin_late())

    async def _begin_late(self) -> None:
        (await self.connection()).send(self._request)

    async def run(self, connections: int) -> None:
        """Open connections, send all requests, and wait for their responses."""
        for _ in range(connections):
            self.free.append(await self.connection())
        loop = asyncio.get_running_loop()
        start = loop.time() + 0.1
        for number in range(self.shape.requests):
            loop.call_at(start + self.shape.seconds * number / self.shape.requests, self.begin)
        longest = self.shape.seconds + 60 + self.shape.chunks * self.shape.gap_ms / 1000
        await asyncio.wait_for(self._done, longest)


def cpu_s(process: int) -> float:
    """Return the seconds of processor time of a process so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(place: Place, shape: Shape, connections: int, server: int) -> Measured:
    """Run a load at a place, and count the processor time of all that take part."""
    counted = (os.getpid(), server, *place.processes)
    loads: list[_Load] = []

    async def whole() -> None:
        loads.append(_Load(place, shape))
        await loads[0].run(connections)

    before, began = [*map(cpu_s, counted)], time.monotonic()
    uvloop.run(whole())
    used = [cpu_s(one) - start for one, start in zip(counted, before, strict=True)]
    seconds = (time.monotonic() - began) * len(os.sched_getaffinity(0))
    found, proxy = loads[0], sum(used[2:]) / shape.requests * 1e6
    return Measured(found.first, found.whole, found.chunk, sum(used) / seconds, proxy, found.failed)


def nginx_program() -> str | None:
    """Return the path of nginx, None if it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(program: str, port: int, folder: Path) -> Iterator[Place]:
    """Run nginx in front of a port."""
    own = _free_port()
    settings = folder / "nginx.conf"
    settings.write_text(NGINX.format(folder=folder, port=port, own=own))
    command = [program, "-p", str(folder), "-c", str(settings), "-e", str(folder / "error.log")]
    with subprocess.Popen(command) as process:
        try:
            _wait_for(own)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield Place(own, "/v1", (process.pid, *map(int, children.split())))
        finally:
            process.terminate()


@contextmanager
def gateway(port: int, folder: Path) -> Iterator[Place]:
    """Run `harness gateway` in front of a port."""
    command = [sys.executable, "-m", "harness", "gateway", "--endpoint"]
    command += [f"http://127.0.0.1:{port}/v1", "--permits", "4096", "--out", str(folder / "run")]
    environment = {**os.environ, "NO_PROXY": "*", "PYTHONPATH": str(HERE.parent)}
    with subprocess.Popen(
        [*command, "--quiet"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"export OPENAI_BASE_URL=http://127\.0\.0\.1:(\d+)(/\S+)\n", line)
            assert found is not None, f"the gateway says {line!r}"
            process.stdout.readline()
            yield Place(int(found[1]), found[2], (process.pid,))
        finally:
            process.send_signal(signal.SIGKILL)  # its report is not needed


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _wait_for(port: int) -> None:
    import socket

    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def at_quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of some values."""
    return float(np.quantile(values, share))


def row(name: str, found: Measured) -> str:
    """Return a line of a table."""
    figures = [
        at_quantile(values, share)
        for values in (found.first, found.whole, found.chunk)
        for share in (0.5, 0.99)
    ]
    shown = "".join(f"{figure:10.2f}" for figure in figures)
    return f"{name:<9}{shown}{found.busy:7.0%}{found.proxy_cpu_us:9.0f}{found.failed:8}"


HEAD = (
    "               first byte, ms             end, ms           chunk, ms  busy  proxy's  failed\n"
    "               p50       p99       p50       p99       p50       p99          us a call"
)


def pooled(rounds: Sequence[Measured]) -> Measured:
    """Return the values of all rounds of one way together."""
    return Measured(
        [value for one in rounds for value in one.first],
        [value for one in rounds for value in one.whole],
        [value for one in rounds for value in one.chunk],
        statistics.mean(one.busy for one in rounds),
        statistics.mean(one.proxy_cpu_us for one in rounds),
        sum(one.failed for one in rounds),
    )


def missed(found: dict[str, Measured]) -> list[str]:
    """Return what the gateway misses."""
    ways, said = (found["nginx"], found["gateway"]), []
    for name, share, most in (
        ("first", 0.5, MOST_OVER_MEDIAN_MS), ("whole", 0.5, MOST_OVER_MEDIAN_MS),
        ("chunk", 0.99, MOST_OVER_CHUNK_MS),
    ):  # fmt: skip
        floor = at_quantile(getattr(found["direct"], name), share)
        other, own = (at_quantile(getattr(way, name), share) - floor for way in ways)
        line = f"{name}, p{100 * share:g}: nginx adds {other:.2f} ms, the gateway {own:.2f} ms"
        print(f"{line}; at most {other + most:.2f} ms")
        if own > other + most:
            said.append(line)
    return said


def main() -> int:
    """Print the tables and what is missed, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=1000)
    options = parser.parse_args()
    program = nginx_program()
    if program is None:
        print("skipped: nginx is not installed; install it to compare with it", file=sys.stderr)
        return 2
    raise_open_files()
    response_s = (TTFT_MS + CHUNKS * GAP_MS) / 1000
    requests = round(IN_FLIGHT / response_s * options.seconds)
    even = Shape(TTFT_MS, CHUNKS, GAP_MS, requests, options.seconds)
    many = Shape(3000, CHUNKS, 240, options.connections, 1.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = built_server(folder)
        if server is None:
            return 2
        rounds = _measured(server, program, folder / "even", even, 2 * IN_FLIGHT, options.rounds)
        found = {way: pooled(every) for way, every in rounds.items()}
        print(f"{IN_FLIGHT} in flight, {requests} requests, {options.rounds} rounds\n{HEAD}")
        print(*(row(way, one) for way, one in found.items()), sep="\n")
        said = missed(found)
        at_once = _measured(server, program, folder / "many", many, options.connections, 1)
        print(f"\n{options.connections} at once\n{HEAD}")
        print(*(row(way, one[0]) for way, one in at_once.items()), sep="\n")
    for way in (found["gateway"], at_once["gateway"][0]):
        if way.failed:
            said.append(f"{way.failed} requests through the gateway failed")
    if found["gateway"].busy > MOST_BUSY:
        print(f"\nthe processors were busy for more than {MOST_BUSY:.0%} of the time")
    for line in said:
        print(f"missed: {line}")
    return 1 if said else 0


def _measured(
    server: Path, program: str, folder: Path, shape: Shape, connections: int, rounds: int
) -> dict[str, list[Measured]]:
    """Measure each way in each round, in turns."""
    folder.mkdir()
    found: dict[str, list[Measured]] = defaultdict(list)
    form = (shape.chunks, shape.gap_ms, "stamped")
    with ExitStack() as running:
        log = folder / "log"
        before = _children()
        port = running.enter_context(known_server(server, shape.ttft_ms, log, *form))
        (known,) = _children() - before
        places = {
            "direct": Place(port, "/v1", ()),
            "nginx": running.enter_context(nginx(program, port, folder)),
            "gateway": running.enter_context(gateway(port, folder)),
        }
        warm = shape._replace(requests=connections, seconds=0.5)  # opens connections of proxies
        for way in WAYS[1:]:
            measure(places[way], warm, connections, known)
        for _ in range(rounds):
            for way in WAYS:
                found[way].append(measure(places[way], shape, connections, known))
    return found


def _children() -> set[int]:
    own = os.getpid()
    return set(map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split()))


if __name__ == "__main__":
    sys.exit(main())
