"""The budget gate: every attempt and every record of a run passes through it.

The gate reserves the worst case of an attempt before it is sent. An attempt for which there is no
room waits, in order of arrival, until attempts in flight have ended and have used less than their
worst case. When there would be no room even if they used nothing, no other attempt is sent: the
trial ends as soon as the attempts in flight have ended and are recorded, because they are paid for.
The gate also ends a run whose first answer shows that no later request can succeed: a wrong key, a
wrong model, no balance.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from harness.engine.branches import Branch
from harness.engine.deadlines import (
    DEADLINE_PASSED,
    TOO_LATE,
    UNWANTED,
    WORKFLOW_TIMEOUT,
    extended,
)
from harness.engine.effects import EmitRecord, Reply, Send, unsent
from harness.engine.ledger import (
    Amount,
    BudgetLimits,
    BudgetRefusal,
    Ledger,
    admit,
    committed,
    settle,
)
from harness.engine.shared_cell import SharedCell, SharedFlag, SharedState
from harness.engine.waiting import BlockingWait, Turn, Waits, wait_async, wait_blocking
from harness.records.clock import SECOND, ReadClock
from harness.records.failures import CANCELLED
from harness.records.schema import Attempt, Record

HOPELESS = frozenset(
    {
        "unauthorized", "insufficient_balance", "forbidden", "not_found", "quota_exhausted",
    }
)  # fmt: skip
"""Outcomes after which no request of the run can succeed, if none has succeeded before."""

HOPELESS_REQUEST = frozenset({"bad_request", "payload_too_large", "unprocessable", "http_error"})
"""Outcomes that say so of a real server, which refuses the form of the requests."""

HOPELESS_CONNECTION = frozenset({"certificate_error", "wrong_protocol"})
"""Outcomes without a response that say so."""

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
    """Measures what attempts use. `most`: the most that an attempt has used beyond its worst case.

    Later attempts are assumed to use at least as much.
    """

    most: Amount

    def worst(self, effect: Send) -> Amount:
        """Return the worst case of an attempt."""
        ...

    def used(self, worst: Amount, reply: Reply) -> Amount:
        """Return what the attempt used; `worst` if that is unknown."""
        ...


class Entry(NamedTuple):
    """The end of a wait for room in the budget, which lasted `waited` nanoseconds.

    `worst`: the amount that is reserved. None if the attempt is not sent, because its branch was
    cancelled or its workflow's deadline came first.
    """

    worst: Amount | None
    waited: int


class _Waiter:
    """An attempt in the line for room. `reserved`: its worst case when it has been let in."""

    __slots__ = ("effect", "reserved", "turn")

    def __init__(self, turn: Turn, effect: Send) -> None:
        self.turn = turn
        self.effect = effect
        self.reserved: Amount | None = None


class Gate:
    """The gate of one run, for all its trials. It is safe to use from several tasks and threads.

    `meter`: None without limits; then nothing is reserved or counted, and every attempt passes.
    `limits.seconds` are real seconds since the origin of `now`, of which `elapsed` nanoseconds had
    passed when it read 0. `sending` is called with 1 when an attempt is sent and with -1 when it
    has ended. `ledger`: the amounts that are spent and reserved. `answered`: whether an answer has
    shown that requests can succeed. If each trial has its own gate, they start with the values
    after the earlier trials. `shared`: the state that the gates of several processes have in
    common; `answers`: what `answered` is for them. `book` is called with the sum of spent and
    reserved amounts, before an attempt is sent and after it has ended. `hopeless`: the outcomes of
    a first attempt that end the run. `send_by`: from when on nothing is sent, by `now`.
    """

    def __init__(
        self,
        limits: BudgetLimits,
        meter: Meter | None,
        now: ReadClock,
        sending: Callable[[int], None] = lambda change: None,
        *,
        elapsed: int = 0,
        ledger: Ledger | None = None,
        answered: bool = False,
        book: Callable[[Amount], None] | None = None,
        hopeless: Collection[str] = HOPELESS,
        shared: SharedCell | None = None,
        answers: SharedFlag | None = None,
    ) -> None:
        self._book = book
        self._ends_run = hopeless
        self._sending = sending
        self._meter = meter
        self._elapsed = elapsed
        self.now = now
        self._shared = None if shared is None else SharedState(shared, self._load, self._dump)
        self._lock: AbstractContextManager[object] = self._shared or threading.Lock()
        self._answers = answers
        self.ledger = ledger or Ledger(limits)
        self.send_by = None if limits.seconds is None else round(limits.seconds * SECOND) - elapsed
        self._refusal: BudgetRefusal | None = None
        self._hopeless: Attempt | None = None
        self.answered = answered
        self._in_flight = 0  # attempts that are not recorded yet
        self._line: OrderedDict[_Waiter, None] = OrderedDict()
        self._is_over = False  # an attempt was refused, and all others are recorded

    def enter(self, effect: Send) -> Amount | None:
        """Reserve and return the worst case of an attempt; None if it has to wait.

        Raises FirstCallError if the first answer showed that no request can succeed.
        """
        if self._hopeless is not None:
            raise FirstCallError(self._hopeless)
        if self._meter is None:
            self._sending(1)
            return _NOTHING
        with self._lock:
            worst = self._meter.worst(effect)
            return worst if not self._line and self._reserve(worst) else None

    def waiting(self, turn: Turn, effect: Send) -> Waits[Entry]:
        """Wait for room in the budget, in the order of arrival.

        Raises BudgetExhaustedError if there can be no room, when all attempts in flight have ended
        and are recorded, and FirstCallError as `enter` does.
        """
        assert self._meter is not None, "without limits there is always room"
        began, waiter = self.now(), _Waiter(turn, effect)
        with self._lock:
            self._line[waiter] = None
            self._serve()
            self._end_waits()
        if waiter.reserved is None and not self._is_over:
            try:
                yield effect.deadlines.latest
            except GeneratorExit:
                self._leave_line(waiter)
                raise
        if self._hopeless is not None:
            self._leave_line(waiter)
            raise FirstCallError(self._hopeless)
        with self._lock:
            if waiter.reserved is None:
                if self._is_over:
                    assert self._refusal is not None, "it is over because of it"
                    raise BudgetExhaustedError(self._refusal)
                del self._line[waiter]
                self._in_flight += 1  # until its record, which says that it was not sent
                self._serve()
        return Entry(waiter.reserved, self.now() - began)

    def to_send(self, effect: Send, waited: int) -> Send:
        """Return the effect with the deadlines after a wait, and the latest time to send it."""
        if not waited and self.send_by is None:
            return effect
        deadlines = extended(effect.deadlines, waited) if waited else effect.deadlines
        return msgspec.structs.replace(
            effect, deadlines=msgspec.structs.replace(deadlines, send_by=self.send_by)
        )

    def not_sent(self, effect: Send, entry: Entry) -> Reply:
        """Return the reply to an attempt whose wait ended without room for it."""
        now, latest = self.now(), effect.deadlines.latest
        if latest is not None and now >= latest:
            reply = unsent(WORKFLOW_TIMEOUT, f"{DEADLINE_PASSED} before there was a budget", now)
        else:
            reply = unsent(CANCELLED, UNWANTED, now)
        return after_wait(reply, entry.waited)

    def leave(self, worst: Amount, reply: Reply) -> None:
        """Settle an attempt that has ended. It counts as in flight until its record is emitted."""
        if self._meter is None:
            self._sending(-1)
            return
        with self._lock:
            self._settle(worst, self._meter.used(worst, reply))
            if self._book is not None:
                self._book(committed(self.ledger))
            self._serve()

    def withdraw(self, worst: Amount) -> None:
        """Release the reservation of an attempt that was not sent and has no record."""
        with self._lock:
            self._settle(worst, _NOTHING)
            self._in_flight -= 1
            self._serve()
            self._end_waits()

    def abandon(self, worst: Amount) -> None:
        """Settle an interrupted attempt at its worst case, because its use is unknown."""
        if self._meter is None:
            self._sending(-1)
            return
        with self._lock:
            self._settle(worst, worst)
            self._in_flight -= 1
            self._end_waits()

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

    def _judge(self, attempt: Attempt) -> None:
        if attempt.outcome in self._ends_run:
            if self._answers is not None and self._answers.is_set():
                self.answered = True  # in another process
            else:
                self._hopeless = attempt
        elif attempt.status is not None and attempt.status < 300:
            self.answered = True
            if self._answers is not None:
                self._answers.set()

    @property
    def refusal(self) -> BudgetRefusal | None:
        """Why the budget sends no other attempt; None as long as it does."""
        return self._refusal

    def look(self) -> bool:
        """Let attempts in for which other processes have made room.

        Returns whether the trial of this process is over without a call that is told so: the budget
        refused one of another process, nothing is in flight, and no attempt waits here.
        """
        if self._shared is not None and self._shared.is_new:
            with self._shared:
                self._serve()
                self._end_waits()
        return self._refusal is not None and not self._in_flight and not self._line

    def _load(self, state: Any) -> None:
        self.ledger, self._refusal, most = state
        if self._meter is not None:
            self._meter.most = most

    def _dump(self) -> Any:
        return self.ledger, self._refusal, self._meter and self._meter.most

    def _reserve(self, worst: Amount) -> bool:
        """Reserve the worst case of an attempt if there is room; note a final refusal."""
        if self._refusal is not None:
            return False
        answer = admit(self.ledger, worst, (self.now() + self._elapsed) / SECOND)
        if isinstance(answer, BudgetRefusal):
            self._refusal = answer
        if not isinstance(answer, Ledger):
            return False
        self.ledger = answer
        if self._book is not None:
            self._book(committed(answer))
        self._in_flight += 1
        self._sending(1)
        return True

    def _settle(self, worst: Amount, used: Amount) -> None:
        self.ledger = settle(self.ledger, worst, used)
        self._sending(-1)

    def _serve(self) -> None:
        """Let the first attempts in line in, as long as there is room for them."""
        assert self._meter is not None, "without limits there is no line"
        while self._line:
            waiter = next(iter(self._line))
            worst = self._meter.worst(waiter.effect)  # can have grown since it came
            if not self._reserve(worst):
                return
            del self._line[waiter]
            waiter.reserved = worst
            waiter.turn.wake()

    def _leave_line(self, waiter: _Waiter) -> None:
        """End the wait of an attempt that has neither a result nor a record."""
        if waiter.reserved is not None:
            self.withdraw(waiter.reserved)
            return
        with self._lock:
            del self._line[waiter]
            self._serve()
            self._end_waits()

    def _rest(self) -> None:
        with self._lock:
            self._in_flight -= 1
            self._end_waits()

    def _end_waits(self) -> None:
        """Wake the refused attempts when nothing is in flight."""
        if self._refusal is not None and not self._in_flight:
            self._is_over = True
            for waiter in self._line:
                waiter.turn.wake()


_Waits: TypeAlias = Callable[[Turn], Waits[Entry]]
"""A wait for room in the budget."""


def after_wait(reply: Reply, waited: int) -> Reply:
    """Return the reply to an attempt that waited for room in the budget."""
    return msgspec.structs.replace(reply, budget_wait=waited) if waited else reply


def through_gate(
    gate: Gate, send: Callable[[Send, Branch], Reply], wait: BlockingWait = wait_blocking
) -> Callable[[Send, Branch], Reply]:
    """Return a `send` function for blocking code that passes the gate."""

    async def sending(effect: Send, branch: Branch) -> Reply:
        return send(effect, branch)

    async def waiting(waits: _Waits, branch: Branch, now: ReadClock) -> Entry:
        return wait(waits, branch, now)

    passing = _passing(gate, sending, waiting)

    def passing_at_once(effect: Send, branch: Branch) -> Reply:
        # Nothing in this coroutine is suspended: its first step is its last one.
        try:
            passing(effect, branch).send(None)
        except StopIteration as end:
            reply: Reply = end.value
            return reply
        raise AssertionError("blocking code does not suspend")

    return passing_at_once


def through_gate_async(
    gate: Gate, send: Callable[[Send, Branch], Awaitable[Reply]]
) -> Callable[[Send, Branch], Awaitable[Reply]]:
    """Return a `send` function for asyncio that passes the gate."""
    return _passing(gate, send, wait_async)


def _passing(
    gate: Gate,
    send: Callable[[Send, Branch], Awaitable[Reply]],
    wait: Callable[[_Waits, Branch, ReadClock], Awaitable[Entry]],
) -> Callable[[Send, Branch], Coroutine[Any, Any, Reply]]:
    """Return a `send` function that waits for room in the budget before it sends."""

    async def passing(effect: Send, branch: Branch) -> Reply:
        while True:
            worst, waited = gate.enter(effect), 0
            if worst is None:
                entry = await wait(lambda turn: gate.waiting(turn, effect), branch, gate.now)
                worst, waited = entry
                if worst is None:
                    return gate.not_sent(effect, entry)
            try:
                reply = await send(gate.to_send(effect, waited), branch)
            except BaseException:
                gate.abandon(worst)
                raise
            if reply.outcome != TOO_LATE:
                gate.leave(worst, reply)
                return after_wait(reply, waited)
            gate.withdraw(worst)

    return passing
