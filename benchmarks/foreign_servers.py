"""What the harness adds to the times of a server that nobody here wrote, against a bare client.

    python -m benchmarks.foreign_servers --endpoint URL --model M [--rounds 60] [--max-tokens 64]

The bare client is one blocking socket in a process of its own: it stamps what it receives, and
reads it when the response is complete. Each mode of the harness has a process of its own too, and
makes calls as in a run. In each round, all of them send the same streamed request, one after
another in a random order, over kept connections.

Four times are compared: from sending the request to the first token and to the end of the response,
between two chunks of text (the median of a response), and of the whole call, in which the harness
also builds the request. The difference of the medians, and its 95 % interval over the rounds
(paired bootstrap), must lie within 3 ms or 2 % of the bare client's median, whichever is larger.
Ends with 1 if one does not, and with 2 if the server's answers cannot be compared.

On a busy machine, differences of milliseconds are chance: run this and the server with priority.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TextIO
from urllib.parse import urlsplit

import numpy as np

from harness.bench.modes import MODES
from harness.engine.attempt import CallTerms, CallTimeouts
from harness.engine.budget_gate import Gate
from harness.engine.call import complete
from harness.engine.effects import Message, Program, Reply, Request, Send, fan_out
from harness.engine.ledger import Amount, BudgetLimits
from harness.policies.no_retry import NoRetryRule
from harness.policies.stack import Stack
from harness.records.clock import SECOND, monotonic_since, take_anchor
from harness.records.failures import OK
from harness.records.histogram import quantile
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Call, Record
from harness.transports.request_bodies import request_body
from harness.transports.target import Target

BARE = "bare"
FIGURES = ("first token", "between chunks", "response", "whole call")
MOST_MS, MOST_SHARE = 3.0, 0.02
RESAMPLES = 4000
PAUSE = 0.05
"""Seconds before each request: some servers still work after a response, and who asks at once would
wait for it."""
PROMPT = "Why do the tides come twice a day? Answer in a few sentences."


class Times(NamedTuple):
    """The times of one response in milliseconds; None where there are too few chunks."""

    first: float | None
    gap: float | None
    response: float
    call: float


# The bare client


def exchange(sock: socket.socket, request: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """Send a request; return when, and the received pieces with their times, to the last one."""
    pieces: list[tuple[int, bytes]] = []
    received = b""
    sent = time.monotonic_ns()
    sock.sendall(request)
    while not _is_complete(received):
        piece = sock.recv(65536)
        pieces.append((time.monotonic_ns(), piece))
        if not piece:
            break
        received += piece
    return sent, pieces


def _is_complete(received: bytes) -> bool:
    head, blank, body = received.partition(b"\r\n\r\n")
    if not blank:
        return False
    length = _header(head, b"content-length")
    if length is not None:
        return len(body) >= int(length)
    return _header(head, b"transfer-encoding") is not None and body.endswith(b"0\r\n\r\n")


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


def read(sent: int, pieces: Sequence[tuple[int, bytes]]) -> Times:
    """Return the times of a response; its last event ends the call, as in the harness."""
    received = b"".join(piece for _, piece in pieces)
    ends = np.cumsum([len(piece) for _, piece in pieces])
    head, _, _ = received.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise SystemExit(f"the server does not answer: {received[:300]!r}")
    chunked = _header(head, b"transfer-encoding") is not None
    texts, done = [], pieces[-1][0]
    for line, end in _lines(received, len(head) + 4, chunked):
        at = pieces[int(np.searchsorted(ends, end))][0]
        if line.startswith(b"data:") and line[5:].strip() == b"[DONE]":
            done = at
        elif line.startswith(b"data:") and _has_text(line[5:]):
            texts.append(at)
    return _times(sent, texts, done)


def _lines(received: bytes, begin: int, chunked: bool) -> Iterator[tuple[bytes, int]]:
    """Yield each line of the body with the position of its blank line in what was received."""
    line = b""
    for part, start in _parts(received, begin, chunked):
        for at, byte in enumerate(part):
            if byte != 10:
                line += bytes([byte])
            elif line.strip():
                # The event ends with the blank line, one line feed later.
                yield line, min(start + at + 2, len(received))
                line = b""


def _parts(received: bytes, at: int, chunked: bool) -> Iterator[tuple[bytes, int]]:
    """Yield the parts of a body with their positions (RFC 9112, section 7.1)."""
    if not chunked:
        yield received[at:], at
        return
    while at < len(received):
        size, _, _ = received[at:].partition(b"\r\n")
        at += len(size) + 2
        length = int(size.split(b";")[0], 16)
        if length == 0:
            return
        yield received[at : at + length], at
        at += length + 2


def _has_text(data: bytes) -> bool:
    for choice in json.loads(data).get("choices") or ():
        delta = choice.get("delta") or {}
        if delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning"):
            return True
    return False


def _times(sent: int, texts: Sequence[int], done: int) -> Times:
    gaps = [later - earlier for earlier, later in itertools.pairwise(texts)]
    return Times(
        (texts[0] - sent) / 1e6 if texts else None,
        statistics.median(gaps) / 1e6 if gaps else None,
        (done - sent) / 1e6,
        (done - sent) / 1e6,
    )


def be_bare(target: Target, request: Request, turns: TextIO) -> None:
    """Answer each line of `turns` with the times of one request over a kept connection."""
    url = urlsplit(target.base_url)
    body = json.dumps(request_body(target, request), separators=(",", ":")).encode()
    key = f"authorization: Bearer {target.api_key}\r\n"
    head = (
        f"POST {url.path}/chat/completions HTTP/1.1\r\nhost: {url.netloc}\r\n{key}"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    address = url.hostname or "", url.port or 80
    sock: socket.socket | None = None
    for _ in turns:
        if sock is None:
            sock = socket.create_connection(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent, pieces = exchange(sock, head.encode() + body)
        if not pieces[-1][1] or b"connection: close" in pieces[0][1].lower():
            sock.close()
            sock = None
        print(json.dumps(read(sent, pieces)), flush=True)


# The harness


class _Unlimited:
    """Counts nothing."""

    most = Amount()

    def worst(self, effect: Send) -> Amount:
        return Amount()

    def used(self, worst: Amount, reply: Reply) -> Amount:
        return worst


def be_harness(mode: str, target: Target, request: Request, turns: TextIO) -> None:
    """Answer each line of `turns` with the times of one call in `mode`."""
    now = monotonic_since(target.anchor)
    limit = 600 * SECOND
    limits = CallTimeouts(limit, limit, limit, limit)
    terms = CallTerms(Stack([], NoRetryRule()), limits, False, lambda _: random.Random(0))
    records: list[Record] = []

    def call(number: int) -> Program[None]:
        key = CallKey(mode, 0, number, 0, "fan_out", 0, 1)
        yield from complete(terms, key, request, now())

    def program() -> Program[None]:
        for number, _ in enumerate(turns):
            records.clear()
            yield from fan_out([call(number)])
            [attempt] = [one for one in records if isinstance(one, Attempt)]
            [done] = [one for one in records if isinstance(one, Call)]
            if attempt.outcome not in (OK, "truncated"):  # at `max_tokens`
                raise SystemExit(f"{mode}: {attempt.outcome} {attempt.error_body or ''}")
            gap, first = quantile(attempt.gaps, 0.5), attempt.ttft
            assert attempt.sent is not None, "it succeeded"
            times = Times(
                None if first is None else first / 1e6,
                None if gap is None else gap / 1e6,
                (attempt.done - attempt.sent) / 1e6,
                (done.done - done.ready) / 1e6,
            )
            print(json.dumps(times), flush=True)

    gate = Gate(BudgetLimits(), _Unlimited(), now)
    MODES[mode](program(), target, 1, now, records.append, gate)


# The comparison


@contextmanager
def client(name: str, options: argparse.Namespace) -> Iterator[subprocess.Popen[str]]:
    """Start the process of one client."""
    command = [sys.executable, "-m", "benchmarks.foreign_servers", "--client", name]
    for option in ("endpoint", "model", "max_tokens"):
        command += [f"--{option.replace('_', '-')}", str(getattr(options, option))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()


def ask(process: subprocess.Popen[str]) -> Times:
    """Let a client send one request."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(2)
    return Times(*json.loads(line))


def measure(options: argparse.Namespace) -> dict[str, list[Times]]:
    """Return the times of each client, a response a round; two rounds before them warm up."""
    names = [BARE, *MODES]
    found: dict[str, list[Times]] = {name: [] for name in names}
    with ExitStack() as ending:
        clients = {name: ending.enter_context(client(name, options)) for name in names}
        for number in range(options.rounds + 2):
            random.shuffle(names)
            for name in names:
                time.sleep(PAUSE)
                times = ask(clients[name])
                if number > 1:
                    found[name].append(times)
    return found


class Difference(NamedTuple):
    """The medians of both, and the difference with its 95 % interval, in milliseconds."""

    bare: float
    harness: float
    low: float
    high: float

    @property
    def limit(self) -> float:
        """How large the difference may be."""
        return max(MOST_MS, MOST_SHARE * self.bare)

    @property
    def is_small(self) -> bool:
        """Return whether the whole interval lies within the limit."""
        return -self.limit <= self.low <= self.high <= self.limit


def compare(bare: Sequence[float], harness: Sequence[float]) -> Difference:
    """Compare two clients by rounds."""
    pairs = np.array([bare, harness])
    drawn = np.random.default_rng(7).integers(0, len(bare), (RESAMPLES, len(bare)))
    medians = np.median(pairs[:, drawn], axis=2)
    low, high = np.percentile(medians[1] - medians[0], [2.5, 97.5])
    before, after = np.median(pairs, axis=1)
    return Difference(float(before), float(after), float(low), float(high))


def show(found: Mapping[str, Sequence[Times]]) -> bool:
    """Print a row for each time and mode; return whether all differences are small."""
    print(
        f"{'':<16}{'mode':<9}{'bare':>10}{'harness':>10} {'difference':>24}{'limit':>7}   p50, ms"
    )
    kept = True
    for at, figure in enumerate(FIGURES):
        bare: list[Any] = [times[at] for times in found[BARE]]
        for mode in MODES:
            ours: list[Any] = [times[at] for times in found[mode]]
            if None in bare or None in ours:
                print(f"{figure:<16}{mode:<9}  not in all responses")
                continue
            seen = compare(bare, ours)
            kept &= seen.is_small
            spread = f"{seen.harness - seen.bare:+.2f} [{seen.low:+.2f}, {seen.high:+.2f}]"
            print(
                f"{figure:<16}{mode:<9}{seen.bare:>10.2f}{seen.harness:>10.2f} {spread:>24}"
                f"{seen.limit:>7.1f}{'' if seen.is_small else '   TOO LARGE'}"
            )
    return kept


def main() -> int:
    """Measure, or be one of the clients."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.foreign_servers")
    parser.add_argument("--endpoint", required=True, help="base URL, http:// only")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if urlsplit(options.endpoint).scheme != "http":
        parser.error("the bare client speaks plain HTTP: give a URL with http://")
    if options.client is None:
        return 0 if show(measure(options)) else 1
    target = Target(
        base_url=options.endpoint.rstrip("/"), api_key=os.environ.get("API_KEY", "none"),
        model=options.model, stream=True, extra_body={}, run_id="foreign", anchor=take_anchor(),
        simulated=False,
    )  # fmt: skip
    request = Request((Message("user", PROMPT),), max_tokens=options.max_tokens)
    if options.client == BARE:
        be_bare(target, request, sys.stdin)
    else:
        be_harness(options.client, target, request, sys.stdin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
