"""The timer of an attempt's deadlines."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from harness.transports.async_transport import _Watch


async def test_a_deadline_that_passes_after_a_cancellation_changes_nothing() -> None:
    exchange: Any = SimpleNamespace(
        overdue=lambda: True, catch_up=lambda: None, now=lambda: 0, expired=None
    )
    expired = False
    deadline = asyncio.timeout(None)
    try:
        async with deadline:
            watch = _Watch(exchange, deadline)
            watch.cancel()
            while not deadline.expired():
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    watch._check()
                    raise
    except TimeoutError:
        expired = True
    assert expired
