"""Measures the share that a process has of a trial in real time."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from harness.bench import cells
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario
from harness.bench.spending import until_stopped
from harness.bench.trial import RecordCollector
from harness.bench.trial_share import TrialShare
from harness.bench.user_code import limited_code, program_redactor, without_secrets
from harness.engine.budget_gate import Gate
from harness.engine.effects import EmitRecord
from harness.engine.load import Agree
from harness.records.clock import ReadClock
from harness.records.schema import CellInfo, LimitChange, Record, Stop, Trial
from harness.records.timer_lag import NO_LAG, TimerLag, merged_lag
from harness.transports.target import Target

if TYPE_CHECKING:
    from harness.bench.modes import LookAtOthers
    from harness.bench.together import TogetherInTrial


class ShareFacts(NamedTuple):
    """What the record of a trial needs to know of one share.

    `span`: when its first workflow was ready and its last one done; its start and end if no
    workflow has ended. `cpu`, `recording`: nanoseconds of processor time, of which for writing
    records. `changes`: of a limit that adapts. `stopped`: why it ended early.
    """

    span: tuple[int, int]
    cpu: int
    recording: int
    lag: TimerLag = NO_LAG
    changes: Sequence[LimitChange] = ()
    stopped: Stop | None = None


class MeasuredShare(NamedTuple):
    """A share of a trial that has ended, with its records."""

    facts: ShareFacts
    records: RecordCollector


def measure_share(
    begun: RunProgress,
    cell: CellInfo,
    repeat: int,
    share: TrialShare,
    scenario: Scenario,
    target: Target,
    gate: Gate,
    now: ReadClock,
    write: EmitRecord,
    together: TogetherInTrial | None = None,
    agree: Agree | None = None,
    interruptible: AbstractContextManager[None] = nullcontext(),  # noqa: B008 - has no state
) -> MeasuredShare:
    """Run a share of a trial in this process, in real time, to its end.

    `scenario`: of the cell. `now`: the clock of the records. `write`: takes each record when it
    ends, without secrets; in mode `threads` one call at a time. `together`: what the processes of
    the trial have in common; without it each has its own policy, budget and start. `agree`: when
    all shares begin, if `together` does not say it. Only what is done inside `interruptible` can be
    ended by a KeyboardInterrupt.
    """
    recording: list[int] = []  # appending is safe in threads, adding is not
    lag = NO_LAG

    def keep(record: Record) -> None:
        before = time.thread_time_ns()
        record = without_secrets(record, redactor)
        write(record)
        seen.emit(record)
        recording.append(time.thread_time_ns() - before)

    from harness.bench.modes import MODES

    def run_program() -> None:
        nonlocal lag
        mode, permits = MODES[cell.mode], share.part(cell.permits)
        with interruptible:
            lag = mode(program, target, permits, now, keep, gate, adaptive, look)

    redactor = program_redactor(scenario, target.secrets)
    seen = RecordCollector(keeps=not scenario.workflow.is_gateway)
    adaptive = cells.adaptive_limit(begun.scenario, cell, now(), together)
    program = cells.trial_program(begun, cell, repeat, share, together, agree)
    look: LookAtOthers | None = None
    if together is not None:
        look = partial(together.look, gate=gate, adaptive=adaptive)
    with limited_code(scenario, begun.output, redactor), _quiet_collector():
        began, cpu = now(), time.process_time_ns()
        stopped = until_stopped(run_program, scenario, gate, target.base_url)
        ended, cpu = now(), time.process_time_ns() - cpu
        if adaptive is not None:
            adaptive.end(ended)
    facts = ShareFacts(
        seen.span or (began, ended), cpu, sum(recording), lag,
        tuple(adaptive.changes) if adaptive else (), stopped,
    )  # fmt: skip
    return MeasuredShare(facts, seen)


_THRESHOLDS = (1_500, 133, 100)
"""Of the collector during a trial: with 1,000 streams in step, a collection of the youngest objects
takes 0.1 ms. Of 10,000 it took 2 ms, which was seen in the times of a hundredth of the streams."""


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Collect garbage seldom, and not in what exists: the pauses would be measured.

    Collections of the oldest objects take longest, and find little: records are no garbage.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def trial_record(
    cell: CellInfo, repeat: int, execution: int, shares: Sequence[ShareFacts]
) -> Trial:
    """Return the record of a trial that has been measured in `shares`, at least one."""
    lag = merged_lag([share.lag for share in shares])
    return Trial(
        cell=cell.id,
        repeat=repeat,
        execution=execution,
        start=min(share.span[0] for share in shares),
        end=max(share.span[1] for share in shares),
        cpu=sum(share.cpu for share in shares),
        loop_lag=lag.loop_lag,
        late_timers=lag.late_timers,
        interrupted=any(share.stopped is not None for share in shares),
        recording=sum(share.recording for share in shares),
        limits=_merged_changes([share.changes for share in shares]),
        processes=len(shares),
    )


def _merged_changes(changes: Sequence[Sequence[LimitChange]]) -> tuple[LimitChange, ...]:
    """Return the changes of one limit, which each process has made in turn, by their times.

    Each process has noted the limit at its start first.
    """
    if not changes[0]:
        return ()
    start = min((own[0] for own in changes), key=lambda change: change.at)
    later = sorted((change for own in changes for change in own[1:]), key=lambda change: change.at)
    return (start, *later)
