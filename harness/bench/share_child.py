"""A process on a machine of a cluster that runs shares of trials: `python -m` starts it.

It is a process of its own, beside the Dask worker, so that nothing of Dask runs in what is
measured, and so that a signal can interrupt it. It ends at once when its worker ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

import msgspec

from harness.bench import preflight
from harness.bench.child_processes import Interruptible, leave_signals_to_parent
from harness.bench.dask_worker import loaded_progress
from harness.bench.marked_answers import SeenAnswers, seen_answers
from harness.bench.measured_share import ShareFacts, measure_share
from harness.bench.resume import RunProgress
from harness.bench.scenario import cell_scenario
from harness.bench.spending import TokenMeter, hopeless_outcomes
from harness.bench.trial import Tally
from harness.bench.trial_share import TrialShare
from harness.bench.user_code import refusing_requests
from harness.config.prices import cost_usd
from harness.config.unexpected_errors import unexpected
from harness.engine.budget_gate import Gate
from harness.engine.ledger import Amount, BudgetLimits, BudgetRefusal, Ledger, committed
from harness.records.clock import monotonic_since
from harness.records.errors import HarnessError
from harness.records.schema import Attempt, CellInfo, Record
from harness.transports.target import Target

_PIECE_EVERY = 0.5
"""Seconds between two pieces of records, of which the last is lost with the worker."""


class ShareSession(NamedTuple):
    """What a process needs once. `progress`: a pickled RunProgress."""

    progress: bytes
    targets: list[Target]


class WorkerTask(NamedTuple):
    """A share of a trial for one machine.

    `limits`: of its own share of the budget. `answered`: the endpoint has had a good answer.
    `clock_offset`: nanoseconds by which the clock of the machine is ahead of the run's.
    """

    cell: CellInfo
    repeat: int
    share: TrialShare
    target: Target
    limits: BudgetLimits
    answered: bool
    clock_offset: int


class ShareReady(NamedTuple):
    """The process can run shares. `host`: the name of its machine."""

    host: str


class ShareWaiting(NamedTuple):
    """The share has made its warm-up calls and waits for a ShareStart."""


class ShareStart(NamedTuple):
    """The answer: `at`: nanoseconds since the run's anchor, when the load of all shares begins."""

    at: int


class RecordPiece(NamedTuple):
    """What has been recorded since the last piece.

    `lines`: JSON lines by kind of record. `sending`: the change of the attempts in flight.
    `committed`: what the share has spent or reserved of its budget so far.
    """

    lines: Mapping[type, bytes]
    tally: Tally
    sending: int
    committed: Amount


class FinishedShare(NamedTuple):
    """A share that has ended, after its last piece.

    `seen`: what its answers show. `spent`: of its budget. `answered`: it has had a good answer.
    `refusal`: of the budget, which ended the share.
    """

    facts: ShareFacts
    seen: SeenAnswers
    spent: Amount
    answered: bool
    refusal: BudgetRefusal | None


ShareMessage = ShareReady | ShareWaiting | RecordPiece | FinishedShare | HarnessError
"""What the process sends, pickled."""


class _Pieces:
    """Encodes the records of a share and sends them in pieces, and receives when it starts.

    It ends this process at once if the worker has ended.
    """

    def __init__(self, line: Connection, progress: RunProgress, cell: CellInfo) -> None:
        self._line = line
        price = cell_scenario(progress.scenario, cell).price
        # The wall clock of the record, as prices depend on it.
        unix = progress.run.zero.unix_ns
        self._cost = (
            None if price is None
            else lambda attempt: cost_usd(price, attempt.tokens, unix + attempt.done)
        )  # fmt: skip
        self._encode = msgspec.json.Encoder().encode
        self._lock = threading.Lock()
        self._lines: dict[type, list[bytes]] = {}
        self._tally = Tally()
        self._sending = 0
        self._start: int | None = None
        self._is_waiting = False
        self.gate: Gate | None = None
        self._woken, self._wake = Pipe(duplex=False)
        self._thread = threading.Thread(target=self._run, name="pieces", daemon=True)

    def __enter__(self) -> _Pieces:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._wake.send("end")
        self._thread.join()
        self._woken.close()
        self._wake.close()

    def write(self, record: Record) -> None:
        """Take a record that has ended."""
        line = self._encode(record)
        with self._lock:
            self._lines.setdefault(type(record), []).append(line)
            self._tally.note(record, self._cost if isinstance(record, Attempt) else None)

    def sending(self, change: int) -> None:
        """Add to the number of attempts in flight."""
        with self._lock:
            self._sending += change

    def agree(self) -> int | None:
        """Return when the load begins; None until all shares of the trial are ready."""
        if not self._is_waiting:
            self._is_waiting = True
            self._wake.send("waiting")
        return self._start

    def _run(self) -> None:
        is_ended = False
        while not is_ended:
            ready = wait([self._line, self._woken], _PIECE_EVERY)
            if self._woken in ready:
                is_ended = self._woken.recv() == "end"
            try:
                if self._woken in ready and not is_ended:
                    self._line.send(ShareWaiting())
                if self._line in ready:
                    start: ShareStart = self._line.recv()
                    self._start = start.at
            except (EOFError, OSError):
                os._exit(1)
            with self._lock:
                lines, self._lines = self._lines, {}
                tally, self._tally = self._tally, Tally()
                sending, self._sending = self._sending, 0
            used = Amount() if self.gate is None else committed(self.gate.ledger)
            joined = {kind: b"\n".join(own) + b"\n" for kind, own in lines.items()}
            try:
                self._line.send(RecordPiece(joined, tally, sending, used))
            except OSError:
                os._exit(1)


def _run_share(line: Connection, begun: RunProgress, task: WorkerTask) -> FinishedShare:
    scenario = cell_scenario(begun.scenario, task.cell)
    zero = begun.run.zero
    zero = msgspec.structs.replace(zero, monotonic_ns=zero.monotonic_ns + task.clock_offset)
    now = monotonic_since(zero)
    with _Pieces(line, begun, task.cell) as pieces:
        gate = Gate(
            task.limits,
            TokenMeter(scenario, zero) if task.limits.has_any else None,
            now,
            pieces.sending,
            ledger=Ledger(task.limits),
            answered=task.answered,
            hopeless=hopeless_outcomes(scenario),
        )
        pieces.gate = gate
        facts, seen = measure_share(
            begun, task.cell, task.repeat, task.share, scenario,
            task.target._replace(anchor=zero), gate, now, pieces.write,
            agree=pieces.agree, interruptible=Interruptible(),
        )  # fmt: skip
    refusal = gate.refusal if facts.stopped is not None else None
    return FinishedShare(
        facts, seen_answers(seen.attempts), gate.ledger.spent, gate.answered, refusal
    )


def _work(line: Connection) -> None:
    """Run shares until the connection is closed."""
    try:
        session: ShareSession = line.recv()
        begun = loaded_progress(session.progress)
        preflight.open_files(begun.scenario)
        from harness.bench.modes import prepare_client

        with refusing_requests(begun.scenario):
            for target in session.targets:
                prepare_client(target)
            line.send(ShareReady(os.uname().nodename))
            while True:
                line.send(_run_share(line, begun, line.recv()))
    except (EOFError, ConnectionError):
        return
    except HarnessError as error:
        line.send(error)
    except Exception as error:
        line.send(unexpected(error))


def main() -> None:
    """Run shares for the worker at the other end of a socket, whose number is the argument."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    leave_signals_to_parent()
    _work(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    # What is sent has to name this module, and not `__main__`.
    from harness.bench import share_child

    share_child.main()
