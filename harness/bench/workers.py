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
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

from harness.bench.resume import RunProgress
from harness.bench.trial import Tally
from harness.bench.virtual import Played, Report, Task, opening, play
from harness.config.unexpected_errors import what_failed
from harness.records.errors import HarnessError
from harness.simulator.memo import PromptMemory

_ENDING = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
"""The signals that end a run."""

_GRACE = 1.0
"""Seconds in which all processes together can end by themselves."""


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
        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # started with the first process, it would unblock SIGINT
        try:
            with _interrupts_blocked():
                for _ in range(self._count):
                    ours, theirs = context.Pipe()
                    arguments = (theirs, self._begun)
                    process = context.Process(target=_work, args=arguments, daemon=True)
                    process.start()
                    theirs.close()
                    self._processes[ours] = process
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for line in self._processes:
            line.close()
        until = time.monotonic() + _GRACE
        for process in self._processes.values():
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

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
            pid = self._processes[line].pid
            assert pid is not None, "it was started"
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
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


class _Interruptible:
    """Unblocks SIGINT inside this context manager. A SIGINT that came before interrupts at once."""

    def __enter__(self) -> None:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        except KeyboardInterrupt:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block SIGINT, so that processes that are started here begin with it blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let the handlers of signals that end a run act at the end of this context manager.

    For what takes a moment and must not be done by half. Has no effect beside the main thread.
    """
    came: list[tuple[int, FrameType | None]] = []
    before: dict[int, Callable[[int, FrameType | None], object]] = {}
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        for number in _ENDING:
            handler = signal.getsignal(number)
            if callable(handler):
                before[number] = handler
                signal.signal(number, lambda *signal: came.append(signal))
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)
        for ended_by, frame in came[:1]:
            before[ended_by](ended_by, frame)


def _work(line: Connection, begun: RunProgress) -> None:
    """Play trials until the connection is closed: the main function of a worker process."""
    os.setpgrp()  # Ctrl-C at a terminal is for the main process, which interrupts this one
    signal.signal(signal.SIGINT, signal.default_int_handler)  # blocked since before the start
    for number in (signal.SIGTERM, signal.SIGHUP):  # can be sent to all processes of a job
        signal.signal(number, signal.SIG_IGN)
    account, memory = opening(begun), PromptMemory()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            task = line.recv()
            try:
                line.send(play(begun, task, account, line.send, memory, _Interruptible()))
            except HarnessError as error:
                line.send(error)
            except Exception as error:
                failed = HarnessError(what_failed(error))
                failed.add_note(traceback.format_exc())
                line.send(failed)
