"""An event loop of asyncio on the virtual clock, for programs that are asynchronous code.

When no callback is ready, the clock is set to the next timer of the loop or to the next event of
the provider, whichever is first. What waits for real time is refused: threads, processes, sockets,
and functions that block. A function for a thread of an executor is called at once.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from harness.engine.hosting import in_hosted_code
from harness.records.clock import SECOND
from harness.simulator.virtual.clock import DeadlockError, VirtualClock
from harness.simulator.virtual.provider import VirtualProvider

NEVER_HAPPENS = "it waits for something that never happens: no call is in flight, and no timer runs"
_BUSY = "it runs without an end: a million steps, and no call and no wait between them"
_MOST_STEPS = 1_000_000
"""The most turns of the loop at one moment."""


class RealTimeError(RuntimeError):
    """A program in virtual time has used what takes real time."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is not possible in virtual time; set endpoint.time = 'real', or await only "
            "asyncio and calls of the openai package"
        )


class _VirtualSelector(selectors.SelectSelector):
    """Waits by setting the clock. `wait` takes the timeout in seconds, None for no timeout."""

    def __init__(self, wait: Callable[[float | None], None]) -> None:
        super().__init__()
        self._wait = wait

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._wait(timeout)
        return []


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """The event loop of one trial.

    `end_waits` is called with a reason when nothing can happen any more; it returns whether that
    has ended any wait. The flights of the provider have futures as their owners.
    """

    end_waits: Callable[[str], bool]

    def __init__(self, clock: VirtualClock, provider: VirtualProvider) -> None:
        self._virtual_clock = clock
        self._provider = provider
        self._turns = 0
        super().__init__(_VirtualSelector(self._pass_time))
        self._clock_resolution = 1 / SECOND

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual_clock.time / SECOND

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call a function at once, in this thread, as if it took no time.

        Frameworks call short functions in threads. One that blocks is refused.
        """
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _pass_time(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            self._turns += 1
            if self._turns == _MOST_STEPS:
                self.end_waits(_BUSY)
            return
        self._turns = 0
        clock, provider = self._virtual_clock, self._provider
        until = None if timeout is None else clock.time + max(1, round(timeout * SECOND))
        ready: Any = self._ready  # type: ignore[attr-defined]
        while not ready:
            due = provider.next_at()
            if due is not None and (until is None or due <= until):
                clock.go_to(due)
                for flight in provider.advance(clock.time):
                    if not flight.owner.done():
                        flight.owner.set_result(None)
            elif until is not None:
                clock.go_to(until)
                return
            elif not self.end_waits(NEVER_HAPPENS):
                raise DeadlockError(clock.time, "every task waits, and no event is scheduled")


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RealTimeError(f"loop.{name}")

    return refuse


for _name in (
    "connect_read_pipe", "connect_write_pipe", "create_connection", "create_datagram_endpoint",
    "create_server", "create_unix_connection", "create_unix_server", "getaddrinfo", "getnameinfo",
    "sendfile", "sock_accept", "sock_connect", "sock_recv", "sock_recv_into",
    "sock_recvfrom", "sock_sendall", "sock_sendto", "start_tls", "subprocess_exec",
    "subprocess_shell",
):  # fmt: skip
    setattr(VirtualEventLoop, _name, _refused(_name))

_EVENTS = {
    "time.sleep": "time.sleep",
    "socket.connect": "opening a connection",
    "socket.getaddrinfo": "opening a connection",
    "_thread.start_new_thread": "starting a thread",
    "_thread.start_joinable_thread": "starting a thread",
    "subprocess.Popen": "starting a process",
    "os.system": "starting a process",
}
"""The audit events of what takes real time."""
_CALLED: tuple[tuple[Any, str, str], ...] = (
    (time, "sleep", "time.sleep"), (threading.Thread, "start", "starting a thread"),
)  # fmt: skip
"""Functions that are replaced, because they have no audit event before Python 3.13.

A program that imports `sleep` itself is then not refused: it waits.
"""
_state = threading.local()


@contextmanager
def refusing_real_time() -> Iterator[None]:
    """Refuse what takes real time to hosted code in this thread."""
    _install_hook()
    before = [(holder, name, getattr(holder, name)) for holder, name, _ in _CALLED]
    for (holder, name, what), (_, _, original) in zip(_CALLED, before, strict=True):
        setattr(holder, name, _checked(original, what))
    _state.refuses = True
    try:
        yield
    finally:
        _state.refuses = False
        for holder, name, original in before:
            setattr(holder, name, original)


@cache  # once: a hook cannot be removed
def _install_hook() -> None:
    sys.addaudithook(_audit)


def _checked(original: Callable[..., Any], what: str) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        _check(what)
        return original(*arguments, **named)

    return called


def _check(what: str) -> None:
    if getattr(_state, "refuses", False) and in_hosted_code():
        raise RealTimeError(what)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        _check(_EVENTS[event])
