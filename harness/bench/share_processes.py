"""Runs each trial in real time in several processes of this machine, each with a share of it.

The processes are started once. Each imports what it needs, opens the files of the run, and appends
the records of its share itself, so nothing is lost when a process is killed. What has to hold for
the whole trial is in `together`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from harness.bench.child_processes import (
    Interruptible,
    end_processes,
    interrupt,
    interrupts_deferred,
    leave_signals_to_parent,
    start_processes,
)
from harness.bench.marked_answers import SeenAnswers, seen_answers
from harness.bench.measured_share import ShareFacts, measure_share
from harness.bench.resume import RunProgress
from harness.bench.scenario import Scenario, cell_scenario
from harness.bench.spending import (
    SpendingSoFar,
    TokenMeter,
    explain,
    hopeless_outcomes,
    is_counted,
)
from harness.bench.together import TogetherInTrial
from harness.bench.trial import INTERRUPTED, Tally
from harness.bench.trial_share import TrialShare
from harness.bench.user_code import check_code, refusing_requests
from harness.config.prices import cost_usd
from harness.config.unexpected_errors import unexpected
from harness.engine.budget_gate import Gate
from harness.engine.ledger import Amount, BudgetRefusal, Ledger
from harness.records.clock import monotonic_since
from harness.records.errors import HarnessError
from harness.records.schema import CellInfo, Record, Spent, Stop
from harness.store.run_directory import Writer
from harness.transports.target import Target

_PROGRESS_EVERY = 0.25
"""Seconds between two reports on the progress of a share."""

OpenWriter = Callable[[], Writer]
"""Returns a writer that appends to the files of a run beside others."""


class ShareTask(NamedTuple):
    """A share of a trial to run. `folder`: for what the processes of the trial have in common."""

    cell: CellInfo
    repeat: int
    share: TrialShare
    target: Target
    spending: SpendingSoFar
    folder: Path


class ShareProgress(NamedTuple):
    """What has been counted since the last report; `sending`: the change of those in flight."""

    tally: Tally
    sending: int


class EndedShare(NamedTuple):
    """A share that has ended.

    `seen`: what its answers show. `spending`: at its end; its ledger is that of all processes if
    the budget has a limit. `refusal`: of the budget, which ended the share.
    """

    facts: ShareFacts
    seen: SeenAnswers
    spending: SpendingSoFar
    refusal: BudgetRefusal | None


class EndedTrial(NamedTuple):
    """A trial whose shares have all ended, without those of processes that died.

    `stopped`: why it ended early.
    """

    shares: list[EndedShare]
    spending: SpendingSoFar
    stopped: Stop | None


class ShareProcesses:
    """The processes. Use it as a context manager, which leaves none behind."""

    runs_single = False
    """A trial with one share runs in the main process."""

    def __init__(self, count: int, begun: RunProgress, open_writer: OpenWriter) -> None:
        self._count = count
        self._arguments = (begun, open_writer)
        self._processes: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> ShareProcesses:
        self._processes = start_processes(self._count, _work, self._arguments)
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """End all processes."""
        end_processes(self._processes)
        self._processes.clear()

    def most(self, spending: SpendingSoFar) -> int:
        """Return how many processes can have a share of a trial; they share one budget."""
        return self._count

    def prepare(self, targets: Sequence[Target]) -> None:
        """Wait until every process is ready for trials at these targets. Raises HarnessError."""
        for line in self._processes:
            with contextlib.suppress(OSError):  # it died: said below
                line.send(list(targets))
        for line in self._processes:
            try:
                message = line.recv()
            except (EOFError, OSError):
                raise HarnessError(f"{self._death(line)} before the first trial") from None
            if isinstance(message, HarnessError):
                raise message

    def measure(
        self,
        tasks: Sequence[ShareTask],
        scenario: Scenario,
        report: Callable[[ShareProgress], None],
    ) -> EndedTrial:
        """Run all shares of a trial, and interrupt the others if one ends early or dies.

        `scenario`: of the cell. Ctrl-C ends all shares; a second one raises KeyboardInterrupt.
        Raises the HarnessError of a process when the others have ended.
        """
        running = _RunningTrial(list(self._processes)[: len(tasks)])
        for line, task in zip(self._processes, tasks, strict=False):
            try:
                line.send(task)
            except OSError:
                self._lose(running, line)
        while running.busy:
            try:
                ready = wait(list(running.busy))
                for line in running.busy & set(ready):
                    # An interruption would lose the message.
                    with interrupts_deferred():
                        self._take(running, line, report)
            except KeyboardInterrupt:
                if running.stopped == INTERRUPTED:
                    raise
                self._stop(running, INTERRUPTED)
        if running.error is not None:
            raise running.error
        ended = [running.ended[line] for line in self._processes if line in running.ended]
        return _ended_trial(ended, tasks[0].spending, scenario, running.stopped)

    def _take(
        self, running: _RunningTrial, line: Connection, report: Callable[[ShareProgress], None]
    ) -> None:
        """Receive one message of a process."""
        try:
            message: ShareProgress | EndedShare | HarnessError = line.recv()
        except (EOFError, OSError):  # OSError if half of a message was sent
            self._lose(running, line)
            return
        if isinstance(message, ShareProgress):
            report(message)
            return
        running.busy.remove(line)
        if isinstance(message, HarnessError):
            running.error = running.error or message
            self._stop(running, INTERRUPTED)
            return
        running.ended[line] = message
        if message.facts.stopped is not None and message.refusal is None:
            self._stop(running, message.facts.stopped)

    def _lose(self, running: _RunningTrial, line: Connection) -> None:
        running.busy.discard(line)
        because = f"{self._death(line)} in a trial; all records that had ended are saved"
        self._stop(running, Stop(by="lost_process", because=because))

    def _stop(self, running: _RunningTrial, stop: Stop) -> None:
        """End the other shares. The first reason counts, but a lost process before others.

        Each is interrupted once, because a second interruption would act at once.
        """
        is_first = running.stopped is None
        if is_first or stop.by == "lost_process":
            running.stopped = stop
        if not is_first:
            return
        for line in running.busy:
            interrupt(self._processes[line])

    def _death(self, line: Connection) -> str:
        """Say how the process of a connection ended."""
        process = self._processes[line]
        process.join()
        code, number = process.exitcode or 0, 1 + list(self._processes).index(line)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"process {number} of {len(self._processes)} {how}"


class _RunningTrial:
    """A trial while it runs. `busy`: the connections to the processes whose shares run."""

    def __init__(self, lines: Sequence[Connection]) -> None:
        self.busy = set(lines)
        self.ended: dict[Connection, EndedShare] = {}
        self.stopped: Stop | None = None
        self.error: HarnessError | None = None


def _ended_trial(
    shares: list[EndedShare], before: SpendingSoFar, scenario: Scenario, stopped: Stop | None
) -> EndedTrial:
    """Put the ends of shares together. `before`: the spending at the start of the trial."""
    # The last one has seen all others.
    ledger = max((share.spending.ledger for share in shares), key=_progress, default=before.ledger)
    answered = any(share.spending.answered for share in shares) or before.answered
    refusal = next((share.refusal for share in shares if share.refusal is not None), None)
    if stopped is None and refusal is not None:
        stopped = Stop(by="budget", because=explain(refusal, scenario, ledger))
    return EndedTrial(shares, SpendingSoFar(before.limits, ledger, answered), stopped)


def _progress(ledger: Ledger) -> Amount:
    return ledger.spent


class _ShareCounts:
    """Counts what happens in a share, and reports it now and then.

    It ends this process at once if the process that started it has ended: its records are written.
    """

    def __init__(self, line: Connection, task: ShareTask, scenario: Scenario) -> None:
        self._line = line
        self._folder = task.folder
        price = scenario.price
        self._cost = (
            None if price is None
            else lambda attempt: cost_usd(price, attempt.tokens, time.time_ns())
        )  # fmt: skip
        self._tally = Tally()
        self._sending = 0
        self._lock = threading.Lock()
        self._woken, self._wake = multiprocessing.Pipe(duplex=False)
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> _ShareCounts:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._wake.send(None)
        self._thread.join()
        self._woken.close()
        self._wake.close()

    def note(self, record: Record) -> None:
        """Count a record that has ended."""
        with self._lock:
            self._tally.note(record, self._cost)

    def sending(self, change: int) -> None:
        """Add to the number of attempts in flight."""
        with self._lock:
            self._sending += change

    def _run(self) -> None:
        is_ended = False
        while not is_ended:
            ready = wait([self._line, self._woken], _PROGRESS_EVERY)
            is_ended = self._woken in ready
            if self._line in ready:  # nothing is sent while a share runs
                self._leave()
            with self._lock:
                progress = ShareProgress(self._tally, self._sending)
                self._tally, self._sending = Tally(), 0
            try:
                self._line.send(progress)
            except OSError:
                self._leave()

    def _leave(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(1)


def _work(line: Connection, begun: RunProgress, open_writer: OpenWriter) -> None:
    """Run shares until the connection is closed: the main function of a process."""
    leave_signals_to_parent()
    interruptible = Interruptible()
    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            from harness.bench.modes import prepare_client

            targets: list[Target] = line.recv()
            with refusing_requests(begun.scenario), open_writer() as writer:
                check_code(begun.scenario)
                for target in targets:
                    prepare_client(target)
                line.send(None)
                while True:
                    line.send(_run_share(line, begun, line.recv(), writer, interruptible))
        except HarnessError as error:
            line.send(error)
        except Exception as error:
            line.send(unexpected(error))


def _run_share(
    line: Connection,
    begun: RunProgress,
    task: ShareTask,
    writer: Writer,
    interruptible: Interruptible,
) -> EndedShare:
    scenario, now = cell_scenario(begun.scenario, task.cell), monotonic_since(begun.run.zero)
    limits, ledger, answered = task.spending

    def book(amount: Amount) -> None:
        writer.append(Spent(**amount._asdict()))

    def write(record: Record) -> None:
        writer.append(record)
        counts.note(record)

    with (
        TogetherInTrial(task.folder, task.share, now) as together,
        _ShareCounts(line, task, scenario) as counts,
    ):
        gate = Gate(
            limits,
            TokenMeter(scenario, begun.run.zero) if limits.has_any else None,
            now,
            counts.sending,
            ledger=ledger,
            answered=answered,
            book=book if is_counted(begun.scenario) else None,
            hopeless=hopeless_outcomes(scenario),
            shared=together.budget if limits.has_any else None,
            answers=together.answers,
        )
        facts, seen = measure_share(
            begun, task.cell, task.repeat, task.share, scenario, task.target, gate, now, write,
            together, interruptible=interruptible,
        )  # fmt: skip
        refusal = gate.refusal if facts.stopped is not None else None
        spending = SpendingSoFar(limits, gate.ledger, gate.answered)
    return EndedShare(facts, seen_answers(seen.attempts), spending, refusal)
