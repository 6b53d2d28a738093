"""Measures how late a running client runs timers: those of its event loop or of a thread."""

from __future__ import annotations

import asyncio
import threading

from harness.records.clock import SECOND, ReadClock
from harness.records.histogram import Histogram, bucket
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
