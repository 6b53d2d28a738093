"""The transport for virtual time in blocking code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from harness.engine.branches import Branch
from harness.engine.deadlines import UNWANTED
from harness.engine.effects import Reply, Send, unsent
from harness.engine.waiting import Turn, Waits
from harness.records.clock import ReadClock
from harness.records.failures import CANCELLED
from harness.simulator.virtual.clock import DeadlockError, VirtualClock
from harness.simulator.virtual.provider import VirtualProvider

_T = TypeVar("_T")


class BlockingVirtualClient:
    """Sends attempts from blocking code. The clock jumps to the end of each attempt."""

    def __init__(self, provider: VirtualProvider, clock: VirtualClock) -> None:
        self._provider = provider
        self._clock = clock

    def send(self, effect: Send, branch: Branch | None = None) -> Reply:
        """Send one attempt and advance the clock to its end."""
        branch = branch or Branch()
        if branch.cancelled:
            return unsent(CANCELLED, UNWANTED, self._clock.now())
        flight = self._provider.begin(self._clock.now(), effect, branch.first_text)
        while flight.reply is None:
            at = self._provider.next_at()
            if at is None:
                why = "an attempt waits for the provider, and no event is scheduled"
                raise DeadlockError(self._clock.now(), why)
            self._clock.go_to(at)
            self._provider.advance(self._clock.now())
        return flight.reply

    def pass_time(self, until: int) -> None:
        """Advance the clock to `until`, and process the provider's events until then."""
        while (at := self._provider.next_at()) is not None and at <= until:
            self._clock.go_to(at)
            self._provider.advance(self._clock.now())
        self._clock.go_to(until)

    def wait(self, waits: Callable[[Turn], Waits[_T]], branch: Branch, now: ReadClock) -> _T:
        """Advance the clock to each time in `waits`. A wait without a time is a deadlock."""
        steps = waits(Turn(lambda: None))
        try:
            while True:
                until = next(steps)
                if until is None:
                    why = "the program waits for another task, and there is none"
                    raise DeadlockError(now(), why)
                self.pass_time(until)
        except StopIteration as end:
            value: _T = end.value
            return value
        finally:
            steps.close()
