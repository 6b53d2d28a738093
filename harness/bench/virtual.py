"""The trials of a run in virtual time.

Each begins at 0 on a clock of its own and depends on no other, so they can be played in any order
and in any number of processes, and what they leave behind is the same bytes. Where a budget spans
them all, they are played one after another in one process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import msgspec

from harness.bench import cells
from harness.bench.estimate import estimate
from harness.bench.scenario import Scenario, cell_scenario
from harness.bench.spending import TokenMeter, Uncounted, explain, limits_of
from harness.bench.trial import RecordCollector, Tally, Tallying
from harness.endpoints.section import SecondsRange
from harness.engine.budget_gate import BudgetExhaustedError, FirstCallError, Gate
from harness.engine.ledger import Amount, Ledger
from harness.records.errors import InputError
from harness.records.schema import (
    Attempt,
    Call,
    CellInfo,
    Record,
    Run,
    Stop,
    Transcript,
    Trial,
    Workflow,
)
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.modes import VIRTUAL_MODES, VirtualTrial, virtual_target
from harness.store.run_directory import TrialRecords, no_collector

_TELL_EVERY = 0.25
"""Seconds between two words on how far a trial has come."""

_WORTH_A_PROCESS = 2000
"""Calls that take about as long as starting another process does."""

_ANY_LENGTH = SecondsRange(1.0, 1.0)
"""How long a call takes does not matter where calls are only counted."""

Tell = Callable[[Tally], None]


class Setting(NamedTuple):
    """All that a process needs to play trials of a run.

    `spent`, the `elapsed` nanoseconds of the trials' own time, and whether the provider ever
    `answered`, are of the sessions before.
    """

    scenario: Scenario
    run: Run
    spent: Amount = Amount()
    elapsed: int = 0
    answered: bool = False


class Task(NamedTuple):
    """One trial to play: the `number`-th from here on, from 0, without `finished` workflows."""

    number: int
    cell: CellInfo
    repeat: int
    finished: frozenset[int] = frozenset()


class Lines(NamedTuple):
    """The records of one trial as JSON lines, in the order in which they ended."""

    attempts: bytes
    calls: bytes
    workflows: bytes
    transcripts: bytes


class VirtualSpending(NamedTuple):
    """What the trials of a run have spent so far; `elapsed`: nanoseconds of their own time."""

    ledger: Ledger
    elapsed: int


class Played(NamedTuple):
    """What became of a trial.

    `hopeless`: the first answer of the run, if no later one could be better. `account`: what has
    been spent.
    """

    task: Task
    trial: Trial
    lines: Lines
    stopped: Stop | None
    hopeless: Attempt | None
    account: VirtualSpending

    def records(self) -> TrialRecords:
        """Return the records, read back from their lines."""
        return TrialRecords(
            self.trial,
            _ATTEMPTS.decode_lines(self.lines.attempts),
            _CALLS.decode_lines(self.lines.calls),
            _WORKFLOWS.decode_lines(self.lines.workflows),
        )


_ATTEMPTS = msgspec.json.Decoder(Attempt)
_CALLS = msgspec.json.Decoder(Call)
_WORKFLOWS = msgspec.json.Decoder(Workflow)


def processes(scenario: Scenario, wanted: int | None) -> int:
    """Return how many processes play the trials; `wanted`: how many were asked for.

    Raises InputError where the scenario does not allow as many.
    """
    if wanted is not None and wanted < 1:
        raise InputError(f"--jobs {wanted}: give a number of at least 1")
    if wanted is not None and wanted > 1 and not scenario.is_virtual:
        raise InputError(
            f"--jobs {wanted}: trials in real time would disturb each other and run one after "
            'another; leave it out, or set endpoint.time = "virtual"'
        )
    limited = [name for name, value in scenario.budget.model_dump().items() if value is not None]
    if limited:
        if wanted is not None and wanted > 1:
            raise InputError(
                f"--jobs {wanted}: budget.{limited[0]} is one account for all trials, which are "
                "played one after another then; leave out one of the two"
            )
        return 1
    trials = len(cells.expand(scenario)) * scenario.sweep.repeats
    if wanted is not None:
        return min(wanted, trials)
    calls = estimate(scenario, _ANY_LENGTH).calls
    return max(1, min(_cores(), trials, calls // _WORTH_A_PROCESS))


def _cores() -> int:
    """Return how many cores this process may use, or the machine has where nobody tells that."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def opening(setting: Setting) -> VirtualSpending:
    """Return the account that a session begins with."""
    return VirtualSpending(Ledger(limits_of(setting.scenario), setting.spent), setting.elapsed)


def play(
    setting: Setting,
    task: Task,
    account: VirtualSpending,
    tell: Tell,
    interruptible: AbstractContextManager[None] = nullcontext(),  # noqa: B008 - has no state
) -> Played:
    """Play one trial. Ctrl-C or a budget ends it early, which `stopped` then says.

    `tell` hears now and then what has been counted since the last time. What a KeyboardInterrupt
    may cut short is done inside `interruptible`.
    """
    scenario, clock = cell_scenario(setting.scenario, task.cell), VirtualClock()
    records = _Records(Tallying(scenario.price, time.time_ns()), tell)
    seen = RecordCollector(records.emit)
    gate = Gate(
        account.ledger.limits,
        _meter(scenario, setting.run),
        lambda: account.elapsed + clock.now(),
        ledger=account.ledger,
        answered=task.number > 0 or setting.answered,
    )
    stopped, hopeless = None, None
    try:
        with interruptible, no_collector():
            _play(setting, scenario, task, clock, seen, gate)
    except KeyboardInterrupt:
        stopped = Stop(by="interrupt", because="interrupted")
    except BudgetExhaustedError as error:
        stopped = Stop(by="budget", because=explain(error.refusal, scenario, gate.ledger))
    except FirstCallError as error:
        hopeless = error.attempt
    records.tell()
    trial = Trial(
        cell=task.cell.id,
        repeat=task.repeat,
        execution=setting.run.execution,
        start=min((workflow.ready for workflow in seen.workflows), default=0),
        end=max((workflow.done for workflow in seen.workflows), default=clock.now()),
        cpu=0,  # of no meaning here, and no run would have it again
        loop_lag={},
        interrupted=stopped is not None,
    )
    return Played(
        task=task,
        trial=trial,
        lines=_lines(seen, records.transcripts),
        stopped=stopped,
        hopeless=hopeless,
        account=VirtualSpending(gate.ledger, account.elapsed + clock.now()),
    )


def _play(
    setting: Setting,
    scenario: Scenario,
    task: Task,
    clock: VirtualClock,
    seen: RecordCollector,
    gate: Gate,
) -> None:
    cell, endpoint = task.cell, scenario.endpoint
    profile = setting.run.cell_profile(cell.id)
    assert profile is not None, "a simulated provider has a profile"
    target = virtual_target(
        profile,
        seed=scenario.seed,
        time_scale=scenario.time_scale,
        model=endpoint.model,
        stream=endpoint.stream,
        thoughts=scenario.transcripts or scenario.workflow.carry_reasoning,
        settings={info.name: info.setting for info in scenario.plan.phases},
    )
    program = cells.trial_program(setting.scenario, setting.run, cell, task.repeat, task.finished)
    trial = VirtualTrial(target, cell.id, task.repeat, cell.permits)
    VIRTUAL_MODES[cell.mode](program, trial, clock, seen.emit, gate)


def _meter(scenario: Scenario, run: Run) -> TokenMeter | Uncounted:
    """Return what measures the attempts of a cell. Without a limit they need not be measured."""
    if any(limit is not None for limit in limits_of(scenario)):
        return TokenMeter(scenario, run.anchor)
    return Uncounted()


class _Records:
    """Counts the records of a trial, says so now and then, and keeps the transcripts."""

    def __init__(self, tallying: Tallying, tell: Tell) -> None:
        self._tallying = tallying
        self._tell = tell
        self._told = time.monotonic()
        self._count = 0
        self.transcripts: list[Transcript] = []

    def emit(self, record: Record) -> None:
        self._tallying.note(record)
        if isinstance(record, Transcript):
            self.transcripts.append(record)
        self._count += 1
        if self._count % 256 == 0 and time.monotonic() > self._told + _TELL_EVERY:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        self._tell(self._tallying.take())


def _when_it_ended(record: Attempt | Call | Transcript) -> tuple[Any, ...]:
    """Order records by their end; at one moment by their key, which no two share."""
    attempt = record.attempt if isinstance(record, Attempt) else 0
    done = 0 if isinstance(record, Transcript) else record.done
    branch = -1 if record.branch is None else record.branch
    return (done, record.workflow, record.execution, record.phase, branch, record.call, attempt)


def _lines(seen: RecordCollector, transcripts: list[Transcript]) -> Lines:
    encode = msgspec.json.Encoder().encode_lines
    return Lines(
        attempts=encode(sorted(seen.attempts, key=_when_it_ended)),
        calls=encode(sorted(seen.calls, key=_when_it_ended)),
        workflows=encode(sorted(seen.workflows, key=lambda one: (one.done, one.workflow))),
        transcripts=encode(sorted(transcripts, key=_when_it_ended)),
    )
