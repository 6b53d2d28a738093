"""The modes `async` and `serial` in virtual time, for programs that are asynchronous code."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from harness.engine.adaptive_limit import AdaptiveLimit
from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.branches import Branch
from harness.engine.budget_gate import Gate, through_gate_async
from harness.engine.deadlines import UNWANTED
from harness.engine.effects import EmitRecord, Program, Reply, Send, unsent
from harness.engine.hosting import Hosting, lasting_locks, transmitting
from harness.engine.own_time import InterruptibleCode
from harness.engine.permits import AsyncPermits
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, OK
from harness.simulator.virtual.clock import VirtualClock
from harness.simulator.virtual.event_loop import VirtualEventLoop, refusing_real_time
from harness.simulator.virtual.provider import Flight, VirtualProvider, VirtualTrial
from harness.simulator.virtual.requests import render_reply

if TYPE_CHECKING:
    from harness.client.calls import ClientCall


class LoopVirtualClient:
    """Sends attempts from tasks of a VirtualEventLoop."""

    def __init__(self, provider: VirtualProvider, clock: VirtualClock, model: str) -> None:
        self._provider = provider
        self._clock = clock
        self._model = model

    async def send(self, effect: Send, branch: Branch) -> Reply:
        """Send one attempt and wait for its end."""
        if branch.cancelled:
            return unsent(CANCELLED, UNWANTED, self._clock.time)
        flight = self._provider.begin(self._clock.time, effect, branch.first_text)
        if flight.reply is None:
            flight.owner = asyncio.get_running_loop().create_future()
            try:
                with branch.waking(partial(self._give_up, flight)):
                    await flight.owner
            except asyncio.CancelledError:
                self._provider.give_up(self._clock.time, flight)
                if not branch.survives():
                    raise
        assert flight.reply is not None, "it has ended"
        return flight.reply

    def _give_up(self, flight: Flight) -> None:
        self._provider.give_up(self._clock.time, flight)
        if not flight.owner.done():
            flight.owner.set_result(None)

    async def transmit(self, effect: Send, branch: Branch, call: ClientCall) -> Reply:
        """Send an attempt of a program; `call` gets the response.

        The response is whole, also that of a stream: its events come at once, at its end. The
        records have the times of its first and of its last text.
        """
        from harness.client.target_requests import body_for_model

        path, body = effect.request.path, effect.request.body
        assert path is not None, "a program has sent it"
        if not call.keeps_model:
            body = body_for_model(path, body, self._model)
            asked = msgspec.structs.replace(effect.request, body=body)
            effect = msgspec.structs.replace(effect, request=asked)
        reply = await self.send(effect, branch)
        is_whole = reply.outcome == OK or reply.finish_reason is not None
        if reply.status is None or (reply.status < 300 and not is_whole):
            call.note_without_response(reply)
            return reply
        response = render_reply(path, body, reply)
        headers = dict(response.headers)
        if reply.request_id is not None:
            headers["x-request-id"] = reply.request_id
        if reply.retry_after is not None:
            headers["retry-after"] = f"{reply.retry_after / SECOND:g}"
        call.note_whole(reply, response.status, headers, response.body)
        return reply


def virtual_loop_mode(
    program: Program[None],
    trial: VirtualTrial,
    clock: VirtualClock,
    emit: EmitRecord,
    gate: Gate,
    adaptive: AdaptiveLimit | None = None,
    *,
    serial: bool,
) -> None:
    """Run `program` in an event loop, with a task for each workflow and branch."""
    provider = VirtualProvider(trial)

    async def whole() -> None:
        client = LoopVirtualClient(provider, clock, trial.target.model)
        hosting = Hosting(transmitting(gate, client.transmit), limits_idle=False)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualEventLoop), "the runner has made it"
        loop.end_waits = hosting.end_all
        permits = AsyncPermits(adaptive.permits if adaptive else trial.permits, clock.now)
        world = AsyncWorld(
            clock.now,
            permits,
            through_gate_async(gate, client.send),
            gate.emitting(adaptive.feeding(permits, emit) if adaptive else emit),
            serial=serial,
            hosting=hosting,
        )
        with InterruptibleCode():
            await run_async(program, world)

    def new_loop() -> VirtualEventLoop:
        return VirtualEventLoop(clock, provider)

    with (
        refusing_real_time(),
        lasting_locks(),
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        runner.run(whole())
