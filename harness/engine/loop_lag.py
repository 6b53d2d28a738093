"""Measures how late a running client is: with timers, or when it reads what it waits for."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress

from harness.engine.branches import Branch
from harness.engine.effects import Reply, Send
from harness.records.clock import SECOND, ReadClock
from harness.records.histogram import Histogram, bucket
from harness.records.schema import Attempt, Record
from harness.records.timer_lag import LATE, PROBE_INTERVAL, LateTimer, TimerLag


class LagReadings:
    """The readings of a probe. `due`: when its next timer is due."""

    def __init__(self, now: ReadClock) -> None:
        self._now = now
        self._lag: Histogram = {}
        self._late: list[LateTimer] = []
        self.due = now() + PROBE_INTERVAL

    def note(self) -> None:
        """Take the reading of the timer that runs now; the next one is due an interval later."""
        ran = self._now()
        late = ran - self.due
        if late >= LATE:
            self._late.append(LateTimer(self.due, late))
        name = bucket(max(late, 0))
        self._lag[name] = self._lag.get(name, 0) + 1
        self.due = ran + PROBE_INTERVAL

    def end(self) -> TimerLag:
        """Return all readings. A timer that is due and did not run is late until now."""
        if self._now() > self.due:
            self.note()
        return TimerLag(self._lag, tuple(self._late))


class LoopProbe:
    """Measures the lag of the running event loop. Use it as a context manager.

    A timer callback passes through the queue of ready callbacks before it reads the clock, as the
    task does for which data has arrived.
    """

    def __init__(self, now: ReadClock) -> None:
        self._readings = LagReadings(now)

    def __enter__(self) -> LoopProbe:
        self._loop = asyncio.get_running_loop()
        self._set_timer()
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.cancel()

    def lag(self) -> TimerLag:
        """Return the readings so far."""
        return self._readings.end()

    def _set_timer(self) -> None:
        self._handle: asyncio.Handle = self._loop.call_later(
            PROBE_INTERVAL / SECOND, self._timer_expired
        )

    def _timer_expired(self) -> None:
        self._handle = self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._readings.note()
        self._set_timer()


class ThreadProbe:
    """Measures the lag of a thread of its own, which waits for a processor and for the interpreter.

    Use it as a context manager.
    """

    def __init__(self, now: ReadClock) -> None:
        self._readings = LagReadings(now)
        self._ended = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="lag-probe", daemon=True)

    def __enter__(self) -> ThreadProbe:
        self._ended.acquire()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.release()
        self._thread.join()

    def lag(self) -> TimerLag:
        """Return the readings so far."""
        return self._readings.end()

    def _run(self) -> None:
        while not self._ended.acquire(timeout=PROBE_INTERVAL / SECOND):
            self._readings.note()


class ReadProbe:
    """Measures how late a thread reads the first text of each attempt, where Linux tells it.

    The scheduler counts how long a thread was ready to run and had no processor. Within a read that
    is the time since the data arrived. Use it as a context manager, in the thread that reads.
    """

    def __init__(self, now: ReadClock) -> None:
        self._now = now
        self._file: int | None = None
        self._reads: list[tuple[int, int]] = []
        self._late: list[LateTimer] = []
        self._has_text = False

    def __enter__(self) -> ReadProbe:
        with suppress(OSError):
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            os.close(self._file)

    def receive(self, sock: socket.socket, most: int) -> bytes:
        """Wait for at most `most` bytes and return them."""
        if self._file is None or self._has_text:  # the two counts cost as much as the read
            return sock.recv(most)
        before = _run_delay(self._file)
        received = sock.recv(most)
        late = _run_delay(self._file) - before
        self._reads.append((self._now(), late))
        return received

    def sending(self, send: Callable[[Send, Branch], Reply]) -> Callable[[Send, Branch], Reply]:
        """Return a function that sends, and notes here the first text of each attempt."""

        def send_noted(effect: Send, branch: Branch) -> Reply:
            claim = branch.first_text

            def first_text() -> None:
                self._has_text = True
                claim()

            branch.first_text = first_text
            try:
                return send(effect, branch)
            finally:
                branch.first_text = claim
                self._has_text = False

        return send_noted

    def note(self, record: Record) -> None:
        """Note how late the first text of an attempt was read; `record`: of what ended last."""
        if not isinstance(record, Attempt):
            return
        first = record.first_text
        read = 0 if first is None else bisect_right(self._reads, first, key=lambda one: one[0])
        if first is not None and read:
            late = self._reads[read - 1][1]
            self._late.append(LateTimer(first - late, late))
        self._reads.clear()

    def lag(self) -> TimerLag:
        """Return the readings so far. No timer was set, so there is no histogram."""
        return TimerLag({}, tuple(self._late))


def _run_delay(file: int) -> int:
    """Return how many nanoseconds the thread of a `schedstat` file has waited for a processor."""
    return int(os.pread(file, 64, 0).split()[1])
