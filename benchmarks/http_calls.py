"""Processor time of a call over HTTP, by mode: plain, and a stream of 100 chunks. Simulated.

    python -m benchmarks.http_calls [--against PATH_OF_ANOTHER_CHECKOUT] [--rounds 5]

Runs `harness run` in client processes against one simulated provider in a process of its own, and
reads the processor time of each trial from its records. With `--against`, the client processes of
this checkout and of the other one take turns. The chunks come 1 ms apart, so that most of them are
read one by one. The floors read the same bytes with less code: aiohttp alone, 8 calls at once, and
one blocking socket, which has to wait for each chunk alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import uvloop

from harness.endpoints.simulated import settings
from harness.endpoints.subprocess_server import serving
from harness.transports.response_parser import ResponseParser

HERE = Path(__file__).parents[1]
MODES = ("async", "threads", "sync")
AIOHTTP, SOCKET = "aiohttp alone", "socket alone"
FLOORS = {"async": AIOHTTP, "threads": AIOHTTP, "sync": SOCKET}
KINDS = {"plain": False, "100 chunks": True}
"""Kinds of calls, and whether they are streams."""

AT_ONCE = 8
WORKFLOWS = 2
CALLS = WORKFLOWS * (AT_ONCE + 2)
TIME_SCALE = 0.1
SCENARIO = f"""
name = "http-calls"
[workflow]
topics = ["ocean tides"]
sub_questions = {AT_ONCE}
[load]
workflows = {WORKFLOWS}
in_flight = 1
[sweep]
mode = {json.dumps(MODES)}
permits = [{AT_ONCE}]
repeats = 3
[endpoint]
kind = "openai"
model = "simulated"
cache = "keep"
"""


def trials(checkout: Path, base_url: str, stream: bool) -> dict[str, list[float]]:
    """Run the scenario with the code of `checkout`; return milliseconds a call by mode.

    The first repeat is left out, because it loads modules.
    """
    with tempfile.TemporaryDirectory() as folder:
        scenario, out = Path(folder) / "scenario.toml", Path(folder) / "out"
        endpoint = settings({"base_url": base_url, "stream": stream})
        scenario.write_text(SCENARIO + "\n".join(endpoint) + "\n")
        environment = {**os.environ, "PYTHONPATH": str(checkout), "NO_PROXY": "*"}
        command = [
            sys.executable,
            "-m",
            "harness",
            "run",
            str(scenario),
            "--out",
            str(out),
            "--quiet",
        ]
        subprocess.run(
            command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        attempts = _lines(out / "attempts.jsonl")
        failed = [line for line in attempts if line["outcome"] != "ok"]
        assert not failed, f"{len(failed)} attempts failed: {failed[0]['outcome']}"
        # Some checkouts warm up the server first, and a trial's processor time contains that.
        sent = Counter((line["cell"], line["repeat"]) for line in attempts)
        took = defaultdict(list)
        for trial in _lines(out / "trials.jsonl"):
            if trial["repeat"] > 0:
                calls = sent[trial["cell"], trial["repeat"]]
                took[trial["cell"].split("_")[0]].append(trial["cpu"] / calls / 1e6)
        return took


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def floors(base_url: str, stream: bool) -> Iterator[tuple[str, float]]:
    """Read as many responses with less code; yield milliseconds a call, by floor."""
    body = {
        "model": "simulated",
        "stream": stream,
        "messages": [{"role": "user", "content": "Topic: ocean tides"}],
    }
    for number in range(3):
        before = time.process_time()
        uvloop.run(_with_aiohttp(base_url, body))
        between = time.process_time()
        _with_socket(base_url, json.dumps(body).encode())
        if number > 0:
            yield AIOHTTP, (between - before) / CALLS * 1e3
            yield SOCKET, (time.process_time() - between) / CALLS * 1e3


async def _with_aiohttp(base_url: str, body: Mapping[str, Any]) -> None:
    waiting = iter(range(CALLS))

    async def calls(session: aiohttp.ClientSession) -> None:
        for _ in waiting:
            async with session.post(f"{base_url}/chat/completions", json=body) as response:
                async for _part in response.content.iter_any():
                    pass

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(calls(session) for _ in range(AT_ONCE)))


def _with_socket(base_url: str, body: bytes) -> None:
    url = urlsplit(base_url)
    head = (
        f"POST {url.path}/chat/completions HTTP/1.1\r\nhost: {url.netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    parser = ResponseParser()
    with socket.create_connection((url.hostname, url.port)) as sock:
        for _ in range(CALLS):
            sock.sendall(head.encode() + body)
            while not parser.complete:
                parser.feed(sock.recv(65536))
                parser.take_body()
            parser.restart()


def show(kind: str, names: Sequence[str], took: Mapping[tuple[str, str], Sequence[float]]) -> None:
    """Print a table of one kind of calls: a row a mode, a column a checkout."""
    print(f"\n{kind}: milliseconds of processor time a call, median [quartiles]")
    for name in (AIOHTTP, SOCKET):
        print(f"{name:<14} {_spread(took[name, '']):>22}")
    for mode in MODES:
        line, floor = f"{mode:<14}", statistics.median(took[FLOORS[mode], ""])
        for name in names:
            median = statistics.median(took[mode, name])
            line += f" {_spread(took[mode, name]):>22}, {median / floor:4.1f} floors"
        if len(names) > 1:
            ratios = [a / b for a, b in zip(*(took[mode, name] for name in names), strict=True)]
            line += f"   this / other {_spread(ratios)}"
        print(line)
    for name in names:
        threads, sync = (
            statistics.median(took[mode, name]) / statistics.median(took["async", name])
            for mode in MODES[1:]
        )
        print(f"{name}: threads / async {threads:.2f}, sync / async {sync:.2f}")


def _spread(values: Sequence[float]) -> str:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{median:.2f} [{low:.2f} to {high:.2f}]"


def main() -> int:
    """Measure in rounds and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_calls")
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    checkouts = {"this": HERE}
    if options.against is not None:
        checkouts["other"] = options.against.resolve()
    provider = ["serve", "streams", "--json", "--until-stdin-closes", "--port", "0"]
    provider += ["--time-scale", str(TIME_SCALE), "--set", 'ttft.median = "10ms"']
    took: dict[str, dict[tuple[str, str], list[float]]] = {
        kind: defaultdict(list) for kind in KINDS
    }
    with serving("the simulated provider", "harness", provider) as base_url:
        for _ in range(options.rounds):
            for kind, stream in KINDS.items():
                for name, value in floors(base_url, stream):
                    took[kind][name, ""].append(value)
                for name, checkout in checkouts.items():
                    for mode, values in trials(checkout, base_url, stream).items():
                        took[kind][mode, name] += values
    print(f"{options.rounds} rounds of 2 trials of {CALLS} calls, simulated provider")
    for kind in KINDS:
        show(kind, list(checkouts), took[kind])
    return 0


if __name__ == "__main__":
    sys.exit(main())
