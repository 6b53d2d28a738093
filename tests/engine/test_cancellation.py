"""A branch that is no longer wanted ends at once, wherever it waits, and is recorded."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.attempt import CallTerms, CallTimeouts
from harness.engine.branches import Branch
from harness.engine.call import Completion, complete
from harness.engine.effects import (
    Acquire,
    Cancelled,
    FanOut,
    Message,
    Program,
    Release,
    Reply,
    Request,
    Send,
    fan_out,
    now,
    park,
    ring,
    sleep,
)
from harness.engine.permits import AsyncPermits
from harness.policies.exponential import ExponentialRule
from harness.policies.no_retry import NoRetryRule
from harness.policies.protocol import (
    Admission,
    Asking,
    Ended,
    Go,
    HedgeRule,
    ParkCall,
    RandomOf,
    RetryVerdict,
)
from harness.policies.retry import Retry
from harness.policies.stack import Stack
from harness.records.failures import CANCELLED, OK
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Call, Record
from tests.engine.scripted import RATE_LIMITED, WORKFLOW, Says, reply, terms
from tests.engine.worlds import EVERY_WAY, MS, PATIENCE, SIDE_BY_SIDE, Way, World, clock

AGES = 10**18
ASKED = Request((Message("user", "why?"),))


def patient(policy: Retry, *, hold: bool = False) -> CallTerms:
    """Terms whose deadlines never come."""
    return terms(policy, hold=hold)._replace(limits=CallTimeouts(AGES, AGES, AGES, AGES))


NEVER = patient(NoRetryRule())
SLEEPY = ExponentialRule(attempts=4, base=AGES // 100, cap=AGES // 100, jitter="equal")


def call(branch: int, how: CallTerms = NEVER) -> Program[Completion]:
    ready = yield from now()
    return (yield from complete(how, CallKey(*WORKFLOW, "fan_out", branch, 1), ASKED, ready))


def first_ok(results: Sequence[Completion | None]) -> bool:
    return any(result is not None and result.outcome == OK for result in results)


def outcomes(records: Sequence[Attempt | Call]) -> list[str]:
    return [one.outcome for one in sorted(records, key=lambda one: one.branch or 0)]


@SIDE_BY_SIDE
def test_attempts_in_flight_and_calls_in_line_are_cancelled_and_recorded(run: Way) -> None:
    """Two are in flight, one of which comes back; the third waits for a permit all the while."""
    world = World(2, lambda effect: len(world.sent) == 2 and effect is world.sent[0])
    ended = run(fan_out([call(branch) for branch in range(3)], first_ok), world)
    good = world.sent[0].key.branch
    assert [result.outcome == OK for result in ended] == [branch == good for branch in range(3)]
    assert Counter(one.outcome for one in world.attempts) == {OK: 1, CANCELLED: 1}
    assert Counter(one.outcome for one in world.calls) == {OK: 1, CANCELLED: 2}
    assert sorted(one.attempts for one in world.calls) == [0, 1, 1]
    assert all(one.decision is None for one in world.attempts)


@EVERY_WAY
def test_one_after_another_those_that_come_too_late_are_never_begun(run: Way) -> None:
    world = World(1)
    ended = run(fan_out([call(branch) for branch in range(3)], first_ok), world)
    assert sorted(result.outcome for result in ended) == [CANCELLED, CANCELLED, OK]
    assert len(world.sent) == len(world.attempts) == 1
    assert sorted((one.outcome, one.attempts) for one in world.calls) == [
        (CANCELLED, 0), (CANCELLED, 0), (OK, 1)
    ]  # fmt: skip


@SIDE_BY_SIDE
@pytest.mark.parametrize("hold", [False, True])
def test_a_call_that_sleeps_before_its_retry_wakes_and_says_how_long_it_slept(
    hold: bool, run: Way
) -> None:
    def says(effect: Send) -> Says:
        return RATE_LIMITED if effect.key.branch == 0 else Says()

    def may_return(effect: Send) -> bool:  # the other only when the first sleeps
        return effect.key.branch == 0 or bool(world.attempts)

    world = World(2, may_return, says)
    branches = [call(0, patient(SLEEPY, hold=hold)), call(1)]
    slept, good = run(fan_out(branches, first_ok), world)
    assert (slept.outcome, good.outcome) == (CANCELLED, OK)
    [record] = [one for one in world.calls if one.branch == 0]
    [backoff] = record.backoffs
    assert record.attempts == 1
    assert backoff.start <= backoff.end <= record.done < backoff.start + backoff.planned


@SIDE_BY_SIDE
def test_a_cancelled_branch_cancels_its_own_branches_and_has_their_results(run: Way) -> None:
    def inner() -> Program[list[Completion]]:
        return (yield from fan_out([call(0), call(1)]))

    def outer() -> Program[Any]:
        return (yield from fan_out([inner(), call(2)], lambda done: done[1] is not None))

    world = World(3, lambda effect: len(world.sent) == 3 and effect.key.branch == 2)
    within, good = run(outer(), world)
    assert [one.outcome for one in within] == [CANCELLED, CANCELLED]
    assert good.outcome == OK
    assert outcomes(world.attempts) == [CANCELLED, CANCELLED, OK]


@EVERY_WAY
def test_a_program_that_does_not_care_comes_to_nothing_when_it_is_cancelled(run: Way) -> None:
    def sleeper() -> Program[str]:
        time = yield from now()
        yield from sleep(time + PATIENCE * 10**9)
        return "never"

    def quick() -> Program[str]:
        yield from now()
        return "quick"

    branches = [quick(), sleeper(), sleeper()]
    began = clock()
    results = run(fan_out(branches, lambda done: done[0] is not None), World(1))
    assert results == ["quick", None, None]
    assert clock() - began < PATIENCE * 10**9


@EVERY_WAY
def test_once_cancelled_a_program_cannot_wait_any_more(run: Way) -> None:
    log: list[str] = []

    def stubborn() -> Program[str]:
        for _ in range(3):
            try:
                yield from sleep(AGES)
            except Cancelled:
                log.append("cancelled")
        return "over"

    def quick() -> Program[str]:
        yield from now()
        return "quick"

    results = run(fan_out([quick(), stubborn()], lambda done: done[0] is not None), World(1))
    assert results == ["quick", "over"]
    assert log == ["cancelled"] * 3


@SIDE_BY_SIDE
def test_the_first_text_of_one_branch_cancels_its_siblings(run: Way) -> None:
    """Nobody shows text before both are out; then one does, and only then comes back."""

    def both() -> Program[list[Completion]]:
        results: list[Completion] = yield FanOut((call(0), call(1)), claims=True)
        return results

    def shows(effect: Send) -> bool:
        return effect.key.branch == 1 and len(world.sent) == 2

    world = World(2, lambda effect: shows(effect) and len(world.returned) == 1, shows=shows)
    assert [one.outcome for one in run(both(), world)] == [CANCELLED, OK]


# --- parked


@SIDE_BY_SIDE
@pytest.mark.parametrize("keep", [False, True])
def test_those_who_are_parked_wait_for_the_bell_and_are_served_in_their_order(
    keep: bool, run: Way
) -> None:
    """One at a time, so that the order in which they are parked is known."""
    log: list[str] = []

    def parked(name: int) -> Program[None]:
        while len(log) < name:
            time = yield from now()
            yield from sleep(time + MS)
        grant = yield Acquire(0, None)
        log.append(f"{name} is parked")
        grant = yield from park("bell", None, None, keep=keep, rings=grant.rings)
        log.append(f"{name} goes on")
        assert grant.granted is not None
        yield Release()

    def ringing() -> Program[None]:
        while len(log) < 3:
            time = yield from now()
            yield from sleep(time + MS)
        yield from ring("bell")

    run(fan_out([parked(0), parked(1), parked(2), ringing()]), World(3 if keep else 1))
    assert log[:3] == [f"{name} is parked" for name in range(3)]
    if not keep:  # whoever has a permit already goes on when it is scheduled
        assert log[3:] == [f"{name} goes on" for name in range(3)]
    assert len(log) == 6


# --- whatever happens


class Moody:
    """A policy that parks and hedges as it likes: it keeps what it must, and counts who is out."""

    def __init__(self, retry: Retry, moods: Sequence[int], hedges: bool) -> None:
        self.retry = retry
        self.moods = itertools.cycle(moods)
        self.hedge = HedgeRule(9, lambda asking: next(self.moods) != 0) if hedges else None
        self.out = self.gone = 0

    def admit(self, asking: Asking) -> Admission:
        mood = next(self.moods)
        if mood == 0:
            return ParkCall("bell", asking.now + 7)
        if mood == 1 and self.out:
            return ParkCall("bell", None)  # somebody is out, whose end rings
        self.out += 1
        return Go()

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        self.out -= 1
        self.gone += 1
        assert self.out >= 0
        return Stack([], self.retry).ended(ended, random)._replace(ring="bell")


SCRIPTS = st.lists(
    st.tuples(st.sampled_from([OK, "rate_limited", "unauthorized"]), st.integers(0, 12)),
    min_size=1,
    max_size=4,
)


@given(
    scripts=st.lists(SCRIPTS, min_size=1, max_size=6),
    permits=st.integers(1, 4),
    hold=st.booleans(),
    moods=st.lists(st.integers(0, 5), min_size=1, max_size=9).filter(any),
    hedges=st.booleans(),
    after=st.none() | st.integers(0, 60),
)
@settings(deadline=None, max_examples=150)
def test_whatever_is_cancelled_when_every_permit_and_every_record_is_there(
    scripts: list[list[tuple[str, int]]],
    permits: int,
    hold: bool,
    moods: list[int],
    hedges: bool,
    after: int | None,
) -> None:
    """One branch waits a while, and then none of the others is wanted; or all run to their end."""
    retry = ExponentialRule(attempts=4, base=8, cap=8, jitter="equal")
    policy = Moody(retry, moods, hedges)
    how = patient(NoRetryRule(), hold=hold)._replace(policy=policy)
    log, sent = run_cancelled(scripts, how, permits, after)
    attempts = [record for record in log if isinstance(record, Attempt)]
    assert sorted((one.branch, one.attempt) for one in attempts) == sorted(
        (one.key.branch, one.attempt) for one in sent
    )
    assert (policy.out, policy.gone) == (0, len(sent))
    calls = [record for record in log if isinstance(record, Call)]
    assert sorted(one.branch or 0 for one in calls) == list(range(len(scripts)))
    for one in calls:
        own = [attempt for attempt in attempts if attempt.branch == one.branch]
        assert one.attempts == len(own)
        assert all(attempt.done <= one.done for attempt in own)
        assert all(pause.start <= pause.end <= one.done for pause in one.backoffs)
        assert after is not None or one.outcome != CANCELLED
        good = [attempt for attempt in own if attempt.outcome == OK]
        assert one.outcome == CANCELLED or len(good) == (one.outcome == OK)


def run_cancelled(
    scripts: list[list[tuple[str, int]]], how: CallTerms, permits: int, after: int | None
) -> tuple[list[Record], list[Send]]:
    log: list[Record] = []
    sent: list[Send] = []
    tick: Callable[[], int] = itertools.count().__next__

    async def send(effect: Send, branch: Branch) -> Reply:
        sent.append(effect)
        script = scripts[effect.key.branch or 0]
        outcome, turns = script[(effect.attempt - 1) % len(script)]
        for _ in range(turns):
            if branch.cancelled:
                return reply(Says(CANCELLED, takes=0), tick())
            await asyncio.sleep(0)
        if outcome == OK:
            branch.first_text()
        if branch.cancelled:
            outcome = CANCELLED
        return reply(Says(outcome, takes=0), tick())

    def timed() -> Program[bool]:
        for _ in range(after or 0):
            time = yield from now()
            yield from sleep(time + 6)
        return True

    def over(results: Sequence[Any]) -> bool:
        return after is not None and bool(results[-1])

    async def whole() -> None:
        line = AsyncPermits(permits, tick)
        world = AsyncWorld(tick, line, send, log.append)
        branches: list[Program[Any]] = [call(number, how) for number in range(len(scripts))]
        await run_async(fan_out([*branches, timed()], over), world)
        for _ in range(permits):
            assert (await line.acquire(tick() + AGES)).granted is not None
        assert (await line.acquire(tick() + 3)).granted is None
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())
    return log, sent
