"""The lag of the event loop: how late it runs timers."""

from __future__ import annotations

import asyncio

from harness.records.clock import SECOND, ReadClock
from harness.records.histogram import Histogram, bucket

_EVERY = SECOND // 50


class LagProbe:
    """Samples the lag of the running loop 50 times a second. Use it as an async context manager."""

    def __init__(self, now: ReadClock) -> None:
        self._now = now
        self._task: asyncio.Task[None] | None = None
        self.lag: Histogram = {}

    async def __aenter__(self) -> LagProbe:
        self._task = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None, "entered"
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _sample(self) -> None:
        while True:
            due = self._now() + _EVERY
            await asyncio.sleep(_EVERY / SECOND)
            late = bucket(max(self._now() - due, 0))
            self.lag[late] = self.lag.get(late, 0) + 1
