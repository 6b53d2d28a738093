"""The modes in virtual time: the same interpreters and permits as in real time, on a virtual clock.

`threads` has no virtual mode, because the operating system schedules threads in real time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping

from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.blocking_interpreter import BlockingWorld, one_after_another, run_blocking
from harness.engine.budget_gate import Gate, through_gate, through_gate_async
from harness.engine.effects import EmitRecord, Program
from harness.engine.permits import AsyncPermits, Turns
from harness.simulator.virtual.clients import AsyncVirtualClient, BlockingVirtualClient
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.loop import VirtualLoop
from harness.simulator.virtual.provider import VirtualProvider, VirtualTrial

VirtualMode = Callable[[Program[None], VirtualTrial, VirtualClock, EmitRecord, Gate], None]
"""Takes program, trial, clock, emit and gate. Raises DeadlockError and the errors of the gate."""


def virtual_sync_mode(
    program: Program[None], trial: VirtualTrial, clock: VirtualClock, emit: EmitRecord, gate: Gate
) -> None:
    """Run `program` one call after another, with a single permit."""
    client = BlockingVirtualClient(VirtualProvider(trial), clock)
    stop = threading.Event()  # never set
    send = through_gate(gate, client.send, stop)
    turns, passing = Turns(clock.now, client.wait), gate.emitting(emit)
    world = BlockingWorld(clock.now, turns, send, passing, one_after_another, stop, client.wait)
    run_blocking(program, world)


def virtual_async_mode(
    program: Program[None], trial: VirtualTrial, clock: VirtualClock, emit: EmitRecord, gate: Gate
) -> None:
    """Run `program` with one task for each workflow and branch."""
    client = AsyncVirtualClient(VirtualProvider(trial), clock)
    send = through_gate_async(gate, client.send)
    permits = AsyncPermits(trial.permits, clock.now)
    world = AsyncWorld(clock.now, permits, send, gate.emitting(emit))

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock, client)) as runner:
        runner.run(run_async(program, world))


VIRTUAL_MODES: Mapping[str, VirtualMode] = {"sync": virtual_sync_mode, "async": virtual_async_mode}
