"""Thousands of short calls in threads that are switched as often as possible.

`Branch`, `Fork` and `CallState` change without a lock. A lost wake-up would leave an attempt that
never returns by itself, a backoff without end or a call in the queue, and the test would fail.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest

from harness.bench.modes import MODES
from harness.engine.attempt import CallTerms, CallTimeouts
from harness.engine.blocking_interpreter import BlockingWorld, a_thread_each, run_blocking
from harness.engine.branches import Branch
from harness.engine.budget_gate import Gate
from harness.engine.call import Completion, complete
from harness.engine.effects import Message, Program, Reply, Request, Send, fan_out
from harness.engine.ledger import BudgetLimits
from harness.engine.permits import ThreadPermits
from harness.policies.protocol import (
    GO,
    Admission,
    Asking,
    Ended,
    HedgeRule,
    ParkCall,
    RandomOf,
    RetryVerdict,
)
from harness.records.failures import CANCELLED, OK
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Call, Record, retry_in
from tests.engine.scripted import Says, reply, terms
from tests.engine.worlds import MS, PATIENCE, clock
from tests.transports.attempts import make_target
from tests.transports.bodies import EVENT_STREAM
from tests.wire.fault_server import END, FaultServer, Hold, Seen, Step, Write, framed, head
from tests.wire.faults import GOOD

AGES = 10**12
PATIENT = CallTimeouts(AGES, AGES, AGES, 2 * AGES)
CELL = "threads"
SLOTS, WORKFLOWS, BRANCHES = 6, 20, 6
PERMITS = 4 * SLOTS + 1
"""One more than what only a cancellation frees, so that the queue always moves.

In each slot: the first attempt of branch 0, both attempts of branch 1, and the backoff of the last
branch, which keeps its permit where a call holds it.
"""


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Impatient:
    """A policy that hedges soon, retries soon or never, and parks now and then.

    `out`: the admitted attempts that have not ended.
    """

    def __init__(self, parks: bool) -> None:
        self._parks = parks
        self._lock = threading.Lock()
        self._asked = self.out = 0
        self.hedge = HedgeRule(MS // 10, lambda _: True)

    def admit(self, asking: Asking) -> Admission:
        with self._lock:
            self._asked += 1
            if self._parks and self._asked % 5 == 0:
                return ParkCall("bell", asking.now + MS)
            self.out += 1
            return GO

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        with self._lock:
            self.out -= 1
        if ended.outcome == OK or not ended.final:
            return RetryVerdict(None, "bell")
        wait = AGES if ended.phase == "sleeps" else MS // 20
        return RetryVerdict(retry_in(wait, "policy"), "bell")


class Provider:
    """Answers in threads; counts the attempts in flight, and those sent more than once.

    Branch 0 of a workflow never answers a first attempt. Branch 1 never answers at all. The last
    two fail at first. The others answer.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sent: Counter[Any] = Counter()
        self.out = self.most_out = 0

    def send(self, effect: Send, branch: Branch) -> Reply:
        with self.lock:
            self.sent[effect.key, effect.attempt] += 1
            self.out += 1
            self.most_out = max(self.most_out, self.out)
        said = self._answer(effect, branch)
        with self.lock:
            self.out -= 1
        return reply(Says(said, takes=0), clock())

    def _answer(self, effect: Send, branch: Branch) -> str:
        key = effect.key
        if key.branch == 1 or (key.branch == 0 and effect.attempt == 1):
            woken = threading.Event()
            with branch.waking(woken.set):
                assert woken.wait(PATIENCE), "nothing has ended the attempt"
            assert branch.cancelled
            return CANCELLED
        for _ in range(Random(str((key, effect.attempt))).randrange(30)):
            if branch.cancelled:
                return CANCELLED
        if (key.branch or 0) >= BRANCHES - 2 and effect.attempt == 1:
            return "rate_limited"
        branch.first_text()
        return CANCELLED if branch.cancelled else OK


def workflow(number: int, how: CallTerms, needed: int) -> Program[list[Completion]]:
    """Run the branches until `needed` of them have succeeded."""

    def call(branch: int) -> Program[Completion]:
        phase = "sleeps" if branch == BRANCHES - 1 else "retries"
        key = CallKey(CELL, 0, number, 0, phase, branch, 1)
        return complete(how, key, Request((Message("user", "why?"),)), clock())

    def enough(found: Sequence[Completion | None]) -> bool:
        return sum(one is not None and one.outcome == OK for one in found) >= needed

    return (yield from fan_out([call(branch) for branch in range(BRANCHES)], enough))


def slot(slot: int, how: CallTerms, needed: int) -> Program[list[list[Completion]]]:
    found = []
    for number in range(slot, SLOTS * WORKFLOWS, SLOTS):
        found.append((yield from workflow(number, how, needed)))
    return found


@pytest.mark.parametrize("hold", [False, True], ids=["attempt", "call"])
@pytest.mark.parametrize("needed", [1, 3])
def test_no_wake_up_permit_or_record_is_lost_or_doubled(needed: int, hold: bool) -> None:
    policy, provider, records = Impatient(parks=True), Provider(), list[Record]()
    how = terms(hold=hold)._replace(policy=policy, limits=PATIENT)
    permits = ThreadPermits(PERMITS, clock)
    world = BlockingWorld(
        clock, permits, provider.send, records.append, a_thread_each, threading.Event()
    )
    ended = run_blocking(fan_out([slot(one, how, needed) for one in range(SLOTS)]), world)
    for found in (one for several in ended for one in several):
        assert sum(one.outcome == OK for one in found) >= needed
    assert set(provider.sent.values()) == {1}
    assert provider.out == policy.out == 0
    assert provider.most_out <= PERMITS
    attempts = [one for one in records if isinstance(one, Attempt)]
    calls = [one for one in records if isinstance(one, Call)]
    assert sorted((one.workflow, one.branch, one.attempt) for one in attempts) == sorted(
        (key.workflow, key.branch, attempt) for key, attempt in provider.sent
    )
    assert sorted((one.workflow, one.branch) for one in calls) == [
        (number, branch) for number in range(SLOTS * WORKFLOWS) for branch in range(BRANCHES)
    ]
    assert sum(one.attempts for one in calls) == len(attempts)
    soon = clock() + PATIENCE * 1000 * MS
    assert all(permits.acquire(0, soon).granted is not None for _ in range(PERMITS))
    assert permits.acquire(0, clock() + MS).granted is None
    assert not [one for one in threading.enumerate() if one.name.startswith("branch-")]


HEDGED = 100


def test_over_connections_one_attempt_of_each_hedged_call_is_cancelled() -> None:
    """The server answers only the second request of each call."""
    arrived: Counter[bytes] = Counter()
    good = Write(head(200, ("content-type", EVENT_STREAM)) + framed(b"".join(GOOD)) + END)

    def answer(seen: Seen) -> Sequence[Step]:
        arrived[seen.body] += 1
        return [Hold()] if arrived[seen.body] == 1 else [good]

    policy, records = Impatient(parks=False), list[Record]()
    how = terms()._replace(policy=policy, limits=PATIENT)

    def call(number: int) -> Program[Completion]:
        key = CallKey(CELL, 0, number, 0, "retries", None, 1)
        return complete(how, key, Request((Message("user", f"why {number}?"),)), clock())

    program: Program[Any] = fan_out([call(number) for number in range(HEDGED)])
    with FaultServer(answer) as server:
        target, gate = make_target(server.base_url), Gate(BudgetLimits(), None, clock)
        MODES["threads"](program, target, 2 * HEDGED, clock, records.append, gate)
        assert server.settled(lambda: server.open == 0)
    calls = [one for one in records if isinstance(one, Call)]
    assert [(one.outcome, one.attempts) for one in calls] == [(OK, 2)] * HEDGED
    attempts = [one for one in records if isinstance(one, Attempt)]
    assert Counter(one.outcome for one in attempts) == {OK: HEDGED, CANCELLED: HEDGED}
    assert policy.out == 0
