"""256 permits and refunds at any moment: a budget is used up, and never exceeded, in any mode."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.blocking_interpreter import (
    BlockingWorld,
    a_thread_each,
    one_after_another,
    run_blocking,
)
from harness.engine.branches import Branch
from harness.engine.budget_gate import BudgetExhaustedError, Gate, through_gate, through_gate_async
from harness.engine.effects import Reply, Send
from harness.engine.ledger import Amount, BudgetLimits
from harness.engine.permits import AsyncPermits, ThreadPermits
from harness.records.schema import Attempt, Record, Tokens
from tests.engine.scripted import Says, reply
from tests.engine.test_budget_gate import WORST, CountingMeter, all_of, calls, ticks

PERMITS = 256
CALLS = 700
LIMIT = 25_000
"""At worst 250 attempts, fewer than there are permits; they use half of that, so more go out."""


class Book:
    """Sees all that is spent and reserved, whenever it changes, and what attempts really used."""

    def __init__(self) -> None:
        self.gate = Gate(BudgetLimits(tokens=LIMIT), CountingMeter(), ticks(), book=self.note)
        self.most = 0
        self.used = 0
        self.flying = 0
        self.widest = 0
        self.lock = threading.Lock()
        self.random = random.Random(7)
        self.records: list[Record] = []

    def note(self, amount: Amount) -> None:
        self.most = max(self.most, amount.tokens)

    def begin(self) -> None:
        with self.lock:
            self.flying += 1
            self.widest = max(self.widest, self.flying)
            # What is out may use all that it may: even so nothing is overspent.
            assert self.used + self.flying * WORST <= LIMIT

    def end(self) -> Reply:
        with self.lock:
            used = self.random.randrange(WORST + 1)
            self.flying -= 1
            self.used += used
            return reply(Says(tokens=Tokens(input=0, output=used)), 0)

    def judge(self) -> None:
        attempts = [record for record in self.records if isinstance(record, Attempt)]
        assert self.most <= LIMIT
        assert self.used == sum(attempt.tokens.output or 0 for attempt in attempts) <= LIMIT
        assert self.gate.ledger.reserved == Amount()
        assert self.gate.ledger.spent == Amount(len(attempts), self.used)
        assert self.used + WORST > LIMIT, "it did not stop before it had to"


def test_in_tasks() -> None:
    book, now = Book(), ticks()

    async def send(effect: Send, branch: Branch) -> Reply:
        book.begin()
        for _ in range(book.random.randrange(40)):
            await asyncio.sleep(0)
        return book.end()

    async def whole() -> None:
        passing = through_gate_async(book.gate, send)
        line = AsyncPermits(PERMITS, now)
        world = AsyncWorld(now, line, passing, book.gate.emitting(book.records.append))
        await run_async(all_of(calls(CALLS)), world)

    with pytest.raises(BudgetExhaustedError):
        asyncio.run(whole())
    book.judge()
    assert book.widest > 100


def test_in_threads() -> None:
    book, now, stop = Book(), ticks(), threading.Event()
    together = threading.Barrier(100)

    def send(effect: Send, branch: Branch) -> Reply:
        book.begin()
        if (effect.key.branch or 0) < 100:  # so many are out at once, and end at once
            together.wait(30)
        return book.end()

    def emit(record: Record) -> None:
        with book.lock:
            book.records.append(record)

    line = ThreadPermits(PERMITS, now)
    passing = through_gate(book.gate, send)
    world = BlockingWorld(now, line, passing, book.gate.emitting(emit), a_thread_each, stop)
    with pytest.raises(BudgetExhaustedError):
        run_blocking(all_of(calls(CALLS)), world)
    book.judge()
    assert book.widest >= 100


def test_one_after_another() -> None:
    book, now, stop = Book(), ticks(), threading.Event()

    def send(effect: Send, branch: Branch) -> Reply:
        book.begin()
        return book.end()

    passing = through_gate(book.gate, send)
    emit = book.gate.emitting(book.records.append)
    line = ThreadPermits(1, now)
    world = BlockingWorld(now, line, passing, emit, one_after_another, stop)
    with pytest.raises(BudgetExhaustedError):
        run_blocking(all_of(calls(CALLS)), world)
    book.judge()
    assert book.widest == 1
