"""Runs a workflow of a program in every mode, in virtual time and in real time without a socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import uvloop

from harness.bench import cells
from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.branches import Branch
from harness.engine.deadlines import UNWANTED
from harness.engine.effects import Reply, Send
from harness.engine.permits import AsyncPermits
from harness.policies.no_retry import NoRetryRule
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED
from harness.records.schema import Attempt, Call, Workflow
from harness.store.run_directory import TrialRecords
from harness.workflows.execution import run_workflow
from tests.engine.scripted import RATE_LIMITED, WORKFLOW, Says, reply, terms
from tests.engine.worlds import PATIENCE, World, clock, in_threads, in_turn
from tests.programs.played import play_cell, scenario

SLOW = "slow"
"""The phase whose calls end only when they are cancelled."""
LONG = 10**12
PATIENT = terms(NoRetryRule())
PATIENT = PATIENT._replace(limits=type(PATIENT.limits)(LONG, LONG, LONG, LONG))


class OwnWorld(World):
    """A world in which a call of the phase SLOW ends only when it is cancelled.

    `fails`: some calls fail.
    """

    def __init__(self, permits: int, *, fails: bool) -> None:
        def says(sent: Send) -> Says:
            branch = sent.key.branch or 0
            return RATE_LIMITED if fails and (branch + sent.key.call) % 3 == 2 else Says()

        super().__init__(permits, lambda sent: sent.key.phase != SLOW, says)
        self.main: asyncio.Task[Any] | None = None

    def survives(self) -> bool:
        return self.main is not None and not self.main.cancelling()

    async def send_async(self, effect: Send, branch: Branch) -> Reply:
        try:
            return await super().send_async(effect, branch)
        except asyncio.CancelledError:
            if not branch.survives():
                raise
            with self.changed:
                self.returned.append(effect)
            return reply(Says(CANCELLED, detail=UNWANTED), clock())


def in_loop(program: Any, world: OwnWorld) -> Any:
    """Run in tasks of an event loop; check that no permit is lost and no task is left."""

    async def whole() -> Any:
        world.main = asyncio.current_task()
        line = AsyncPermits(world.permits, clock)
        emit = world.records.append
        own = AsyncWorld(clock, line, world.send_async, emit, world.survives)
        result = await asyncio.create_task(run_async(program, own))
        soon = clock() + PATIENCE * SECOND
        for _ in range(world.permits):
            assert (await line.acquire(soon)).granted is not None
        assert (await line.acquire(clock())).granted is None
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


REAL: dict[str, tuple[Callable[[Any, Any], Any], int]] = {
    "sync": (in_turn, 1),
    "threads": (in_threads, 3),
    "async": (in_loop, 3),
}
VIRTUAL = {"virtual sync": ("sync", 1), "virtual async": ("async", 3)}
EVERY = (*REAL, *VIRTUAL)


def run_in(
    mode: str, place: str, topic: str, faults: Sequence[dict[str, Any]] = (), **settings: Any
) -> TrialRecords:
    """Run one workflow; return its records. `faults`: of the provider in virtual time.

    With faults, some calls fail in real time, too.
    """
    workflow = {"program": place, "topics": [topic], **settings}
    if mode in VIRTUAL:
        name, permits = VIRTUAL[mode]
        sweep = {"mode": [name], "permits": [permits], "retry": ["none"]}
        load = {"workflows": 1, "in_flight": 1}
        read = scenario(workflow, sweep=sweep, load=load, faults=list(faults))
        records, stopped = play_cell(read, cells.expand(read)[0])
        assert stopped is None, stopped
        return records
    how, permits = REAL[mode]
    world = OwnWorld(permits, fails=bool(faults))
    plan = scenario(workflow).plan
    how(run_workflow(PATIENT, plan, WORKFLOW, topic, clock()), world)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("branch")] == []

    def of(kind: type[Any]) -> list[Any]:
        return [record for record in world.records if isinstance(record, kind)]

    return TrialRecords(None, of(Attempt), of(Call), of(Workflow))  # type: ignore[arg-type]
