"""The timer of an attempt's deadlines."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import uvloop

from harness.engine.branches import Branch
from harness.engine.effects import Reply
from harness.transports.async_transport import _Watch, exchange_async
from harness.transports.exchange import Exchange
from tests.transports.attempts import ANCHOR, make_deadlines


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


def test_an_attempt_leaves_nothing_for_the_garbage_collector() -> None:
    """Otherwise the collector runs often while a trial is measured."""

    async def attempted() -> weakref.ref[Exchange]:
        exchange = Exchange(True, make_deadlines(), lambda: 0, ANCHOR)

        async def steps() -> Reply:
            await asyncio.sleep(0)
            return exchange.reply("connection_lost")

        await exchange_async(exchange, Branch(), steps)
        return weakref.ref(exchange)

    async def whole() -> bool:
        left = await asyncio.create_task(attempted())
        for _ in range(3):  # the event loop closes the timer
            await asyncio.sleep(0)
        return left() is None

    gc.disable()
    try:
        assert uvloop.run(whole())
    finally:
        gc.enable()
