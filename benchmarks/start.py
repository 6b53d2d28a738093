"""How long commands take to start, beside the imports that a request needs. Simulated.

    python -m benchmarks.start [ROUNDS]

In each of at least two rounds, every command runs once in a new process. There are two floors: an
empty program, and the import of the SDK, its HTTP client and pydantic. Prints medians and quartiles
of processor seconds, and of the ratios to the import of the same round. The first request is that
of a run whose endpoint refuses it, which ends the run; its processor time is that of the run and of
the simulated provider. The time until the request was sent is printed, too. Then prints the share
of each package in the time of the imports (`-X importtime`). Ends with 1 when a ratio exceeds its
bound.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.records.clock import SECOND
from harness.store.run_directory import read_records

ROUNDS = 15
NAMED = 5
"""How many packages are named in a share."""
STANDARD = "standard library"

CHECKOUT = Path(__file__).parent.parent
REFUSED = """
name = "first-request"
[workflow]
topics = "a topic"
[endpoint]
time_scale = 0.001
faults = [{ kind = "unauthorized", probability = 1.0 }]
"""


class Command(NamedTuple):
    """Arguments of Python, the expected exit code, and the bound of the ratio to the imports."""

    arguments: tuple[str, ...]
    code: int = 0
    most: float | None = None


EMPTY, IMPORTS, FIRST = "python -c pass", "import openai, aiohttp, pydantic", "first request"


def commands(scenario: Path, run: Path) -> dict[str, Command]:
    """Return the commands by name; `run`: the directory of the run with the first request."""
    harness, first = ("-m", "harness"), ("run", str(scenario), "--out", str(run), "--quiet")
    rejected = ("run", "quickstart", "--set", "load.worfklows=3")
    return {
        EMPTY: Command(("-c", "pass")),
        IMPORTS: Command(("-c", IMPORTS)),
        "--help": Command((*harness, "--help"), most=0.15),
        "a rejected scenario": Command((*harness, *rejected), 2, most=0.5),
        "--dry-run": Command((*harness, "run", "quickstart", "--dry-run"), most=0.6),
        FIRST: Command((*harness, *first), 2, most=2.1),
    }


class Took(NamedTuple):
    """Seconds of a process: of the processor, its children included, and of the clock."""

    processor: float
    clock: float


def environment() -> dict[str, str]:
    """Return the environment of the commands, which use compiled code as for every user."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("OTEL_")
    }


def measure(command: Command, variables: Mapping[str, str]) -> Took:
    """Run a command and return what it took."""
    before = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command.arguments],
        cwd=CHECKOUT,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    clock = time.perf_counter() - before
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == command.code, (command, process.returncode)
    return Took(used.ru_utime + used.ru_stime, clock)


def seconds_to_request(run: Path, started_ns: int) -> float:
    """Return the seconds from the start of a command to the first request of its run."""
    records = read_records(run)
    sent = min(attempt.sent for attempt in records.attempts if attempt.sent is not None)
    return (records.run.anchor.unix_ns + sent - started_ns) / SECOND


def import_shares(command: Command, variables: Mapping[str, str]) -> Counter[str]:
    """Return the microseconds of the imports of a command by their package."""
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", *command.arguments],
        cwd=CHECKOUT,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert traced.returncode == command.code, traced.stderr
    shares: Counter[str] = Counter()
    for line in traced.stderr.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdigit():
            name = rest.partition("|")[2].strip().partition(".")[0]
            is_standard = name in sys.stdlib_module_names or name.startswith("_")
            shares[STANDARD if is_standard else name] += int(own)
    return shares


def spread(values: Sequence[float], digits: int) -> str:
    """Write the median and the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def share_line(name: str, shares: Counter[str]) -> str:
    """Write the shares of harness, the standard library and all other packages."""
    total = shares.total()
    own, standard = shares.pop("harness"), shares.pop(STANDARD)
    named = "".join(f", {key} {value / total:.0%}" for key, value in shares.most_common(NAMED))
    return (
        f"{name:<20} harness {own / total:.0%}, standard library {standard / total:.0%}, "
        f"foreign {shares.total() / total:.0%}{named and f': {named[2:]}'}"
    )


def main(arguments: Sequence[str]) -> int:
    """Print the figures, and return 1 if a ratio is above its bound."""
    rounds = int(arguments[0]) if arguments else ROUNDS
    variables = environment()
    took: dict[str, list[Took]] = {}
    requests = []
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "first.toml"
        scenario.write_text(REFUSED)
        for number in range(rounds + 1):
            run = Path(folder) / f"run-{number}"
            for name, command in commands(scenario, run).items():
                started_ns = time.time_ns()
                one = measure(command, variables)
                if number:  # the first round compiles the modules
                    took.setdefault(name, []).append(one)
                    if name == FIRST:
                        requests.append(seconds_to_request(run, started_ns))
        every = commands(scenario, Path(folder) / "traced")
        shares = {
            name: import_shares(command, variables)
            for name, command in every.items()
            if command.most is not None
        }
    print(f"{rounds} rounds, median (quartiles)")
    print(f"{'':<33} {'processor, s':>21} {'of the imports':>18} {'at most':>8}")
    floor = took[IMPORTS]
    is_kept = True
    for name, command in every.items():
        ratios = [
            one.processor / base.processor for one, base in zip(took[name], floor, strict=True)
        ]
        seconds = spread([one.processor for one in took[name]], 3)
        bound = "" if command.most is None else f"{command.most:.2f}"
        print(f"{name:<33} {seconds:>21} {spread(ratios, 2):>18} {bound:>8}")
        if command.most is not None and statistics.median(ratios) > command.most:
            is_kept = False
    more = [sent - base.clock for sent, base in zip(requests, floor, strict=True)]
    print(f"seconds to the first request: {spread(requests, 2)}")
    print(f"seconds more than the imports: {spread(more, 2)}")
    print("\nshares of the time of the imports")
    for name, share in shares.items():
        print(share_line(name, share))
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
