"""Other load generators beside the clients of a run and the least that is possible.

    python -m benchmarks.peers [--rounds 1] [--only cost|streams|bursts] [NAME ...]
        [--aiperf PROGRAM] [--guidellm PROGRAM] [--locust PROGRAM] [--vllm PROGRAM]

Each generator is installed by the user, in an environment of its own; a program that no option
names is looked for on the PATH. A generator that is not installed is said to be missing. Without
NAMEs, all that are installed are measured, and `wire` and `openai` (`harness run`); the floor
always is. All take turns in each round, at a server in C whose times are known
(`verdict_server.c`).

cost: processor time of a call (user and system, of all processes), 64 at once: whole bodies, and
    streams of 100 chunks 5 ms apart. A program is run twice, with a number of calls and with twice
    as many: the difference, divided by the calls that it has more, has no start-up in it. That of
    `harness run` has the reports in it which it writes at the end; a row of its own has the trial
    alone. The floor is measured inside its process.
streams: N streams at once after N that open the connections, first token after 200 ms: the time to
    first token that each program reports, beside when the requests reached the server.
bursts: the same with five requests for each stream, one after another, and none before: the first
    burst opens the connections.

Ends with 1 if a program failed, and with 2 if one that is named is not installed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from benchmarks.known_loads import (
    AT_ONCE,
    CLIENTS,
    FLOOR,
    TTFT_MS,
    Shape,
    bare,
    harness_command,
    harness_environment,
    harness_run,
)
from benchmarks.peers_programs import RIVALS, Reported, Rival, write_prompts
from benchmarks.process_tree import Ended, run_counted
from benchmarks.verdict import built_server, known_server, raise_open_files

WITHIN_S = 300
STREAMS = (64, 256, 1000)
IN_A_ROW = 5
MORE_CALLS_OF_OURS = 4
COSTS = (
    ("whole bodies", Shape(10, 0, 5, 1_024, AT_ONCE)),
    ("100 chunks", Shape(10, 100, 5, 256, AT_ONCE)),
)
_Loaded = TypeVar("_Loaded")


class Measurement(NamedTuple):
    """Times of a load in ms. `server_*`: of the first token, as the server logged it."""

    p50_ms: float
    p99_ms: float
    server_p50_ms: float
    server_p99_ms: float
    burst_ms: float


class RunFailedError(Exception):
    """A program did not do what it was asked for; the message says what it printed."""


def last_served(log: Any, calls: int) -> Any:
    """Return the rows of the calls that arrived last, in the order of their arrival.

    `log`: rows of the server's log: number, arrival and first token in nanoseconds. Calls before
    them only opened connections, or checked whether the server is there.
    """
    rows = log[np.argsort(log[:, 1], kind="stable")]
    if len(rows) < calls:
        raise RunFailedError(f"the server answered {len(rows)} of {calls} requests")
    return rows[-calls:]


def measurement(p50_ms: float, p99_ms: float, log: Any, shape: Shape) -> Measurement:
    """Put what a program says beside the log of the server."""
    served = last_served(log, shape.calls)
    true = (served[:, 2] - served[:, 1]) / 1e6
    first = served[: shape.at_once, 1]
    return Measurement(
        p50_ms, p99_ms, float(np.quantile(true, 0.5)), float(np.quantile(true, 0.99)),
        float(first[-1] - first[0]) / 1e6,
    )  # fmt: skip


class Spent(NamedTuple):
    """Seconds of processor time: of a whole program, and of its trial if it is `harness run`."""

    whole_s: float
    trial_s: float | None = None


class Cost(NamedTuple):
    """Microseconds of processor time of a call, as in `Spent`."""

    whole_us: float
    trial_us: float | None = None


def cost_of(single: Spent, double: Spent, calls: int) -> Cost:
    """Return what a call costs. `single`, `double`: of N and of 2N calls."""
    whole_us = (double.whole_s - single.whole_s) / calls * 1e6
    if single.trial_s is None or double.trial_s is None:
        return Cost(whole_us)
    return Cost(whole_us, (double.trial_s - single.trial_s) / calls * 1e6)


def trial_s(folder: Path) -> float:
    """Return the seconds of processor time of the trial that a run in a folder recorded."""
    (line,) = (folder / "out" / "trials.jsonl").read_text().splitlines()
    return float(json.loads(line)["cpu"]) / 1e9


def _checked(ended: Ended, name: str) -> None:
    if ended.code != 0:
        raise RunFailedError(f"{name} ended with exit code {ended.code}:\n{ended.last_lines}")


class Bench:
    """The server, the programs that are measured, and what has been printed of them."""

    def __init__(self, server: Path, programs: Mapping[str, str]) -> None:
        self._server, self._programs = server, programs
        self._printed: set[str] = set()

    def _run(
        self, shape: Shape, load: Callable[[int, Path], _Loaded]
    ) -> tuple[_Loaded, Any]:  # fmt: skip
        """Run a load at a server of its own; return its result and the server's log."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            log = folder / "log"
            with known_server(self._server, shape.ttft_ms, log, shape.chunks, shape.gap_ms) as port:
                found = load(port, folder)
            return found, np.loadtxt(log, np.int64, ndmin=2)

    def _rival(self, name: str, shape: Shape, port: int, folder: Path) -> tuple[Ended, Reported]:
        rival = RIVALS[name]
        write_prompts(folder, shape)
        command = rival.command(self._programs[name], port, shape, folder)
        environment = {"NO_PROXY": "*", **rival.environment(shape)}
        self._print_once(name, command, environment)
        ended = run_counted(command, folder, environment, WITHIN_S)
        _checked(ended, name)
        reported = rival.reported(folder, shape)
        if reported.failed or not reported.done:
            raise RunFailedError(
                f"{name} reports {reported.done} calls that succeeded and {reported.failed} that "
                f"did not:\n{ended.last_lines}"
            )
        return ended, reported

    def _print_once(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        if name not in self._printed:
            self._printed.add(name)
            settings = (f"{key}={shlex.quote(value)}" for key, value in environment.items())
            print(f"  $ {' '.join(settings)} {shlex.join(command)}", flush=True)

    def processor_time(self, name: str, shape: Shape) -> Spent:
        """Return the processor time of a program, from its start to its end."""

        def load(port: int, folder: Path) -> Spent:
            if name in RIVALS:
                return Spent(self._rival(name, shape, port, folder)[0].cpu_s)
            command = harness_command(name, port, shape, folder, 1)
            ended = run_counted(command, folder, harness_environment(), WITHIN_S)
            _checked(ended, name)
            return Spent(ended.cpu_s, trial_s(folder))

        spent, log = self._run(shape, load)
        last_served(log, shape.calls)
        return spent

    def cost(self, name: str, shape: Shape) -> Cost:
        """Return what a call costs."""
        if name == FLOOR:
            found, _ = self._run(shape, lambda port, _: bare(port, shape, in_step=False))
            return Cost(found.cost_us)
        calls = shape.calls * (RIVALS[name].more_calls if name in RIVALS else MORE_CALLS_OF_OURS)
        single, double = (
            self.processor_time(name, shape._replace(calls=calls * times)) for times in (1, 2)
        )
        return cost_of(single, double, calls)

    def times(self, name: str, shape: Shape) -> Measurement:
        """Return the time to first token that a program reports, beside the server's log."""

        def load(port: int, folder: Path) -> tuple[float, float]:
            if name in RIVALS:
                _, reported = self._rival(name, shape, port, folder)
                if reported.p50_ms is None or reported.p99_ms is None:
                    raise RunFailedError(f"{name} reports no time to first token")
                return reported.p50_ms, reported.p99_ms
            run = (
                bare(port, shape, in_step=True) if name == FLOOR
                else harness_run(name, port, shape)
            )  # fmt: skip
            p50, p99 = (TTFT_MS + run.error_ms(share) for share in (0.5, 0.99))
            return p50, p99

        (p50_ms, p99_ms), log = self._run(shape, load)
        return measurement(p50_ms, p99_ms, log, shape)


def in_turns(
    names: Sequence[str], rounds: int, measure: Callable[[str], _Loaded]
) -> tuple[dict[str, list[_Loaded]], int]:
    """Return what each program gave in each round, and how many runs failed."""
    found: dict[str, list[_Loaded]] = defaultdict(list)
    failures = 0
    for _ in range(rounds):
        for name in names:
            try:
                value = measure(name)
            except (RunFailedError, TimeoutError) as error:
                failures += 1
                print(f"  {name} FAILED and is not counted: {error}", flush=True)
            else:
                found[name].append(value)
    return found, failures


def cost(bench: Bench, names: Sequence[str], rounds: int) -> int:
    """Print what a call costs; return how many runs failed."""
    failures = 0
    for kind, shape in COSTS:
        able = [
            name for name in names
            if shape.chunks or name not in RIVALS or not RIVALS[name].chunks_only
        ]  # fmt: skip
        print(
            f"\n{kind}: microseconds of processor time a call, median of {rounds} [least to most]"
        )
        for name in names:
            if name not in able:
                print(f"  {name:<14} not measured: it requests streams only")
        found, failed = in_turns((FLOOR, *able), rounds, partial(bench.cost, shape=shape))
        failures += failed
        rows = cost_rows(found)
        for name, costs in rows.items():
            print(
                f"  {name:<17} {statistics.median(costs):9.1f} [{min(costs):.1f} to "
                f"{max(costs):.1f}]{ratios(name, rows)}",
                flush=True,
            )
    return failures


def cost_rows(found: Mapping[str, Sequence[Cost]]) -> dict[str, list[float]]:
    """Return the microseconds of each row of the table; a trial has a row of its own."""
    rows: dict[str, list[float]] = {}
    for name, costs in found.items():
        rows[name] = [one.whole_us for one in costs]
        trials = [one.trial_us for one in costs if one.trial_us is not None]
        if trials:
            rows[f"{name}, the trial"] = trials
    return rows


def ratios(name: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Return how a cost compares with that of the floor and of `wire`."""
    mine = statistics.median(rows[name])
    return "".join(
        f"  {mine / statistics.median(rows[other]):7.2f} x {other}"
        for other in (FLOOR, "wire")
        if other != name and other in rows
    )


def _print_times(bench: Bench, names: Sequence[str], rounds: int, shapes: Sequence[Shape]) -> int:
    failures = 0
    for shape in shapes:
        found, failed = in_turns((FLOOR, *names), rounds, partial(bench.times, shape=shape))
        failures += failed
        for name, runs in found.items():
            middle = Measurement(*(statistics.median(one) for one in zip(*runs, strict=True)))
            print(
                f"  {shape.at_once:>5} {name:<14} reports p50 {middle.p50_ms:7.1f}  p99 "
                f"{middle.p99_ms:7.1f}   the server p50 {middle.server_p50_ms:6.1f}  p99 "
                f"{middle.server_p99_ms:6.1f}   all arrived within {middle.burst_ms:7.1f}",
                flush=True,
            )
    return failures


def streams(bench: Bench, names: Sequence[str], rounds: int) -> int:
    """Print the time to first token of one burst over open connections."""
    print(f"\none burst of streams, truth {TTFT_MS} ms: milliseconds, medians of {rounds} rounds")
    shapes = [Shape(TTFT_MS, 2, 10, number, number, number) for number in STREAMS]
    return _print_times(bench, names, rounds, shapes)


def bursts(bench: Bench, names: Sequence[str], rounds: int) -> int:
    """Print the time to first token of bursts, of which the first opens the connections."""
    print(
        f"\n{IN_A_ROW} requests for each stream, no warm-up, truth {TTFT_MS} ms: milliseconds, "
        f"medians of {rounds} rounds; the first burst arrived within"
    )
    shapes = [Shape(TTFT_MS, 2, 10, IN_A_ROW * number, number) for number in STREAMS]
    return _print_times(bench, names, rounds, shapes)


PARTS = {"cost": cost, "streams": streams, "bursts": bursts}


def installed_version(program: str, rival: Rival) -> str:
    """Return the version that is installed beside a program, or a word that says it is unknown."""
    package = rival.package.partition("==")[0].partition("[")[0]
    python = Path(program).resolve().parent / "python"
    found = subprocess.run(
        [str(python), "-c", f"import importlib.metadata as m; print(m.version({package!r}))"],
        capture_output=True, text=True,
    ) if python.exists() else None  # fmt: skip
    return found.stdout.strip() if found is not None and found.returncode == 0 else "unknown"


def programs_of(options: argparse.Namespace) -> dict[str, str]:
    """Return the programs that are installed.

    Raises `ValueError` for an option whose program does not exist, and for a name on the command
    line that is not installed.
    """
    programs: dict[str, str] = {}
    for name, rival in RIVALS.items():
        given: str | None = getattr(options, name)
        found = shutil.which(given or name)
        if found is not None:
            programs[name] = str(Path(found).absolute())
        elif given is not None:
            raise ValueError(f"--{name} {given}: there is no such program")
        elif name in options.names:
            raise ValueError(
                f"{name} is not installed: pip install {rival.package} in an environment of its "
                f"own, then --{name} PATH/bin/{name}"
            )
    return programs


def main() -> int:
    """Measure the parts and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=PARTS)
    for rival in RIVALS.values():
        parser.add_argument(f"--{rival.name}", metavar="PROGRAM", help=f"of {rival.package}")
    known = (*CLIENTS, *RIVALS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(known)}")
    options = parser.parse_args()
    for name in options.names:
        if name not in known:
            parser.error(f"{name}: not one of {', '.join(known)}")
    try:
        programs = programs_of(options)
    except ValueError as error:
        parser.error(str(error))
    names = [name for name in known if not options.names or name in options.names]
    for name in (name for name in names if name in RIVALS and name not in programs):
        print(f"{name}: not installed, so not measured (pip install {RIVALS[name].package})")
    names = [name for name in names if name in CLIENTS or name in programs]
    for name in (name for name in names if name in RIVALS):
        version = installed_version(programs[name], RIVALS[name])
        print(f"{name} {version}: {programs[name]}")
    raise_open_files()
    with tempfile.TemporaryDirectory() as folder:
        server = built_server(Path(folder))
        if server is None:
            return 2
        bench = Bench(server, programs)
        parts = [options.only] if options.only else list(PARTS)
        failures = sum(PARTS[part](bench, names, options.rounds) for part in parts)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
