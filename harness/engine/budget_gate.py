"""The budget gate: every attempt and every record of a run passes through it.

The gate reserves the worst case of an attempt before it is sent. After the budget has refused one
attempt, no other is sent. The refused attempt waits until the attempts in flight have ended and are
recorded, because they are paid for; then the trial ends. The gate also ends a run whose first
answer shows that no later request can succeed: a wrong key, a wrong model, no balance.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol

from harness.engine.branches import Branch
from harness.engine.effects import EmitRecord, Reply, Send
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
"""Outcomes after which no request of the run can succeed, if none has succeeded before."""

_CHECK_SECONDS = 0.1
_NOTHING = Amount()


class BudgetExhaustedError(Exception):
    """The budget refused an attempt. All attempts in flight have ended and are recorded."""

    def __init__(self, refusal: BudgetRefusal) -> None:
        super().__init__(refusal.limit)
        self.refusal = refusal


class FirstCallError(Exception):
    """The first answer shows that no request can succeed. `attempt`: its record."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.outcome)
        self.attempt = attempt


class Meter(Protocol):
    """Measures what attempts use."""

    def worst(self, effect: Send) -> Amount:
        """Return the worst case of an attempt."""
        ...

    def used(self, worst: Amount, reply: Reply) -> Amount:
        """Return what the attempt used; `worst` if that is unknown."""
        ...


class Gate:
    """The gate of one run, for all its trials. It is safe to use from several tasks and threads.

    `meter`: None without limits; then nothing is reserved or counted, and every attempt passes.
    `limits.seconds` are real seconds since the origin of `now`. `sending` is called with 1 when an
    attempt is sent and with -1 when it has ended. `ledger`: the amounts that are spent and
    reserved. `answered`: whether an answer has shown that requests can succeed. If each trial has
    its own gate, they start with the values after the earlier trials. `book` is called with the sum
    of spent and reserved amounts, before an attempt is sent and after it has ended.
    """

    def __init__(
        self,
        limits: BudgetLimits,
        meter: Meter | None,
        now: ReadClock,
        sending: Callable[[int], None] = lambda change: None,
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
        self.ledger = ledger or Ledger(limits)
        self._refusal: BudgetRefusal | None = None
        self._hopeless: Attempt | None = None
        self.answered = answered
        self._in_flight = 0
        self._at_rest: list[Callable[[], None]] = []

    def enter(self, effect: Send) -> Amount | BudgetRefusal:
        """Reserve and return the worst case of an attempt, or return the refusal.

        Raises FirstCallError if the first answer showed that no request can succeed.
        """
        if self._meter is None:
            if self._hopeless is not None:
                raise FirstCallError(self._hopeless)
            self._sending(1)
            return _NOTHING
        worst = self._meter.worst(effect)
        with self._lock:
            if self._hopeless is not None:
                raise FirstCallError(self._hopeless)
            if self._refusal is not None:
                return self._refusal
            answer = reserve(self.ledger, worst, self._now() / SECOND)
            if isinstance(answer, BudgetRefusal):
                self._refusal = answer
                return answer
            self.ledger = answer
            if self._book is not None:
                self._book(committed(answer))
            self._in_flight += 1
            self._sending(1)
            return worst

    def leave(self, worst: Amount, reply: Reply) -> None:
        """Settle an attempt that has ended. It counts as in flight until its record is emitted."""
        if self._meter is None:
            self._sending(-1)
            return
        used = self._meter.used(worst, reply)
        with self._lock:
            self.ledger = settle(self.ledger, worst, used)
            self._sending(-1)
            if self._book is not None:
                self._book(committed(self.ledger))

    def abandon(self, worst: Amount) -> None:
        """Settle an interrupted attempt at its worst case, because its use is unknown."""
        if self._meter is None:
            self._sending(-1)
            return
        with self._lock:
            self.ledger = settle(self.ledger, worst, worst)
            self._sending(-1)
        self._rest()

    def emitting(self, emit: EmitRecord) -> EmitRecord:
        """Return an `emit` function whose records pass the gate.

        It raises FirstCallError after the record of a first answer that shows that no request can
        succeed, and records nothing after that.
        """

        def passing(record: Record) -> None:
            if self._hopeless is not None:
                raise FirstCallError(self._hopeless)
            if type(record) is not Attempt:
                emit(record)
                return
            if not self.answered:
                self._judge(record)
            emit(record)
            if self._hopeless is not None:
                raise FirstCallError(self._hopeless)
            if self._meter is not None:
                self._rest()

        return passing

    def when_at_rest(self, act: Callable[[], None]) -> None:
        """Call `act` when nothing is in flight: now, or later from the last task or thread."""
        with self._lock:
            if self._in_flight:
                self._at_rest.append(act)
                return
        act()

    def _judge(self, attempt: Attempt) -> None:
        if attempt.status is None:
            return
        if attempt.status in HOPELESS:
            self._hopeless = attempt
        elif attempt.status < 300:
            self.answered = True

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
    """Return a `send` function for blocking code that passes the gate. `stop` ends its waits."""

    def passing(effect: Send, branch: Branch) -> Reply:
        worst = gate.enter(effect)
        if isinstance(worst, BudgetRefusal):
            rested = threading.Event()
            gate.when_at_rest(rested.set)
            while not rested.wait(_CHECK_SECONDS) and not stop.is_set():
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
    """Return a `send` function for asyncio that passes the gate."""

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
