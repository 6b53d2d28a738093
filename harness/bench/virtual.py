"""Plays the trials of a run in virtual time.

Each trial begins at 0 on its own clock and depends on no other trial. So trials can be played in
any order and in any number of processes, and their records are the same bytes. If a budget limits
all trials together, they are played one after another in one process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, assert_never

import msgspec

from harness.bench import cells
from harness.bench.estimate import estimate
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario, cell_scenario
from harness.bench.spending import TokenMeter, limits_of, until_stopped
from harness.bench.trial import Tally, is_recorded
from harness.bench.user_code import limited_code, repeatable_random
from harness.config.prices import cost_usd
from harness.endpoints.section import SecondsRange
from harness.engine.budget_gate import Gate
from harness.engine.ledger import Ledger
from harness.records.errors import InputError
from harness.records.schema import (
    Attempt,
    Call,
    CellInfo,
    Record,
    Stop,
    Transcript,
    Trial,
    Workflow,
)
from harness.simulator.memo import PromptMemory
from harness.simulator.profiles import Profile
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.gaps import SlicedGaps, compute
from harness.simulator.virtual.modes import VIRTUAL_MODES, mode_in_event_loop
from harness.simulator.virtual.provider import GivenLengths, VirtualTarget, VirtualTrial
from harness.store.run_directory import TrialRecords, no_collector

if TYPE_CHECKING:
    from harness.store.trial_files import TrialColumns

_T = TypeVar("_T")
_R = TypeVar("_R", bound=Record)

_REPORT_EVERY = 0.25
"""Seconds between two reports on the progress of a trial."""

_BATCH = 128
"""Records that are encoded and counted together. With 1024 they leave the processor's cache before
they are encoded, which takes 4 us a call more."""

_CALLS_PER_PROCESS = 2000
"""Calls that take about as long as starting a process."""

_ANY_LENGTH = SecondsRange(1.0, 1.0)
"""The length of a call does not matter where calls are only counted."""

_HISTOGRAM = attrgetter("histogram")
"""Converts the gaps that are not a dictionary for JSON, which has every other value of a record."""

Report = Callable[[Tally], None]


class Task(NamedTuple):
    """One trial to play: the trial with this `number` in the session, from 0."""

    number: int
    cell: CellInfo
    repeat: int


class VirtualSpending(NamedTuple):
    """The amounts that trials have spent so far; `elapsed`: nanoseconds of their own clocks."""

    ledger: Ledger
    elapsed: int


class Played(NamedTuple):
    """A trial that has been played.

    `lines`: its records of each kind as JSON lines, in the order of their ends. `file`: the content
    of its file if the run keeps only what its statistics need; then there are no lines. `stopped`:
    why it ended early. `account`: the amounts spent by its end.
    """

    task: Task
    trial: Trial
    lines: Mapping[type, bytes]
    file: bytes | None
    stopped: Stop | None
    account: VirtualSpending

    def records(self) -> TrialRecords:
        """Return the records, read back from their lines or from the file."""
        if self.file is not None:
            from harness.store.trial_files import StoredTrial  # imports NumPy

            stored = StoredTrial(self.file)
            return TrialRecords(self.trial, *stored.attempts_and_calls(), stored.workflows())

        def read(kind: type[_T]) -> list[_T]:
            return msgspec.json.Decoder(kind).decode_lines(self.lines[kind])

        return TrialRecords(self.trial, read(Attempt), read(Call), read(Workflow))


def processes(scenario: Scenario, wanted: int | None) -> int:
    """Return how many processes play the trials; `wanted`: the value of `--jobs`.

    Raises InputError if the scenario does not allow as many.
    """
    several = wanted is not None and wanted > 1
    if several and not scenario.is_virtual:
        raise InputError(
            f"--jobs {wanted}: trials in real time would disturb each other, so they run one after "
            'another; leave it out, or set endpoint.time = "virtual"'
        )
    limited = limited_together(scenario)
    if several and limited is not None:
        raise InputError(
            f"--jobs {wanted}: {limited} limits all trials together, so they are played "
            "one after another; leave out one of the two"
        )
    if limited is not None or not scenario.is_virtual:
        return 1
    trials = len(cells.expand(scenario)) * scenario.sweep.most_repeats
    if wanted is not None:
        return min(wanted, trials)
    calls = estimate(scenario, _ANY_LENGTH).calls
    return max(1, min(_cores(), trials, calls // _CALLS_PER_PROCESS))


def limited_together(scenario: Scenario) -> str | None:
    """Return a key of the budget that limits all trials together; None without one."""
    limited = scenario.budget.model_dump(exclude_none=True)
    return f"budget.{next(iter(limited))}" if limited else None


def _cores() -> int:
    """Return the number of cores of this process, or of the machine where that is not known."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def opening(begun: RunProgress) -> VirtualSpending:
    """Return the account at the start of a session."""
    return VirtualSpending(Ledger(limits_of(begun.scenario), begun.spent), begun.elapsed)


def play(
    begun: RunProgress,
    task: Task,
    account: VirtualSpending,
    report: Report,
    memory: PromptMemory | None = None,
    interruptible: AbstractContextManager[None] = nullcontext(),  # noqa: B008 - has no state
    lengths: GivenLengths | None = None,
) -> Played:
    """Play one trial of a session; Ctrl-C or a budget can end it early.

    `memory`: of the trials of this process. `report` is called now and then with what has been
    counted since its last call. Only what is
    done inside `interruptible` can be ended by a KeyboardInterrupt. `lengths`: of the responses to
    some calls; those of the others are drawn.
    """
    scenario, run, clock = cell_scenario(begun.scenario, task.cell), begun.run, VirtualClock()
    seen = _Collector(scenario, report)
    gate = Gate(
        account.ledger.limits,
        TokenMeter(scenario, run.anchor) if limits_of(scenario).has_any else None,
        clock.now,
        elapsed=account.elapsed,
        ledger=account.ledger,
        answered=task.number > 0 or begun.answered,
    )
    profile = Profile.model_validate(run.cell_profile(task.cell.id))
    target = _target_of(scenario, profile)
    adaptive = cells.adaptive_limit(scenario, task.cell)

    def run_program() -> None:
        seeded = repeatable_random(scenario, (task.cell.id, task.repeat))
        with interruptible, limited_code(scenario, begun.output), seeded, no_collector():
            program = cells.trial_program(begun, task.cell, task.repeat)
            trial = VirtualTrial(
                target, task.cell.id, task.repeat, task.cell.permits, memory, lengths
            )
            in_loop = scenario.workflow.needs_event_loop
            mode = mode_in_event_loop(task.cell.mode) if in_loop else VIRTUAL_MODES[task.cell.mode]
            mode(program, trial, clock, seen.emit, gate, adaptive)

    stopped = until_stopped(run_program, scenario, gate, "the simulated provider")
    seen.finish()
    start, end = seen.span or (0, clock.now())
    # No run has the same processor time again, and in virtual time it has no meaning.
    trial = Trial(
        cell=task.cell.id,
        repeat=task.repeat,
        execution=run.execution,
        start=start,
        end=end,
        cpu=0,
        loop_lag={},
        interrupted=stopped is not None,
        limits=() if adaptive is None else tuple(adaptive.changes),
    )
    return Played(
        task=task,
        trial=trial,
        lines=seen.lines(),
        file=seen.file(trial if is_recorded(stopped) else None),
        stopped=stopped,
        account=VirtualSpending(gate.ledger, account.elapsed + clock.now()),
    )


def _target_of(scenario: Scenario, profile: Profile) -> VirtualTarget:
    return VirtualTarget(
        profile=profile,
        seed=scenario.seed,
        time_scale=scenario.time_scale,
        model=scenario.endpoint.model,
        stream=scenario.endpoint.stream,
        thoughts=scenario.transcripts or scenario.workflow.keeps_reasoning,
        settings=scenario.plan.settings,
        ids=scenario.records == "full",
    )


class _JsonLines:
    """Encodes records as JSON lines."""

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder(enc_hook=_HISTOGRAM).encode_lines
        self._lines: list[bytes] = []

    def add(self, records: Sequence[Record]) -> None:
        """Encode records."""
        self._lines.append(self._encode(records))

    def add_attempts(self, attempts: Sequence[Attempt]) -> None:
        """Encode attempts."""
        compute([one.gaps for one in attempts if isinstance(one.gaps, SlicedGaps)])
        self.add(attempts)

    def whole(self) -> bytes:
        """Return the lines of all records."""
        return b"".join(self._lines)


class _Ordered(Generic[_R]):
    """Passes on the records of one kind in batches, in the order of their ends.

    Virtual time never goes back, so records come in the order of their ends, and those before the
    end of the latest one are complete. Records with the same end are in the order of their keys.
    """

    def __init__(self, end: Callable[[_R], int], keep: Callable[[Sequence[_R]], None]) -> None:
        self._end = end
        self._keep = keep
        self.pending: list[_R] = []

    def flush(self, *, whole: bool = False) -> list[_R]:
        """Pass on the complete records, or with `whole` all of them, and return them."""
        records = self.pending
        if not records:
            return []
        end, latest = self._end, self._end(records[-1])
        count = len(records)
        while not whole and count and end(records[count - 1]) == latest:
            count -= 1
        self.pending = records[count:]
        ended = _by_key(records[:count], end)
        self._keep(ended)
        return ended


class _Collector:
    """Encodes the records of a trial, and reports now and then how many there are.

    `span`: the earliest ready and the latest done of its workflows, None without any.
    """

    def __init__(self, scenario: Scenario, report: Report) -> None:
        self._price = scenario.price
        self._unix_ns = time.time_ns()
        self._report = report
        self._reported = time.monotonic()
        self._tally = Tally()
        self._left = _BATCH
        self._columns: TrialColumns | None = None
        self._lines = {kind: _JsonLines() for kind in (Attempt, Call, Workflow, Transcript)}
        keep_attempts: Callable[[Sequence[Attempt]], None] = self._lines[Attempt].add_attempts
        keep_calls: Callable[[Sequence[Call]], None] = self._lines[Call].add
        if scenario.records == "summary":
            from harness.store.trial_files import TrialColumns  # imports NumPy

            self._columns = TrialColumns()
            keep_attempts, keep_calls = self._columns.add_attempts, self._columns.add_calls
        done: Callable[[Attempt | Call | Workflow], int] = attrgetter("done")
        self._attempts = _Ordered[Attempt](done, keep_attempts)
        self._calls = _Ordered[Call](done, keep_calls)
        self._workflows = _Ordered[Workflow](done, self._lines[Workflow].add)
        self._transcripts = _Ordered[Transcript](lambda _: 0, self._lines[Transcript].add)
        self.span: tuple[int, int] | None = None

    def emit(self, record: Record) -> None:
        """Take one record."""
        # The most frequent first.
        if type(record) is Attempt:
            self._attempts.pending.append(record)
        elif type(record) is Call:
            self._calls.pending.append(record)
        elif type(record) is Workflow:
            self._workflows.pending.append(record)
        elif type(record) is Transcript:
            self._transcripts.pending.append(record)
        else:
            assert_never(record)
        self._left -= 1
        if self._left == 0:
            self._left = _BATCH
            self._flush(whole=False)
            if time.monotonic() > self._reported + _REPORT_EVERY:
                self.report()

    def _flush(self, *, whole: bool) -> None:
        for attempt in self._attempts.flush(whole=whole):
            self._tally.note(attempt, self._cost if self._price else None)
        self._calls.flush(whole=whole)
        ended = self._workflows.flush(whole=whole)
        for workflow in ended:
            self._tally.note(workflow, None)
        if ended:
            start, end = min(one.ready for one in ended), max(one.done for one in ended)
            before = self.span or (start, end)
            self.span = (min(before[0], start), max(before[1], end))

    def report(self) -> None:
        """Report what has been counted since the last report."""
        tally, self._tally = self._tally, Tally()
        self._reported = time.monotonic()
        self._report(tally)

    def finish(self) -> None:
        """Take the last records, and report."""
        self._flush(whole=True)
        self._transcripts.flush(whole=True)
        self.report()

    def lines(self) -> Mapping[type, bytes]:
        """Return the records of each kind as JSON lines, in the order of their ends."""
        if self._columns is not None:
            return {}
        return {kind: lines.whole() for kind, lines in self._lines.items()}

    def file(self, trial: Trial | None) -> bytes | None:
        """Return the content of the trial's file; None if the records are lines."""
        if self._columns is None:
            return None
        return self._columns.encode(trial, self._lines[Workflow].whole())

    def _cost(self, attempt: Attempt) -> float:
        assert self._price is not None, "it is asked only with a price"
        return cost_usd(self._price, attempt.tokens, self._unix_ns)


def _by_key(records: list[_R], end: Callable[[_R], int]) -> list[_R]:
    """Order records, which are ordered by their end, also by their key, which is unique."""
    first = 0
    for after, (one, other) in enumerate(pairwise([*map(end, records), -1]), 1):
        if one != other:
            if after - first > 1:  # few have the same end; the long key is made for these alone
                records[first:after] = sorted(records[first:after], key=_key_of)
            first = after
    return records


def _key_of(record: Record) -> tuple[Any, ...]:
    if isinstance(record, Workflow):
        return (record.workflow, record.execution)
    attempt = record.attempt if isinstance(record, Attempt) else 0
    branch = -1 if record.branch is None else record.branch
    return (record.workflow, record.execution, record.phase, branch, record.call, attempt)
