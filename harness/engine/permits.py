"""Permits limit the attempts in flight in the whole process, first come first served.

`PermitQueue` decides who gets the next permit; it never waits. `Turnstile` contains the steps of
acquiring, parking and releasing as generators that yield at each wait. Its subclasses wait, each in
the way of its mode. `Turns` is for sync mode, where calls run one after another.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from harness.engine.branches import Branch
from harness.engine.effects import Grant, Park
from harness.engine.waiting import BlockingWait, Turn, Waits, sleeping, wait_async, wait_blocking
from harness.records.clock import ReadClock

_Ticket = TypeVar("_Ticket")


class PermitQueue(Generic[_Ticket]):
    """The free permits, the queue of waiting tickets, and the parked tickets.

    `permits`: how many there are. `resize` changes it; while more are in use than there are, the
    number of free permits is negative, and permits that are given back are not handed on.
    """

    def __init__(self, permits: int) -> None:
        self.permits = permits
        self._free = permits
        # A dict keeps the order and removes from anywhere in constant time.
        self._waiting: OrderedDict[_Ticket, None] = OrderedDict()
        self._parked: dict[Hashable, dict[_Ticket, int | None]] = {}

    def take(self) -> bool:
        """Take a free permit if there is one. While a ticket waits, no permit is free."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    @property
    def in_use(self) -> int:
        """The permits that are in use."""
        return self.permits - self._free

    @property
    def waiting(self) -> int:
        """The tickets in the queue."""
        return len(self._waiting)

    def resize(self, permits: int) -> list[_Ticket]:
        """Change how many permits there are; return the tickets that get one, in their order."""
        self._free += permits - self.permits
        self.permits = permits
        served = []
        while self._free > 0 and self._waiting:
            self._free -= 1
            served.append(self._waiting.popitem(last=False)[0])
        return served

    def queue(self, ticket: _Ticket) -> None:
        """Add a ticket to the end of the queue."""
        self._waiting[ticket] = None

    def leave(self, ticket: _Ticket) -> bool:
        """Remove a ticket from the queue; False if it was not there because it had its turn."""
        return self._waiting.pop(ticket, ticket) is not ticket

    def give_back(self) -> _Ticket | None:
        """Return a permit; the result is the ticket that gets it, None if no ticket waits."""
        if self._waiting and self._free >= 0:
            return self._waiting.popitem(last=False)[0]
        self._free += 1
        return None

    def park(self, ticket: _Ticket, bell: Hashable, until: int | None) -> None:
        """Park a ticket at a bell, behind those that are parked there."""
        self._parked.setdefault(bell, {})[ticket] = until

    def unpark(self, ticket: _Ticket, bell: Hashable) -> bool:
        """Remove a parked ticket; False if it is not parked."""
        return self._parked.get(bell, {}).pop(ticket, ticket) is not ticket

    def due(self, bell: Hashable, now: int | None) -> list[_Ticket]:
        """Remove and return the tickets whose parking ends at `now` (None: all of them).

        They are in the order in which they were parked.
        """
        parked = self._parked.get(bell, {})
        ended = [ticket for ticket, until in parked.items() if now is None or _too_late(now, until)]
        for ticket in ended:
            del parked[ticket]
        if not parked:
            self._parked.pop(bell, None)
        return ended


def _too_late(now: int, deadline: int | None) -> bool:
    return deadline is not None and now >= deadline


class Turnstile:
    """The steps of acquiring, parking and releasing, without the waiting."""

    def __init__(self, permits: int, now: ReadClock) -> None:
        self._line: PermitQueue[Turn] = PermitQueue(permits)
        self._lock = threading.Lock()
        self._now = now
        self._rings = 0

    def at_once(self, deadline: int | None, turn: Turn | None = None) -> Grant | None:
        """Return a grant that needs no wait: a free permit, or none after `deadline`.

        Otherwise queue `turn`, if it is given, and return None.
        """
        requested = self._now()
        if deadline is not None and requested >= deadline:
            return Grant(requested, None, self._rings)
        with self._lock:
            if self._line.take():
                return Grant(requested, requested, self._rings)
            if turn is not None:
                turn.requested = requested
                self._line.queue(turn)
        return None

    def acquiring(self, turn: Turn, deadline: int | None) -> Waits[Grant]:
        """Acquire a permit; `granted` is None if `deadline` came first."""
        return self.at_once(deadline, turn) or (yield from self._in_line(turn, deadline))

    def parking(self, turn: Turn, effect: Park) -> Waits[Grant]:
        """Release or keep the permit, wait for the bell, and acquire a permit again."""
        turn.keep = effect.keep
        until, deadline = effect.until, effect.deadline
        if deadline is not None:
            until = deadline if until is None else min(until, deadline)
        with self._lock:
            if effect.rings != self._rings:  # a ring since then may have been of this bell
                now = self._now()
                return Grant(now, now, self._rings)
            self._line.park(turn, effect.bell, until)
            if not turn.keep:
                self._serve()
        yield from self._parked(turn, effect.bell, until)
        assert turn.requested is not None, "its parking has ended"
        if turn.keep:
            return Grant(turn.requested, turn.requested, self._rings)
        return (yield from self._in_line(turn, deadline))

    def ring(self, bell: Hashable) -> None:
        """Queue all tickets that are parked at a bell."""
        with self._lock:
            self._rings += 1
            self._into_line(self._line.due(bell, None))

    def release(self) -> None:
        """Give the permit to the next ticket in the queue."""
        with self._lock:
            self._serve()

    def resize(self, permits: int) -> None:
        """Change how many permits there are; those in use stay in use until they are released."""
        with self._lock:
            for turn in self._line.resize(permits):
                turn.served = True
                turn.wake()

    @property
    def in_use(self) -> int:
        """The permits that are in use."""
        return self._line.in_use

    @property
    def wanted(self) -> int:
        """The permits that are in use, and those that calls wait for."""
        return self._line.in_use + self._line.waiting

    def _parked(self, turn: Turn, bell: Hashable, until: int | None) -> Waits[None]:
        try:
            yield until
        except GeneratorExit:
            with self._lock:
                if not self._line.unpark(turn, bell):
                    self._abandon(turn)
            raise
        with self._lock:
            if turn.requested is None:  # no ring: `until` was reached, or the branch was cancelled
                self._into_line(self._line.due(bell, self._now()))
            if turn.requested is None:
                self._line.unpark(turn, bell)
                self._into_line([turn])

    def _in_line(self, turn: Turn, deadline: int | None) -> Waits[Grant]:
        try:
            yield deadline
        except GeneratorExit:
            self.abandon(turn)
            raise
        return self.leave(turn)

    def leave(self, turn: Turn) -> Grant:
        """End the wait of a turn that `at_once` has queued."""
        assert turn.requested is not None, "it has been in the queue"
        if not turn.served:  # otherwise no lock: 0.4 us less
            with self._lock:
                if self._line.leave(turn):
                    return Grant(turn.requested, None, self._rings)
        return Grant(turn.requested, self._now(), self._rings)

    def abandon(self, turn: Turn) -> None:
        """End the wait of a turn that is not wanted any more; it may have got a permit already."""
        with self._lock:
            self._abandon(turn)

    def _abandon(self, turn: Turn) -> None:
        if not turn.keep and not self._line.leave(turn):
            self._serve()

    def _into_line(self, turns: list[Turn]) -> None:
        now = self._now()
        for turn in turns:
            turn.requested = now
            if turn.keep or self._line.take():
                turn.wake()
            else:
                self._line.queue(turn)

    def _serve(self) -> None:
        turn = self._line.give_back()
        if turn is not None:
            turn.served = True
            turn.wake()


class AsyncPermits(Turnstile):
    """Permits for the tasks of one event loop."""

    async def acquire(self, deadline: int | None, branch: Branch | None = None) -> Grant:
        """Wait for a permit, at most until `deadline`; `granted` is None if that came first."""
        grant = self.at_once(deadline)
        if grant is None:
            grant = await wait_async(
                lambda turn: self.acquiring(turn, deadline), branch or Branch(), self._now
            )
        if grant.granted == grant.requested:
            await self._let_others_ask()
        return grant

    async def _let_others_ask(self) -> None:
        """Let every branch of a fan-out request its permit before the first builds its request.

        Building a request takes a millisecond or more. Without this, it would delay the requests
        for permits of the other branches, which no recorded wait includes. With it, it delays their
        sending, which the client wait includes.
        """
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.release()
            raise

    async def park(self, effect: Park, branch: Branch) -> Grant:
        """Wait for a bell, and then for a permit."""
        return await wait_async(lambda turn: self.parking(turn, effect), branch, self._now)

    async def sleep(self, until: int, branch: Branch) -> int:
        """Wait until a time; return the time at which the wait ended."""
        await wait_async(lambda turn: sleeping(turn, until), branch, self._now)
        return self._now()


class ThreadPermits(Turnstile):
    """Permits for the threads of a process."""

    def acquire(self, ready: int, deadline: int | None, branch: Branch | None = None) -> Grant:
        """Wait for a permit, at most until `deadline`; `granted` is None if that came first."""
        branch = branch or Branch()
        return wait_blocking(lambda turn: self.acquiring(turn, deadline), branch, self._now)

    def park(self, effect: Park, branch: Branch) -> Grant:
        """Wait for a bell, and then for a permit."""
        return wait_blocking(lambda turn: self.parking(turn, effect), branch, self._now)


class Turns:
    """The single permit of sync mode, where a call's turn is its permit.

    The wait counts from the moment at which the call was ready. `wait`: the function with which the
    thread waits.
    """

    def __init__(self, now: ReadClock, wait: BlockingWait = wait_blocking) -> None:
        self._now = now
        self._wait = wait

    def acquire(self, ready: int, deadline: int | None, branch: Branch | None = None) -> Grant:
        """Return at once; `granted` is None if the turn came after `deadline`."""
        now = self._now()
        return Grant(ready, None if _too_late(now, deadline) else now)

    def park(self, effect: Park, branch: Branch) -> Grant:
        """Wait until the given time: no other call runs that could ring."""
        moment = min(time for time in (effect.until, effect.deadline) if time is not None)
        self._wait(lambda turn: sleeping(turn, moment), branch, self._now)
        now = self._now()
        return Grant(now, now)

    def ring(self, bell: Hashable) -> None:
        """Do nothing: no other call can be parked."""

    def release(self) -> None:
        """Do nothing: the next call has its turn."""
