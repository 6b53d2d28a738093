"""Permits: at most so many attempts in flight in the whole process, first come first served.

Who gets the next permit is decided by `Line`, which never waits. `Turnstile` is what is done with
it, step by step, up to each wait; the classes below wait, each in its own way.
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

Ticket = TypeVar("Ticket")


class PermitQueue(Generic[Ticket]):
    """Free permits, those who wait for one in the order they came, and those who are parked."""

    def __init__(self, permits: int) -> None:
        self._free = permits
        # In order, and quick to leave from anywhere, however long it is.
        self._waiting: OrderedDict[Ticket, None] = OrderedDict()
        self._parked: dict[Hashable, dict[Ticket, int | None]] = {}

    def take(self) -> bool:
        """Take a free permit if there is one; as long as anybody waits there is none."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def queue(self, ticket: Ticket) -> None:
        """Wait at the end of the line."""
        self._waiting[ticket] = None

    def leave(self, ticket: Ticket) -> bool:
        """Stop waiting; False when the ticket is no longer in the line, so its turn had come."""
        try:
            del self._waiting[ticket]
        except KeyError:
            return False
        return True

    def give_back(self) -> Ticket | None:
        """Return the ticket whose turn it is with this permit; None when nobody waits."""
        if self._waiting:
            return self._waiting.popitem(last=False)[0]
        self._free += 1
        return None

    def park(self, ticket: Ticket, bell: Hashable, until: int | None) -> None:
        """Wait outside the line, behind those who are parked at this bell already."""
        self._parked.setdefault(bell, {})[ticket] = until

    def unpark(self, ticket: Ticket, bell: Hashable) -> bool:
        """Stop being parked; False when it is parked no longer."""
        return self._parked.get(bell, {}).pop(ticket, ticket) is not ticket

    def due(self, bell: Hashable, now: int | None) -> list[Ticket]:
        """Return those whose parking ends `now`, all of them for None; they are parked no longer.

        They come in the order in which they were parked.
        """
        parked = self._parked.get(bell, {})
        ended = [
            ticket
            for ticket, until in parked.items()
            if now is None or (until is not None and until <= now)
        ]
        for ticket in ended:
            del parked[ticket]
        if not parked:
            self._parked.pop(bell, None)
        return ended


def _too_late(now: int, deadline: int | None) -> bool:
    return deadline is not None and now >= deadline


class Turnstile:
    """What whoever wants a permit does, but for the waiting."""

    def __init__(self, permits: int, now: ReadClock) -> None:
        self._line: PermitQueue[Turn] = PermitQueue(permits)
        self._lock = threading.Lock()
        self._now = now
        self._rings = 0

    def at_once(self, deadline: int | None) -> Grant | None:
        """Return what needs no wait: a free permit, or none because `deadline` has passed."""
        requested = self._now()
        if _too_late(requested, deadline):
            return Grant(requested, None, self._rings)
        with self._lock:
            return Grant(requested, requested, self._rings) if self._line.take() else None

    def acquiring(self, turn: Turn, deadline: int | None) -> Waits[Grant]:
        """Have a permit, until `deadline` at most; `granted` is None if that came first."""
        requested = self._now()
        if _too_late(requested, deadline):
            return Grant(requested, None, self._rings)
        with self._lock:
            if self._line.take():
                return Grant(requested, requested, self._rings)
            self._line.queue(turn)
        turn.asked = requested
        return (yield from self._in_line(turn, deadline))

    def parking(self, turn: Turn, asked: Park) -> Waits[Grant]:
        """Give the permit back or keep it, wait at the bell, and have a permit again."""
        turn.keep = asked.keep
        until, deadline = asked.until, asked.deadline
        if deadline is not None:
            until = deadline if until is None else min(until, deadline)
        with self._lock:
            if asked.rings != self._rings:  # what was rung since may have been this bell
                now = self._now()
                return Grant(now, now, self._rings)
            self._line.park(turn, asked.bell, until)
            if not turn.keep:
                self._serve()
        yield from self._parked(turn, asked.bell, until)
        assert turn.asked is not None, "whoever is parked no longer stands in the line"
        if turn.keep:
            return Grant(turn.asked, turn.asked, self._rings)
        return (yield from self._in_line(turn, deadline))

    def ring(self, bell: Hashable) -> None:
        """Let everybody who is parked at a bell stand in line again."""
        with self._lock:
            self._rings += 1
            self._into_line(self._line.due(bell, None))

    def release(self) -> None:
        """Hand the permit to the next in line."""
        with self._lock:
            self._serve()

    def _parked(self, turn: Turn, bell: Hashable, until: int | None) -> Waits[None]:
        try:
            yield until
        except GeneratorExit:
            with self._lock:
                if not self._line.unpark(turn, bell):
                    self._abandon(turn)
            raise
        with self._lock:
            if turn.asked is None:  # nobody rang: it is time, or the branch was cancelled
                self._into_line(self._line.due(bell, self._now()))
            if turn.asked is None:
                self._line.unpark(turn, bell)
                self._into_line([turn])

    def _in_line(self, turn: Turn, deadline: int | None) -> Waits[Grant]:
        assert turn.asked is not None, "it stands in the line"
        try:
            yield deadline
        except GeneratorExit:
            with self._lock:
                self._abandon(turn)
            raise
        with self._lock:
            if self._line.leave(turn):
                return Grant(turn.asked, None, self._rings)
            return Grant(turn.asked, self._now(), self._rings)

    def _abandon(self, turn: Turn) -> None:
        """Nobody waits any more, and nobody takes the permit that may have come."""
        if not turn.keep and not self._line.leave(turn):
            self._serve()

    def _into_line(self, turns: list[Turn]) -> None:
        """Let those whose parking has ended stand in line, in their order."""
        now = self._now()
        for turn in turns:
            turn.asked = now
            if turn.keep or self._line.take():
                turn.wake()
            else:
                self._line.queue(turn)

    def _serve(self) -> None:
        """Hand a permit to the next in line."""
        turn = self._line.give_back()
        if turn is not None:
            turn.wake()


class AsyncPermits:
    """Permits for the tasks of one event loop."""

    def __init__(self, permits: int, now: ReadClock) -> None:
        self._stile = Turnstile(permits, now)
        self._now = now

    async def acquire(self, deadline: int | None, branch: Branch | None = None) -> Grant:
        """Wait for a permit, until `deadline` at most; `granted` is None if that came first."""
        grant = self._stile.at_once(deadline)
        if grant is None:
            grant = await wait_async(
                lambda turn: self._stile.acquiring(turn, deadline), branch or Branch(), self._now
            )
        if grant.granted == grant.requested:
            await self._let_others_ask()
        return grant

    async def _let_others_ask(self) -> None:
        """Let every branch of a fan-out ask for its permit before the first builds its request.

        Building takes a millisecond and more; without this it would delay the siblings' asking,
        where no wait accounts for it, instead of their sending, where the client wait does.
        """
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.release()
            raise

    async def park(self, asked: Park, branch: Branch) -> Grant:
        """Wait at a bell, and then for a permit."""
        return await wait_async(lambda turn: self._stile.parking(turn, asked), branch, self._now)

    async def sleep(self, until: int, branch: Branch) -> None:
        """Wait until a moment."""
        await wait_async(lambda turn: sleeping(turn, until), branch, self._now)

    def ring(self, bell: Hashable) -> None:
        """Let everybody who is parked at a bell stand in line again."""
        self._stile.ring(bell)

    def release(self) -> None:
        """Hand the permit to the next in line."""
        self._stile.release()


class ThreadPermits:
    """Permits for the threads of a process."""

    def __init__(self, permits: int, now: ReadClock) -> None:
        self._stile = Turnstile(permits, now)
        self._now = now

    def acquire(self, ready: int, deadline: int | None, branch: Branch | None = None) -> Grant:
        """Wait for a permit, until `deadline` at most; `granted` is None if that came first."""
        branch = branch or Branch()
        return wait_blocking(lambda turn: self._stile.acquiring(turn, deadline), branch, self._now)

    def park(self, asked: Park, branch: Branch) -> Grant:
        """Wait at a bell, and then for a permit."""
        return wait_blocking(lambda turn: self._stile.parking(turn, asked), branch, self._now)

    def ring(self, bell: Hashable) -> None:
        """Let everybody who is parked at a bell stand in line again."""
        self._stile.ring(bell)

    def release(self) -> None:
        """Hand the permit to the next in line."""
        self._stile.release()


class Turns:
    """The one permit of a program that makes one call after another: its turn.

    Whoever is ready has been waiting for it since then, so the wait is counted from there. `wait`:
    how the program's thread waits.
    """

    def __init__(self, now: ReadClock, wait: BlockingWait = wait_blocking) -> None:
        self._now = now
        self._wait = wait

    def acquire(self, ready: int, deadline: int | None, branch: Branch | None = None) -> Grant:
        """Return at once; `granted` is None when the turn came after `deadline`."""
        now = self._now()
        return Grant(ready, None if _too_late(now, deadline) else now)

    def park(self, asked: Park, branch: Branch) -> Grant:
        """Wait until it is time: there is nobody else who could ring."""
        until, deadline = asked.until, asked.deadline
        assert until is not None or deadline is not None, "nobody would ever ring"
        moment = min(time for time in (until, deadline) if time is not None)
        self._wait(lambda turn: sleeping(turn, moment), branch, self._now)
        now = self._now()
        return Grant(now, now)

    def ring(self, bell: Hashable) -> None:
        """Nobody is parked: whoever could be is the one who rings."""

    def release(self) -> None:
        """The next call has its turn."""
