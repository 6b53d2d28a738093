"""Whether the verdict is right: runs against a server whose time to first token is known.

    python -m benchmarks.verdict [--repeats 3] [--streams 64,1000] [--ttft 50] [--modes async]

The server (`verdict_server.c`, built with `cc`) sends the first token of each response 50 or 2,000
ms after the request, and logs both times. `harness run` starts all streams at once, in a process of
its own. The client's error is what it measured over what the server logged, in three figures: the
median and the 99th percentile of the time to first token, and the median of client wait plus time
to first token, in which the truth has no client wait.

The verdict must be `client` if one of the errors is above 5 %, and `none` if all are below 1 %. In
between, either is right. Ends with 1 if a verdict is wrong, and with 2 if there is no compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
WRONG, RIGHT = 0.05, 0.01
TTFTS = (50, 2000)
STREAMS = (4, 64, 256, 1000, 4000)
MOST_THREADS = 256
SYNC_CALLS = 20
ONE_CALL = """
[workflow]
kind = "agent"
topics = ["ocean tides"]
steps = 1
tools = 0
[endpoint]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
model = "known"
"""
"""The part of a scenario in which each workflow is one call of the known server at a `port`."""
SCENARIO = (
    'name = "verdict"'
    + ONE_CALL
    + """
[load]
workflows = {workflows}
in_flight = {streams}
warmup_calls = 0
[timeouts]
connect = "10m"
[sweep]
mode = ["{mode}"]
permits = [{streams}]
repeats = 1
"""
)


class Case(NamedTuple):
    """One row of the table: mode, streams at once, and the time to first token in milliseconds."""

    mode: str
    streams: int
    ttft: int


class Outcome(NamedTuple):
    """True and measured percentiles in ms, the three errors, and the verdict."""

    truth: tuple[float, float]
    measured: tuple[float, float, float]
    errors: tuple[float, float, float]
    verdict: str

    @property
    def is_right(self) -> bool:
        """Return whether the verdict agrees with the errors."""
        worst = max(map(abs, self.errors))
        return (
            self.verdict == "client" if worst > WRONG else worst > RIGHT or self.verdict == "none"
        )


def built_server(folder: Path, *, with_tls: bool = False) -> Path | None:
    """Build the server; None, and a line, without a C compiler, or without OpenSSL for TLS."""
    compiler = shutil.which("cc")
    if compiler is None:
        print("skipped: there is no C compiler (cc) to build the server with", file=sys.stderr)
        return None
    program = folder / "server"
    source = str(HERE / "verdict_server.c")
    command = [compiler, "-O2", "-o", str(program), source]
    if with_tls:
        command += ["-DWITH_TLS", "-lssl", "-lcrypto"]
    if subprocess.run(command, check=not with_tls).returncode:
        print("skipped: TLS needs the headers of OpenSSL (libssl-dev)", file=sys.stderr)
        return None
    return program


@contextmanager
def known_server(program: Path, ttft: float, log: Path, *form: object) -> Iterator[int]:
    """Run the server and return its port.

    `form`: the chunks of a response, their gap in ms, and what else the server can be told.
    """
    command = [str(program), str(ttft), str(log), *map(str, form)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()


def measure(program: Path, case: Case) -> Outcome:
    """Run one case with `harness run` and compare what both sides say."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, scenario, out = (folder / name for name in ("log", "scenario.toml", "out"))
        with known_server(program, case.ttft, log) as port:
            workflows = SYNC_CALLS if case.mode == "sync" else case.streams
            scenario.write_text(
                SCENARIO.format(
                    port=port, workflows=workflows, streams=case.streams, mode=case.mode
                )
            )
            command = [sys.executable, "-m", "harness", "run", str(scenario), "--out", str(out)]
            subprocess.run(
                [*command, "--quiet"],
                env={**os.environ, "NO_PROXY": "*", "PYTHONPATH": str(HERE.parent)},
                stdout=subprocess.DEVNULL,
                check=True,
            )
        served = np.loadtxt(log, np.int64, ndmin=2)
        attempts = [json.loads(line) for line in (out / "attempts.jsonl").read_text().splitlines()]
        summary = json.loads((out / "summary.json").read_text())
    outcomes = Counter(one["outcome"] for one in attempts)
    assert len(served) == outcomes["ok"] == workflows, f"of {len(served)} requests: {outcomes}"
    return compare(served[:, 2] - served[:, 1], attempts, summary["verdict"]["bottleneck"])


def compare(served: Any, attempts: Sequence[dict[str, Any]], verdict: str) -> Outcome:
    """Return the percentiles of both sides. `served`: nanoseconds, as the server logged them."""
    ttft = [one["first_answer"] - one["sent"] for one in attempts]
    whole = [one["first_answer"] - one["permit_granted"] for one in attempts]
    p50, p99 = np.quantile(served, (0.5, 0.99)) / 1e6
    measured = [float(np.quantile(*one)) / 1e6 for one in ((ttft, 0.5), (ttft, 0.99), (whole, 0.5))]
    errors = [one / true - 1 for one, true in zip(measured, (p50, p99, p50), strict=True)]
    return Outcome((p50, p99), (*measured,), (*errors,), verdict)  # type: ignore[arg-type]


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases: a thread a stream up to 256, and one stream in sync."""
    for ttft in options.ttft:
        for mode in options.modes:
            if mode == "sync":
                yield Case(mode, 1, ttft)
                continue
            for streams in options.streams:
                if mode == "async" or streams <= MOST_THREADS:
                    yield Case(mode, streams, ttft)


def raise_open_files() -> None:
    """Allow this process and those that it starts as many open files as the system permits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def main() -> int:
    """Print a line a run and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdict")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--streams", type=_numbers, default=STREAMS)
    parser.add_argument("--ttft", type=_numbers, default=TTFTS, help="in milliseconds")
    parser.add_argument(
        "--modes", type=lambda text: tuple(text.split(",")), default=("async", "threads", "sync")
    )
    options = parser.parse_args()
    raise_open_files()
    wrong = 0
    print(f"{'':<22} {'true ms':>15} {'measured ms':>23} {'error':>25}")
    print(f"{'mode':<8}{'ttft':>5} {'streams':>8} {'p50':>7} {'p99':>7} {'p50':>7} {'p99':>7} "
          f"{'+ wait':>7} {'p50':>8} {'p99':>8} {'+ wait':>8}  verdict")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        program = built_server(Path(name))
        if program is None:
            return 2
        for case in cases(options):
            for _ in range(options.repeats):
                found = measure(program, case)
                wrong += not found.is_right
                times = " ".join(f"{one:7.1f}" for one in (*found.truth, *found.measured))
                errors = " ".join(f"{one:+8.1%}" for one in found.errors)
                print(
                    f"{case.mode:<8}{case.ttft:>5} {case.streams:>8} {times} {errors}  "
                    f"{found.verdict}{'' if found.is_right else ' WRONG'}",
                    flush=True,
                )
    print(f"{wrong} wrong" if wrong else "every verdict is right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
