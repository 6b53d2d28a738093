"""Plays the trials of a virtual run in several processes.

The processes share nothing: each gets the numbers of trials and sends back what became of them.
They are started anew rather than forked, because threads may run here, and they play a trial to
its end even when this process is interrupted: it then tells them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from harness.bench.trial import Tally
from harness.bench.virtual import Played, Setting, Task, opening, play
from harness.records.errors import HarnessError
from harness.records.schema import Attempt, Stop

_GRACE = 1.0
"""Seconds for all processes together to end by themselves."""


class Worker(NamedTuple):
    """One process and the line to it."""

    process: BaseProcess
    line: Connection


class Workers:
    """So many processes. Use it as a context manager: none is left when it is over."""

    def __init__(self, count: int, setting: Setting) -> None:
        self._count = count
        self._setting = setting
        self._workers: list[Worker] = []
        self._busy: dict[Connection, Worker] = {}

    def __enter__(self) -> Workers:
        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # it would be started with the first, and unblock SIGINT
        try:
            with _deaf():
                for _ in range(self._count):
                    ours, theirs = context.Pipe()
                    arguments = (theirs, self._setting)
                    process = context.Process(target=_work, args=arguments, daemon=True)
                    process.start()
                    theirs.close()
                    self._workers.append(Worker(process, ours))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.line.close()
        until = time.monotonic() + _GRACE
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.terminate()
                worker.process.join()

    def play(self, tasks: Sequence[Task], tell: Callable[[Tally], None]) -> Iterator[Played]:
        """Yield what became of each trial, in whatever order they end.

        After a KeyboardInterrupt from here, `stop` still gives those that were under way.
        """
        left = list(reversed(tasks))
        for worker in self._workers:
            self._next(worker, left)
        while self._busy:
            for worker, said in self._heard():
                if isinstance(said, Tally):
                    tell(said)
                    continue
                del self._busy[worker.line]
                self._next(worker, left)
                yield said

    def stop(self, tell: Callable[[Tally], None]) -> Iterator[Played]:
        """Interrupt the trials under way and yield what became of them."""
        for worker in self._busy.values():
            pid = worker.process.pid
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
        while self._busy:
            for worker, said in self._heard():
                if isinstance(said, Tally):
                    tell(said)
                else:
                    del self._busy[worker.line]
                    yield said

    def _next(self, worker: Worker, left: list[Task]) -> None:
        if left:
            task = left.pop()
            try:
                worker.line.send(task)
            except OSError:
                raise _died(worker) from None
            self._busy[worker.line] = worker

    def _heard(self) -> Iterator[tuple[Worker, Tally | Played]]:
        for line in wait(list(self._busy)):
            assert isinstance(line, Connection), "these are the lines to the workers"
            worker = self._busy[line]
            try:
                said = line.recv()
            except (EOFError, OSError):  # the second with half of a message, or a task, on the line
                raise _died(worker) from None
            if isinstance(said, HarnessError):
                raise said
            yield worker, said


def _died(worker: Worker) -> HarnessError:
    worker.process.join()
    return HarnessError(
        f"a process that played trials died (exit code {worker.process.exitcode}); "
        "what had ended by then is saved"
    )


class _Interruptible:
    """Lets SIGINT interrupt what is done inside it, as a context manager, and nothing else.

    One that came before it, while SIGINT was blocked, interrupts it at once.
    """

    def __enter__(self) -> None:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        except KeyboardInterrupt:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Start processes that hear no SIGINT until they say so; this one hears it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(line: Connection, setting: Setting) -> None:
    """Play trials until the line is closed: what a process of its own does."""
    os.setpgrp()  # Ctrl-C at a terminal is for the run, which tells us
    signal.signal(signal.SIGINT, signal.default_int_handler)  # blocked since before we began
    account = opening(setting)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            task = line.recv()
            try:
                line.send(play(setting, task, account, line.send, _Interruptible()))
            except HarnessError as error:
                line.send(error)


def play_in_order(
    setting: Setting,
    tasks: Sequence[Task],
    jobs: int,
    keep: Callable[[Played], None],
    tell: Callable[[Tally], None],
) -> Stop | Attempt | None:
    """Play the trials in `jobs` processes and hand them to `keep` in the order of `tasks`.

    After Ctrl-C what had ended by then is kept, too. Returns what ended the run early: a Stop, or
    the hopeless first answer; None when nothing did.
    """
    if jobs == 1:
        return _one_after_another(setting, tasks, keep, tell)
    try:
        with Workers(jobs, setting) as workers:
            return _as_they_end(workers, tasks, keep, tell)
    except KeyboardInterrupt:  # before they had begun, or again while they were being stopped
        return Stop(by="interrupt", because="interrupted")


def _as_they_end(
    workers: Workers,
    tasks: Sequence[Task],
    keep: Callable[[Played], None],
    tell: Callable[[Tally], None],
) -> Stop | Attempt | None:
    waiting: dict[int, Played] = {}
    number = 0
    try:
        for played in workers.play(tasks, tell):
            waiting[played.task.number] = played
            while number in waiting:
                kept = waiting.pop(number)
                keep(kept)
                if kept.hopeless is not None:
                    return kept.hopeless
                number += 1
    except KeyboardInterrupt:
        for played in workers.stop(tell):
            waiting[played.task.number] = played
        for _, ended in sorted(waiting.items()):
            keep(ended)
        return Stop(by="interrupt", because="interrupted")
    return None


def _one_after_another(
    setting: Setting,
    tasks: Sequence[Task],
    keep: Callable[[Played], None],
    tell: Callable[[Tally], None],
) -> Stop | Attempt | None:
    account = opening(setting)
    try:
        for task in tasks:
            played = play(setting, task, account, tell)
            account = played.account
            keep(played)
            if played.hopeless is not None or played.stopped is not None:
                return played.hopeless or played.stopped
    except KeyboardInterrupt:  # between two trials
        return Stop(by="interrupt", because="interrupted")
    return None
