"""The modes in virtual time: the same interpreters and permits as in real time, on a virtual clock.

`threads` has no virtual mode, because the operating system schedules threads in real time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Protocol

from harness.engine.adaptive_limit import AdaptiveLimit
from harness.engine.blocking_interpreter import BlockingWorld, one_after_another, run_blocking
from harness.engine.budget_gate import Gate, through_gate
from harness.engine.effects import EmitRecord, Program
from harness.engine.permits import Turns, Turnstile
from harness.records.settings import one_at_a_time
from harness.simulator.virtual.clients import BlockingVirtualClient
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.provider import VirtualProvider, VirtualTrial
from harness.simulator.virtual.scheduler import Scheduler


class VirtualMode(Protocol):
    """A mode in virtual time."""

    def __call__(
        self,
        program: Program[None],
        trial: VirtualTrial,
        clock: VirtualClock,
        emit: EmitRecord,
        gate: Gate,
        adaptive: AdaptiveLimit | None = None,
        /,
    ) -> None:
        """Run a program. `adaptive`: the limit that adapts, None for a fixed number of permits.

        Raises DeadlockError and the errors of the gate.
        """


def virtual_sync_mode(
    program: Program[None],
    trial: VirtualTrial,
    clock: VirtualClock,
    emit: EmitRecord,
    gate: Gate,
    adaptive: AdaptiveLimit | None = None,
) -> None:
    """Run `program` one call after another, with a single permit, which nothing adapts."""
    client = BlockingVirtualClient(VirtualProvider(trial), clock)
    stop = threading.Event()  # never set
    send = through_gate(gate, client.send, client.wait)
    turns, passing = Turns(clock.now, client.wait), gate.emitting(emit)
    world = BlockingWorld(clock.now, turns, send, passing, one_after_another, stop, client.wait)
    run_blocking(program, world)


def virtual_async_mode(
    program: Program[None],
    trial: VirtualTrial,
    clock: VirtualClock,
    emit: EmitRecord,
    gate: Gate,
    adaptive: AdaptiveLimit | None = None,
) -> None:
    """Run `program` with one task for each workflow and branch."""
    permits = Turnstile(adaptive.permits if adaptive else trial.permits, clock.now)
    if adaptive is not None:
        emit = adaptive.feeding(permits, emit)
    Scheduler(clock, VirtualProvider(trial), permits, gate, emit).run(program)


VIRTUAL_MODES: Mapping[str, VirtualMode] = {
    "sync": virtual_sync_mode,
    "serial": virtual_sync_mode,  # without an event loop, nothing differs
    "async": virtual_async_mode,
}


def mode_in_event_loop(mode: str) -> VirtualMode:
    """Return the mode with this name for workflows that are asynchronous code."""
    from harness.simulator.virtual.loop_mode import virtual_loop_mode  # most runs need no asyncio

    return partial(virtual_loop_mode, serial=one_at_a_time(mode))
