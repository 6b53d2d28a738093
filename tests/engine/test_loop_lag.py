"""The probe sees what kept the loop from its timers."""

from __future__ import annotations

import asyncio
import time

from harness.engine.loop_lag import LagProbe
from harness.records.clock import SECOND, monotonic_since, take_anchor

now = monotonic_since(take_anchor())


async def sampled(probe: LagProbe, count: int) -> None:
    async with asyncio.timeout(20):
        while sum(probe.lag.values()) < count:  # noqa: ASYNC110 - the probe tells nobody
            await asyncio.sleep(0)


async def test_a_loop_that_is_kept_busy_is_late_by_that_time() -> None:
    async with LagProbe(now) as probe:
        await sampled(probe, 1)
        time.sleep(0.2)  # noqa: ASYNC251 - the very thing that the probe is for
        await sampled(probe, 2)
    assert max(probe.lag) >= 0.17 * SECOND  # it looks every 20 ms


async def test_nothing_is_sampled_once_the_probe_has_ended() -> None:
    async with LagProbe(now) as probe:
        await sampled(probe, 1)
    before = dict(probe.lag)
    await asyncio.sleep(0.05)
    assert probe.lag == before
    assert asyncio.all_tasks() == {asyncio.current_task()}
