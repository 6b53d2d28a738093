"""Plays the trials of a virtual run in several processes.

The processes share nothing: each receives the numbers of trials and sends back what was played.
They are spawned and not forked, because this process may have threads. When this process is
interrupted, it interrupts them.

They are not a concurrent.futures.ProcessPoolExecutor, nor a Dask LocalCluster, because neither can
interrupt a task: a trial in progress would go on, or its process would be killed and its records
lost. These processes end with this one even if it is killed, and one that dies is reported at once
with its exit code. They start in the time that their imports take.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from harness.bench.child_processes import (
    Interruptible,
    end_processes,
    interrupt,
    interrupts_deferred,
    leave_signals_to_parent,
    start_processes,
)
from harness.bench.resume import RunProgress
from harness.bench.trial import Tally
from harness.bench.virtual import Played, Report, Task, opening, play
from harness.config.unexpected_errors import unexpected
from harness.records.errors import HarnessError
from harness.simulator.memo import PromptMemory


class Workers:
    """Worker processes. Use it as a context manager, which leaves no process behind."""

    def __init__(self, count: int, begun: RunProgress) -> None:
        self._count = count
        self._begun = begun
        self._processes: dict[Connection, BaseProcess] = {}
        self._busy: set[Connection] = set()
        self._left: list[Task] = []
        self._ended: deque[Played] = deque()

    def __enter__(self) -> Workers:
        self._processes = start_processes(self._count, _work, (self._begun,))
        return self

    def __exit__(self, *error: object) -> None:
        end_processes(self._processes)

    def play(self, tasks: Sequence[Task], report: Report) -> Iterator[Played]:
        """Yield each trial when it has been played, in any order.

        After a KeyboardInterrupt in this iterator, `stop` yields the trials in progress, and again
        the one that was yielded last.
        """
        self._left = list(reversed(tasks))
        for line in self._processes:
            self._send_next(line)
        yield from self._played(report)

    def stop(self, report: Report) -> Iterator[Played]:
        """Interrupt the trials in progress and yield what was played of them."""
        self._left = []
        for line in self._busy:
            interrupt(self._processes[line])
        yield from self._played(report)

    def _played(self, report: Report) -> Iterator[Played]:
        while self._busy or self._ended:
            while self._ended:
                yield self._ended[0]
                self._ended.popleft()
            for line in wait(list(self._busy), None if self._busy else 0):
                assert isinstance(line, Connection), "these are the connections to the processes"
                # An interruption would lose the message, and `stop` would wait for it for ever.
                with interrupts_deferred():
                    message = self._received(line)
                    if isinstance(message, Played):
                        self._busy.remove(line)
                        self._ended.append(message)
                        self._send_next(line)
                if not isinstance(message, Played):
                    report(message)

    def _received(self, line: Connection) -> Played | Tally:
        try:
            message: Played | Tally | HarnessError = line.recv()
        except (EOFError, OSError):  # OSError if half of a message was sent
            raise self._died(line) from None
        if isinstance(message, HarnessError):
            raise message
        return message

    def _send_next(self, line: Connection) -> None:
        if self._left:
            try:
                line.send(self._left.pop())
            except OSError:
                raise self._died(line) from None
            self._busy.add(line)

    def _died(self, line: Connection) -> HarnessError:
        process = self._processes[line]
        process.join()
        return HarnessError(
            f"a process that played trials died (exit code {process.exitcode}); "
            "the trials that had ended are saved"
        )


def _work(line: Connection, begun: RunProgress) -> None:
    """Play trials until the connection is closed: the main function of a worker process."""
    leave_signals_to_parent()
    account, memory, interruptible = opening(begun), PromptMemory(), Interruptible()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            task = line.recv()
            try:
                line.send(play(begun, task, account, line.send, memory, interruptible))
            except HarnessError as error:
                line.send(error)
            except Exception as error:
                line.send(unexpected(error))
