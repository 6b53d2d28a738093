"""The modes by name: each runs a whole program against a target, its own way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping

import uvloop

from harness.client.asynchronous import AsyncClient
from harness.client.exchange import Target
from harness.client.synchronous import SyncClient
from harness.clock import Now
from harness.drivers.asynchronous import AsyncWorld, run_async
from harness.drivers.blocking import (
    BlockingWorld,
    a_thread_each,
    one_after_another,
    run_blocking,
)
from harness.drivers.lag import LagProbe
from harness.drivers.permits import AsyncPermits, ThreadPermits, Turns
from harness.histogram import Histogram
from harness.records import Record
from harness.workflow.effects import Program

Mode = Callable[[Program[None], Target, int, Now, Callable[[Record], None]], Histogram]
"""(program, target, permits, now, emit) -> histogram of the event loop's lag, in nanoseconds."""


def sync_mode(
    program: Program[None], target: Target, permits: int, now: Now, emit: Callable[[Record], None]
) -> Histogram:
    """Run `program` with openai.OpenAI, one call after another: the turn is the one permit."""
    assert permits == 1, "a sync cell has one permit"
    with SyncClient(target, now) as client:
        stop = threading.Event()
        world = BlockingWorld(now, Turns(now), client.send, emit, one_after_another, stop)
        run_blocking(program, world)
    return {}


def threads_mode(
    program: Program[None], target: Target, permits: int, now: Now, emit: Callable[[Record], None]
) -> Histogram:
    """Run `program` with openai.OpenAI, a thread for each workflow in flight and each branch."""
    stop = threading.Event()
    line = ThreadPermits(permits, now)
    writing = threading.Lock()

    def emit_one(record: Record) -> None:
        with writing:
            emit(record)

    with SyncClient(target, now) as client:
        world = BlockingWorld(now, line, client.send, emit_one, a_thread_each, stop)
        try:
            run_blocking(program, world)
        except BaseException:
            stop.set()
            line.wake_all()
            client.abort()
            _join_branches()
            raise
    return {}


def _join_branches() -> None:
    """Wait until every branch has noticed that it was stopped."""
    for thread in threading.enumerate():
        if thread.name.startswith("branch-"):
            thread.join(1.0)


def async_mode(
    program: Program[None], target: Target, permits: int, now: Now, emit: Callable[[Record], None]
) -> Histogram:
    """Run `program` with openai.AsyncOpenAI on uvloop, a task for each workflow and branch."""

    async def whole() -> Histogram:
        async with AsyncClient(target, now) as client, LagProbe(now) as probe:
            world = AsyncWorld(now, AsyncPermits(permits, now), client.send, emit)
            await run_async(program, world)
            return probe.lag

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


MODES: Mapping[str, Mode] = {"sync": sync_mode, "threads": threads_mode, "async": async_mode}
