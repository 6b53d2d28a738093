"""The two ways of waiting for the provider in virtual time: in a task, and in blocking code."""

from __future__ import annotations

import asyncio

from harness.clock import SECOND
from harness.virtual.clock import VirtualClock
from harness.virtual.loop import DeadlockError
from harness.virtual.provider import VirtualProvider
from harness.workflow.effects import Reply, Send


class AsyncVirtualClient:
    """Sends attempts from the tasks of a VirtualLoop, whose `Events` it is."""

    def __init__(self, provider: VirtualProvider, clock: VirtualClock) -> None:
        self._provider = provider
        self._clock = clock

    async def send(self, effect: Send) -> Reply:
        """Send one attempt and wait for its end."""
        flight = self._provider.begin(self._clock.now(), effect)
        if flight.reply is None:
            flight.waker = asyncio.get_running_loop().create_future()
            try:
                await flight.waker
            except asyncio.CancelledError:
                self._provider.give_up(self._clock.now(), flight)
                raise
        assert flight.reply is not None, "it has ended"
        return flight.reply

    def next_at(self) -> int | None:
        """Return when the provider does the next thing."""
        return self._provider.next_at()

    def happen(self, now: int) -> None:
        """Let the provider do it, and wake whoever has waited for that."""
        for flight in self._provider.advance(now):
            if flight.waker is not None and not flight.waker.done():
                flight.waker.set_result(None)


class BlockingVirtualClient:
    """Sends attempts from blocking code: the clock goes to the end of each at once."""

    def __init__(self, provider: VirtualProvider, clock: VirtualClock) -> None:
        self._provider = provider
        self._clock = clock

    def send(self, effect: Send) -> Reply:
        """Send one attempt and let time pass until its end."""
        flight = self._provider.begin(self._clock.now(), effect)
        while flight.reply is None:
            at = self._provider.next_at()
            if at is None:
                seconds = self._clock.now() / SECOND
                raise DeadlockError(
                    f"deadlock after {seconds:g} virtual seconds: an attempt waits for the "
                    "provider, which has nothing to do"
                )
            self._clock.go_to(at)
            self._provider.advance(self._clock.now())
        return flight.reply

    def pass_time(self, until: int) -> None:
        """Let time pass until `until`; what the provider does meanwhile happens."""
        while (at := self._provider.next_at()) is not None and at <= until:
            self._clock.go_to(at)
            self._provider.advance(self._clock.now())
        self._clock.go_to(until)
