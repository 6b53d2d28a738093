"""Whole runs in virtual time with faults at every seam at once, from seeds. Simulated.

    python -m benchmarks.survival [--seeds 2000] [--first 0]

Each seed draws a scenario, and what goes wrong: the disk is full, a write fails, is cut short or is
torn by a kill, the process is killed before or after any write, Ctrl-C comes at any attempt, the
system's clock steps and restarts, a budget ends the run, and the provider has faults. The run is
resumed until it is complete, with new faults each time. After each session must hold:

- what had ended is in the records, once, with all its calls and attempts;
- what the budget has booked is what the provider has counted, and never more than the limit;
- at the end, the same workflows have ended as in a run without interruption; and where no trial was
  cut and the policy draws no jitter, the summary is the same.

Prints the seeds that fail, each with the command that repeats it, and ends with 1 if there are any.
"""

from __future__ import annotations

import argparse
import errno
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, NamedTuple
from unittest.mock import patch

import msgspec

from harness.analysis.selection import Dataset
from harness.analysis.summary import summarise
from harness.bench import runner
from harness.bench.cells import expand
from harness.bench.resume import RunProgress, progress_of, with_budget
from harness.bench.runner import Hooks
from harness.bench.scenario import Scenario, parse_scenario
from harness.config.toml_text import toml_document
from harness.endpoints.simulated import SimulatedEndpoint
from harness.engine import effects
from harness.engine.deadlines import TOO_LATE
from harness.records.clock import SECOND, Anchor
from harness.records.errors import StorageError
from harness.records.schema import Attempt, Call, Run, Spent, Trial, Workflow
from harness.simulator.profiles import load_profile
from harness.simulator.virtual.provider import Flight, VirtualProvider
from harness.store import run_directory
from harness.store.run_directory import FILES, RUN_FILE, each, read_records, read_spent

MOST_SESSIONS = 12
CALM_FROM = 6
"""From this session on nothing goes wrong but the budget and the provider."""
FAULTS = (
    "server_error", "unavailable", "rate_limited", "reset_in_body", "stall", "malformed_json",
    "empty_answer", "blank_body",
)  # fmt: skip
MOST = {"attempts": 10**9, "tokens": 10**12, "usd": 10**6, "seconds": 86_400}
STREAMS_ONLY = ("missing_done",)


class Killed(BaseException):
    """The process ends here, and does nothing more."""


class Disk:
    """What happens to each write: one of them in a session goes wrong, or none."""

    def __init__(self, random: Random, *, is_calm: bool) -> None:
        self._random = random
        kinds = ("", "before", "after", "torn", "full", "short")
        self._kind = "" if is_calm else random.choice(kinds)
        self._left = random.randint(1, 25)
        self._dead = False

    def act(self) -> str:
        """Return what happens to the next write; empty if it succeeds."""
        if self._dead:
            raise Killed
        self._left -= 1
        return self._kind if self._left == 0 else ""

    def die(self) -> None:
        """Kill the process."""
        self._dead = True
        raise Killed

    def part(self, data: bytes) -> bytes:
        """Return what reached the disk of a write that was cut."""
        return data[: self._random.randrange(len(data))]

    def replace(self, real: Callable[..., None], path: Path, parts: Iterable[bytes]) -> None:
        """Write a whole file."""
        data, kind = b"".join(parts), self.act()
        if kind in ("full", "short"):
            with run_directory.writing(path):
                raise OSError(errno.ENOSPC, "No space left on device")
        if kind == "torn":
            path.with_name(path.name + ".part").write_bytes(self.part(data))
        if kind in ("torn", "before"):
            self.die()
        real(path, [data])
        if kind == "after":
            self.die()


class FaultyFile:
    """A file of records on a disk. `booked` is called with each line of spending that is whole."""

    def __init__(self, file: BinaryIO, disk: Disk, booked: Callable[[bytes], None]) -> None:
        self._file = file
        self._disk = disk
        self._booked = booked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        """Write, if nothing goes wrong."""
        kind = self._disk.act()
        if kind == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if kind == "short":
            return self._file.write(self._disk.part(data))
        if kind == "torn":
            self._file.write(self._disk.part(data))
        if kind in ("torn", "before"):
            self._disk.die()
        written = self._file.write(data)
        self._booked(data)
        if kind == "after":
            self._disk.die()
        return written


class Provider:
    """What the provider has counted in the current trial, and what the budget has booked."""

    def __init__(self, interrupt_at: int | None) -> None:
        self._until_interrupt = interrupt_at
        self._flights: list[Flight] = []
        self._unsent = 0
        self.booked = Spent(attempts=0, tokens=0, nano_usd=0)

    def new_trial(self) -> None:
        """Begin to count."""
        self._flights, self._unsent = [], 0

    def note(self, flight: Flight) -> None:
        """Count an attempt."""
        self._flights.append(flight)

    def interrupt(self) -> None:
        """Press Ctrl-C if the next attempt is the one before which it comes."""
        if self._until_interrupt is not None:
            self._until_interrupt -= 1
            if self._until_interrupt == 0:
                raise KeyboardInterrupt

    def note_unsent(self) -> None:
        """Count an attempt that was charged and not sent."""
        self._unsent += 1

    def book(self, line: bytes) -> None:
        """Compare a line of spending with what was counted in the trial before it."""
        spent = msgspec.json.decode(line, type=Spent)
        replies = [flight.reply for flight in self._flights]
        late = sum(reply is not None and reply.outcome == TOO_LATE for reply in replies)
        attempts = len(replies) - late + self._unsent
        # An interrupted attempt is booked at its worst case, whether it was sent or not.
        extra = spent.attempts - self.booked.attempts - attempts
        assert 0 <= extra <= (self._until_interrupt == 0), "attempts, by the provider's count"
        used, is_known = 0, extra == 0
        for reply in replies:
            if reply is None:
                is_known = False
            elif reply.sent is not None and (reply.status is None or reply.status < 300):
                tokens = reply.tokens
                used += (tokens.input or 0) + (tokens.output or 0)
                is_known = is_known and None not in (tokens.input, tokens.output)
        booked = spent.tokens - self.booked.tokens
        assert booked >= used, "tokens, by the provider's count"
        assert booked == used or not is_known, "tokens, all of which are known"
        self.booked = spent
        self.new_trial()


class Plan(NamedTuple):
    """A scenario, and whether its policy draws no jitter."""

    scenario: Scenario
    is_plain: bool


def drawn(random: Random) -> Plan:
    """Draw a scenario."""
    retry = random.choice(("none", "fixed", "jitter", "hedged"))
    modes = ["async"] if retry == "hedged" else random.choice((["async"], ["sync", "async"]))
    stream = retry == "hedged" or random.random() < 0.7
    kinds = FAULTS + (STREAMS_ONLY if stream else ())
    faults = [
        {"kind": kind, "probability": round(random.uniform(0.02, 0.3), 3)}
        for kind in random.sample(kinds, random.randrange(3))
        if stream or kind != "stall"
    ]
    limits: dict[str, Any] = {}
    if random.random() < 0.6:
        name = random.choice(("attempts", "tokens", "usd", "seconds"))
        low, high = {
            "attempts": (3, 60), "tokens": (8_000, 60_000), "usd": (1, 30), "seconds": (20, 400)
        }[name]  # fmt: skip
        amount = random.randint(low, high)
        limits[name] = amount / 1000 if name == "usd" else amount
    values = {
        "name": "survival",
        "seed": random.randrange(1000),
        "transcripts": False,
        "records": random.choice(("full", "full", "summary")),
        "workflow": {
            "topics": ["tides", "seed banks", "tram depots"],
            "sub_questions": random.randint(1, 4),
            "max_tokens": {"decompose": 400, "research": 600, "synthesize": 600},
        },
        "endpoint": {
            "profile": random.choice(("deepseek-reasoner", "plain-chat")),
            "time": "virtual", "stream": stream, "faults": faults,
            "price": {"input": 0.3, "output": 1.2},
        },
        "load": {"workflows": random.randint(1, 5), "in_flight": random.randint(1, 4)},
        "sweep": {
            "mode": modes, "permits": sorted(random.sample((1, 2, 5, 256), random.randint(1, 2))),
            "retry": [retry], "repeats": random.randint(1, 2),
            "permit_scope": [random.choice(("attempt", "call"))],
        },
        "retry": {
            "fixed": {"kind": "fixed", "attempts": 4, "delay": "3s"},
            "jitter": {"kind": "exponential", "attempts": 4, "base": "1s", "cap": "9s"},
            "late": {"kind": "hedge", "after": "2s", "ratio": 1.0},
            "hedged": {"kind": "stack", "layers": ["late", "none"]},
        },
        "budget": limits,
    }  # fmt: skip
    return Plan(parse_scenario(toml_document(values), "survival"), retry in ("none", "fixed"))


@contextmanager
def faults_at_every_seam(
    random: Random, provider: Provider, disk: Disk, unix_ns: int
) -> Iterator[None]:
    """Put the faults of one session into the harness."""

    class FaultyWriter(run_directory.Writer):
        """A writer on a faulty disk."""

        def __enter__(self) -> FaultyWriter:
            super().__enter__()
            files: dict[type, Any] = self._files
            for kind, file in files.items():
                booked = provider.book if kind is Spent else _nothing
                files[kind] = FaultyFile(file, disk, booked)
            return self

    begin, replace, unsent = VirtualProvider.begin, run_directory.replace_file, effects.unsent
    opened = VirtualProvider.__init__

    def begin_counted(self: VirtualProvider, *arguments: Any) -> Flight:
        provider.interrupt()
        flight = begin(self, *arguments)
        provider.note(flight)
        return flight

    def opened_counted(self: VirtualProvider, *arguments: Any) -> None:
        opened(self, *arguments)
        provider.new_trial()

    def unsent_counted(*arguments: Any) -> Any:
        provider.note_unsent()
        return unsent(*arguments)

    anchor = Anchor(unix_ns=unix_ns, monotonic_ns=random.randrange(1000 * SECOND))
    with ExitStack() as patched:
        for name, value in {
            "harness.store.run_directory.Writer": FaultyWriter,
            "harness.store.run_directory.replace_file": lambda *of: disk.replace(replace, *of),
            "harness.simulator.virtual.provider.VirtualProvider.begin": begin_counted,
            "harness.simulator.virtual.provider.VirtualProvider.__init__": opened_counted,
            "harness.simulator.virtual.scheduler.unsent": unsent_counted,
            "harness.bench.runner.take_anchor": lambda: anchor,
            "harness.bench.resume.take_anchor": lambda: anchor,
        }.items():
            patched.enter_context(patch(name, value))
        yield


def _nothing(*_: object) -> None:
    """Do nothing."""


HOOKS = Hooks(*[_nothing] * len(Hooks._fields))


def play(scenario: Scenario, run: Path, progress: RunProgress | None = None) -> Run:
    """Play a session of a run."""
    endpoint = scenario.endpoint
    assert isinstance(endpoint, SimulatedEndpoint)
    profile = load_profile(endpoint.profile, endpoint.overrides).as_dict()
    profiles = {cell.id: profile for cell in expand(scenario)}
    return runner.run(scenario, profiles, {}, run, HOOKS, 1, progress)


class Survived(NamedTuple):
    """The number of sessions of a run, and whether its summary was compared."""

    sessions: int
    is_compared: bool


def survive(seed: int, folder: Path) -> Survived:
    """Play the run of one seed until it is complete.

    Raises AssertionError if something does not hold.
    """
    random = Random(seed)
    plan, run = drawn(random), folder / "run"
    unix_ns = 1_790_000_000 * SECOND
    for session in range(MOST_SESSIONS):
        is_calm = session >= CALM_FROM
        interrupt = None if is_calm or random.random() < 0.6 else random.randint(1, 60)
        provider, disk = Provider(interrupt), Disk(random, is_calm=is_calm)
        unix_ns += random.randint(-5000, 5000) * SECOND
        before = lines_of(run)
        finished = None
        with (
            faults_at_every_seam(random, provider, disk, unix_ns),
            suppress(Killed, StorageError, KeyboardInterrupt),
        ):
            finished = play_next(plan.scenario, run, provider, random, must_end=is_calm)
        if (run / RUN_FILE).exists():
            check(run, plan.scenario, before)
        if finished is not None and finished.status == "complete":
            return Survived(session + 1, check_end(run, plan, folder))
    raise AssertionError(f"not complete after {MOST_SESSIONS} sessions")


def play_next(
    scenario: Scenario, run: Path, provider: Provider, random: Random, *, must_end: bool
) -> Run:
    """Begin the run or go on with it; a budget that stopped it is raised, in the end removed."""
    if not (run / RUN_FILE).exists():
        run.mkdir(exist_ok=True)
        return play(scenario, run)
    progress = progress_of(run)
    amount = progress.spent
    provider.booked = Spent(**amount._asdict())
    stopped = run_directory.read_run(run).stopped
    if must_end or (stopped is not None and stopped.by == "budget"):
        raised = []
        for name, limit in progress.scenario.budget.model_dump().items():
            if limit is not None:
                more = 1000 if must_end else random.choice((1, 2, 5))
                raised.append(f"budget.{name}={min(limit * more, MOST[name])}")
        progress = with_budget(progress, raised)
    return play(progress.scenario, run, progress)


def lines_of(run: Path) -> dict[str, list[bytes]]:
    """Return the whole lines of each file of records."""
    found = {}
    for name in FILES.values():
        if (run / name).exists():
            lines = (run / name).read_bytes().splitlines(keepends=True)
            found[name] = [line for line in lines if line.endswith(b"\n")]
    return found


def check(run: Path, scenario: Scenario, before: dict[str, list[bytes]]) -> None:
    """Check that nothing is lost or doubled, and that no budget is exceeded."""
    after = lines_of(run)
    for name, lines in before.items():
        assert after[name][: len(lines)] == lines, f"{name}: what had been written stays"
    records = read_records(run)
    Dataset.read(run).cells  # noqa: B018 - must be possible
    attempts = Counter((*one.call_key, one.attempt) for one in records.attempts)
    calls = Counter(one.call_key for one in records.calls)
    for counted in (attempts, calls):
        assert counted == dict.fromkeys(counted, 1), "each record has a key of its own"
    tried = Counter(one.call_key for one in records.attempts)
    of_workflow = Counter(one.call_key[:4] for one in records.calls)
    ended = Counter[tuple[str, int, int]]()
    for one in records.workflows:
        if one.outcome != "cancelled":
            ended[one.cell, one.repeat, one.workflow] += 1
            key = (one.cell, one.repeat, one.workflow, one.execution)
            assert of_workflow[key] > 0, "a workflow has its calls"
    for call in records.calls:
        assert tried[call.call_key] == call.attempts, "a call has its attempts"
    assert ended == dict.fromkeys(ended, 1), "no workflow ends twice"
    check_budget(run, records.attempts)
    if records.run.status == "complete":
        planned = len(expand(scenario)) * scenario.sweep.most_repeats * scenario.load.workflows
        assert len(ended) == planned, "no workflow is lost"


def check_budget(run: Path, attempts: Iterable[Attempt]) -> None:
    """Check that what was booked covers what is recorded, and is within the limits."""
    budget, spent = run_directory.read_run(run).scenario["budget"], read_spent(run)
    if spent is None:
        return
    sent = [one for one in attempts if one.sent is not None]
    assert len(sent) <= spent.attempts, "each recorded attempt is booked"
    assert spent.attempts <= (budget.get("attempts") or spent.attempts)
    assert spent.tokens <= (budget.get("tokens") or spent.tokens)
    assert spent.nano_usd <= (budget.get("usd") or 10**9) * 1e9


def check_end(run: Path, plan: Plan, folder: Path) -> bool:
    """Compare a complete run with one that was not interrupted; return whether by its summary."""
    whole = folder / "whole"
    whole.mkdir()
    values = plan.scenario.as_dict()
    reference = Scenario.model_validate({**values, "budget": {}})
    play(reference, whole)
    one, other = read_records(run), read_records(whole)
    assert topics(one.workflows) == topics(other.workflows), "the same workflows ended"
    if not plan.is_plain or any_trial_was_cut(run):
        return False
    found, expected = comparable(run), comparable(whole)
    differing = [key for key in expected if found[key] != expected[key]]
    assert found == expected, f"the summary is the same; differs in {differing}"
    return True


def topics(workflows: Iterable[Workflow]) -> set[tuple[str, int, int, str]]:
    """Return which workflows have ended."""
    return {
        (one.cell, one.repeat, one.workflow, one.topic)
        for one in workflows
        if one.outcome != "cancelled"
    }


def any_trial_was_cut(run: Path) -> bool:
    """Return whether a trial has records of two sessions, or was ended early."""
    executions: dict[tuple[str, int], set[int]] = {}
    kinds: tuple[type[Attempt | Call | Workflow | Trial], ...] = (Attempt, Call, Workflow, Trial)
    for kind in kinds:
        for record in each(run, kind):
            executions.setdefault((record.cell, record.repeat), set()).add(record.execution)
    return any(len(found) > 1 for found in executions.values()) or any(
        trial.interrupted for trial in each(run, Trial)
    )


def comparable(run: Path) -> dict[str, Any]:
    """Return the summary of a run without what names the run."""
    found: dict[str, Any] = msgspec.to_builtins(summarise(Dataset.read(run)))
    return {key: value for key, value in found.items() if key != "run_id"}


def main() -> int:
    """Play the seeds and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survival")
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    failed, survived, began = 0, list[Survived](), time.monotonic()
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            try:
                survived.append(survive(seed, Path(folder)))
            except Exception as error:
                failed += 1
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                print(f"seed {seed}: {reason}")
                print(f"    python -m benchmarks.survival --first {seed} --seeds 1", flush=True)
    seconds = time.monotonic() - began
    print(
        f"simulated: {options.seeds} runs, {sum(one.sessions for one in survived)} sessions, "
        f"{sum(one.is_compared for one in survived)} summaries compared, {failed} failed, "
        f"{seconds / options.seeds * 1000:.0f} ms a run"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
