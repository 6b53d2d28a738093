"""The gate between the programs of a run and the wire: every attempt and every record passes it.

It asks the budget before an attempt goes out. When the budget refuses one, no other goes out
either: whoever is refused waits until the attempts in flight are back and recorded, because they
are paid for, and then ends the trial. It also ends a run whose first answer says that no other
can be better: a wrong key, a wrong model, no balance.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol

from harness.engine.branches import Branch
from harness.engine.effects import Reply, Send
from harness.engine.ledger import (
    Amount,
    BudgetLimits,
    BudgetRefusal,
    Ledger,
    committed,
    reserve,
    settle,
)
from harness.records.clock import SECOND, ReadClock
from harness.records.schema import Attempt, Record

HOPELESS = frozenset({401, 402, 403, 404})
"""Statuses that no later request of the run will better, as long as none has been answered."""

_LOOK_SECONDS = 0.1


class BudgetExhaustedError(Exception):
    """The budget refused an attempt; all that was in flight has come to rest and is recorded."""

    def __init__(self, refusal: BudgetRefusal) -> None:
        super().__init__(refusal.limit)
        self.refusal = refusal


class FirstCallError(Exception):
    """The first answer of the run was hopeless; `attempt` is its record."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.outcome)
        self.attempt = attempt


class Meter(Protocol):
    """Says what attempts use."""

    def worst(self, effect: Send) -> Amount:
        """Return the most that an attempt can use."""
        ...

    def used(self, worst: Amount, reply: Reply) -> Amount:
        """Return what it did use; `worst` where that is not known."""
        ...


def _nobody(change: int) -> None:
    """Tell nobody."""


class Gate:
    """The gate of one run, for all its trials. Tasks and threads may pass it at once.

    `limits.seconds` are real ones and count from the origin of `now`. `sending` is told of each
    attempt that goes out (1) and comes back (-1). Where trials have a gate each, `ledger` is what
    the earlier ones left, and `answered` says that the run's first answer was theirs. `book` is
    told all that is spent and reserved, before each attempt goes out and after it is back; without
    one nothing is added up for it.
    """

    def __init__(
        self,
        limits: BudgetLimits,
        meter: Meter,
        now: ReadClock,
        sending: Callable[[int], None] = _nobody,
        *,
        ledger: Ledger | None = None,
        answered: bool = False,
        book: Callable[[Amount], None] | None = None,
    ) -> None:
        self._book = book
        self._sending = sending
        self._meter = meter
        self._now = now
        self._lock = threading.Lock()
        self._ledger = ledger or Ledger(limits)
        self._refusal: BudgetRefusal | None = None
        self._hopeless: Attempt | None = None
        self._answered = answered
        self._in_flight = 0
        self._at_rest: list[Callable[[], None]] = []

    @property
    def ledger(self) -> Ledger:
        """What has been spent and what is reserved."""
        return self._ledger

    def enter(self, effect: Send) -> Amount | BudgetRefusal:
        """Reserve and return the worst case of an attempt, or refuse it.

        Raises FirstCallError when the first answer was hopeless.
        """
        worst = self._meter.worst(effect)
        with self._lock:
            if self._hopeless is not None:
                raise FirstCallError(self._hopeless)
            if self._refusal is not None:
                return self._refusal
            answer = reserve(self._ledger, worst, self._now() / SECOND)
            if isinstance(answer, BudgetRefusal):
                self._refusal = answer
                return answer
            self._ledger = answer
            if self._book is not None:
                self._book(committed(answer))
            self._in_flight += 1
            self._sending(1)
            return worst

    def leave(self, worst: Amount, reply: Reply) -> None:
        """Settle an attempt that has ended; it is in flight until its record has passed."""
        used = self._meter.used(worst, reply)
        with self._lock:
            self._ledger = settle(self._ledger, worst, used)
            self._sending(-1)
            if self._book is not None:
                self._book(committed(self._ledger))

    def abandon(self, worst: Amount) -> None:
        """Settle an attempt that was broken off: nobody knows what it used, so all of `worst`."""
        with self._lock:
            self._ledger = settle(self._ledger, worst, worst)
            self._sending(-1)
        self._rest()

    def emitting(self, emit: Callable[[Record], None]) -> Callable[[Record], None]:
        """Return an `emit` whose records pass the gate.

        It raises FirstCallError after the record of a hopeless first answer, and records nothing
        after that.
        """

        def passing(record: Record) -> None:
            if self._hopeless is not None:
                raise FirstCallError(self._hopeless)
            if isinstance(record, Attempt):
                self._judge(record)
            emit(record)
            if self._hopeless is not None:
                raise FirstCallError(self._hopeless)
            if isinstance(record, Attempt):
                self._rest()

        return passing

    def when_at_rest(self, act: Callable[[], None]) -> None:
        """Call `act` once nothing is in flight: now, or from whichever task or thread is last."""
        with self._lock:
            if self._in_flight:
                self._at_rest.append(act)
                return
        act()

    def _judge(self, attempt: Attempt) -> None:
        if attempt.status is None or self._answered:
            return
        if attempt.status in HOPELESS:
            self._hopeless = attempt
        elif attempt.status < 300:
            self._answered = True

    def _rest(self) -> None:
        with self._lock:
            self._in_flight -= 1
            waiting: list[Callable[[], None]] = []
            if self._in_flight == 0:
                waiting, self._at_rest = self._at_rest, waiting
        for act in waiting:
            act()


def through_gate(
    gate: Gate, send: Callable[[Send, Branch], Reply], stop: threading.Event
) -> Callable[[Send, Branch], Reply]:
    """Return a `send` for blocking code that passes the gate; `stop` ends a wait for rest."""

    def passing(effect: Send, branch: Branch) -> Reply:
        worst = gate.enter(effect)
        if isinstance(worst, BudgetRefusal):
            rested = threading.Event()
            gate.when_at_rest(rested.set)
            while not rested.wait(_LOOK_SECONDS) and not stop.is_set():
                pass
            raise BudgetExhaustedError(worst)
        try:
            reply = send(effect, branch)
        except BaseException:
            gate.abandon(worst)
            raise
        gate.leave(worst, reply)
        return reply

    return passing


def through_gate_async(
    gate: Gate, send: Callable[[Send, Branch], Awaitable[Reply]]
) -> Callable[[Send, Branch], Awaitable[Reply]]:
    """Return a `send` for asyncio that passes the gate."""

    async def passing(effect: Send, branch: Branch) -> Reply:
        worst = gate.enter(effect)
        if isinstance(worst, BudgetRefusal):
            rested = asyncio.Event()
            gate.when_at_rest(rested.set)
            await rested.wait()
            raise BudgetExhaustedError(worst)
        try:
            reply = await send(effect, branch)
        except BaseException:
            gate.abandon(worst)
            raise
        gate.leave(worst, reply)
        return reply

    return passing
