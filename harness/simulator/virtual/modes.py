"""The modes in virtual time: the same interpreters and permits as in real time, on a virtual clock.

`threads` has no virtual mode, because the operating system schedules threads in real time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.blocking_interpreter import BlockingWorld, one_after_another, run_blocking
from harness.engine.budget_gate import Gate, through_gate, through_gate_async
from harness.engine.effects import EmitRecord, Program
from harness.engine.permits import AsyncPermits, Turns
from harness.simulator.profiles import Profile
from harness.simulator.rates import Rates
from harness.simulator.simulation import Simulation
from harness.simulator.virtual.clients import AsyncVirtualClient, BlockingVirtualClient
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.loop import VirtualLoop
from harness.simulator.virtual.provider import ServedTrial, VirtualProvider
from harness.simulator.virtual.replies import ResponseStyle


class VirtualTarget(NamedTuple):
    """The simulated provider of a run.

    `thoughts`: whether the reasoning and the text of broken responses are needed. `settings`: the
    setting of each phase, under which the profile has lengths for it.
    """

    profile: Profile
    seed: int
    time_scale: float
    model: str
    stream: bool
    thoughts: bool
    settings: Mapping[str, str] = MappingProxyType({})


class VirtualTrial(NamedTuple):
    """One trial with a VirtualTarget."""

    target: VirtualTarget
    cell: str
    repeat: int
    permits: int


VirtualMode = Callable[[Program[None], VirtualTrial, VirtualClock, EmitRecord, Gate], None]
"""Takes program, trial, clock, emit and gate. Raises DeadlockError and the errors of the gate."""


def virtual_sync_mode(
    program: Program[None], trial: VirtualTrial, clock: VirtualClock, emit: EmitRecord, gate: Gate
) -> None:
    """Run `program` one call after another, with a single permit."""
    client = BlockingVirtualClient(provider_of(trial), clock)
    stop = threading.Event()  # never set
    send = through_gate(gate, client.send, stop)
    turns, passing = Turns(clock.now, client.wait), gate.emitting(emit)
    world = BlockingWorld(clock.now, turns, send, passing, one_after_another, stop, client.wait)
    run_blocking(program, world)


def virtual_async_mode(
    program: Program[None], trial: VirtualTrial, clock: VirtualClock, emit: EmitRecord, gate: Gate
) -> None:
    """Run `program` with one task for each workflow and branch."""
    client = AsyncVirtualClient(provider_of(trial), clock)
    send = through_gate_async(gate, client.send)
    permits = AsyncPermits(trial.permits, clock.now)
    world = AsyncWorld(clock.now, permits, send, gate.emitting(emit))

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock, client)) as runner:
        runner.run(run_async(program, world))


VIRTUAL_MODES: Mapping[str, VirtualMode] = {"sync": virtual_sync_mode, "async": virtual_async_mode}


def provider_of(trial: VirtualTrial) -> VirtualProvider:
    """Return a new provider for the trial."""
    target, rates = trial.target, Rates()
    profile = target.profile
    simulation = Simulation(profile, target.seed, target.time_scale, trial.cell, rates)
    style = ResponseStyle(
        stream=target.stream,
        chunk_tokens=profile.tokens_per_chunk,
        keep_alive=simulation.keep_alive,
        drip=simulation.drip,
        thoughts=target.thoughts,
    )
    place = ServedTrial(
        model=target.model,
        settings=target.settings,
        repeat=trial.repeat,
        slowest_chunk=simulation.slowest_chunk(trial.permits),
        connection_faults=any(fault.row.place == "connection" for fault in profile.faults),
    )
    return VirtualProvider(simulation, rates, place, style)
