"""Processes that run parts of a run: how they are interrupted, and how they end.

They are spawned and not forked, because the process that starts them may have threads. When it is
interrupted, it interrupts them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType

_ENDING = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
"""The signals that end a run."""

_GRACE = 1.0
"""Seconds in which all processes together can end by themselves."""


def leave_signals_to_parent() -> None:
    """Let only the process that has started this one interrupt it; called first in this one."""
    os.setpgrp()  # Ctrl-C at a terminal is for the main process, which interrupts this one
    signal.signal(signal.SIGINT, signal.default_int_handler)  # blocked since before the start
    for number in (signal.SIGTERM, signal.SIGHUP):  # can be sent to all processes of a job
        signal.signal(number, signal.SIG_IGN)


def start_processes(
    count: int, work: Callable[..., None], arguments: tuple[object, ...]
) -> dict[Connection, BaseProcess]:
    """Start processes and return them by our end of the connection to each.

    `work`: their main function, which begins with `leave_signals_to_parent`. It is called with the
    other end of its connection and the `arguments`. If one cannot start, the others are ended.
    """
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # started with the first process, it would unblock SIGINT
    started: dict[Connection, BaseProcess] = {}
    try:
        with interrupts_blocked():
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
                process.start()
                theirs.close()
                started[ours] = process
    except BaseException:
        end_processes(started)
        raise
    return started


def interrupt(process: BaseProcess) -> None:
    """Interrupt a process that has been started, unless it has ended."""
    assert process.pid is not None, "it was started"
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGINT)


def end_processes(processes: Mapping[Connection, BaseProcess]) -> None:
    """Close the connections to processes, wait for them, and kill those that do not end."""
    for line in processes:
        line.close()
    until = time.monotonic() + _GRACE
    for process in processes.values():
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


class Interruptible:
    """Lets SIGINT interrupt what is done inside this context manager, and nothing else.

    It is entered many times. A SIGINT that came outside of it interrupts at the next entry.
    Outside, SIGINT is blocked in the main thread. Another thread can still receive it; Python
    then calls the handler in the main thread, which only notes it.
    """

    def __init__(self) -> None:
        self._has_come = False

    def __enter__(self) -> None:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            if self._has_come:
                self._has_come = False
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        try:
            signal.signal(signal.SIGINT, self._note)
        except KeyboardInterrupt:  # it came before
            signal.signal(signal.SIGINT, self._note)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._has_come = True


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
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
