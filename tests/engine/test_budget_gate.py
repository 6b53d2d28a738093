"""The gate: no attempt goes out that the budget does not cover, and nothing paid for is lost."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.engine.async_interpreter import AsyncWorld, run_async
from harness.engine.blocking_interpreter import (
    BlockingWorld,
    a_thread_each,
    one_after_another,
    run_blocking,
)
from harness.engine.branches import Branch
from harness.engine.budget_gate import (
    BudgetExhaustedError,
    Entry,
    FirstCallError,
    Gate,
    through_gate,
    through_gate_async,
)
from harness.engine.call import Completion, complete
from harness.engine.deadlines import TOO_LATE
from harness.engine.effects import (
    Deadlines,
    Message,
    Program,
    Reply,
    Request,
    Send,
    fan_out,
    unsent,
)
from harness.engine.ledger import Amount, BudgetLimits, BudgetRefusal
from harness.engine.permits import AsyncPermits, ThreadPermits
from harness.engine.waiting import Turn, Waits
from harness.policies.no_retry import NoRetryRule
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED, OK
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Call, Record, Tokens
from tests.engine.scripted import (
    EVERY_TEN,
    UNAUTHORIZED,
    WORKFLOW,
    Says,
    World,
    in_turn,
    reply,
    terms,
)

WORST = 100
ASKED = Request((Message("user", "why?"),), max_tokens=WORST)
BUSY = Says("unavailable", status=503, tokens=Tokens())


class CountingMeter:
    """An attempt may use `max_tokens` and does use what its reply says."""

    most = Amount()

    def worst(self, effect: Send) -> Amount:
        return Amount(1, effect.request.max_tokens or 0)

    def used(self, worst: Amount, reply: Reply) -> Amount:
        return worst if reply.tokens.output is None else Amount(1, reply.tokens.output)


def ticks() -> Callable[[], int]:
    count = itertools.count()
    return lambda: next(count)


def attempt_of(number: int) -> Send:
    key = CallKey(*WORKFLOW, "fan_out", number, 1)
    return Send(key, 1, ASKED, Deadlines(1, 1, 1, 1000, "call_timeout"))


def calls(count: int) -> list[Program[Completion]]:
    never = terms(NoRetryRule())
    return [complete(never, CallKey(*WORKFLOW, "fan_out", n, 1), ASKED, 0) for n in range(count)]


def all_of(programs: list[Program[Completion]]) -> Program[None]:
    yield from fan_out(programs)


class Seen(NamedTuple):
    """What a run of programs did: attempts that went out, attempts that came back, records."""

    begun: list[Send]
    ended: list[Send]
    records: list[Record]

    @property
    def attempts(self) -> list[Attempt]:
        return [record for record in self.records if isinstance(record, Attempt)]

    @property
    def calls(self) -> list[Call]:
        return [record for record in self.records if isinstance(record, Call)]


def seen() -> Seen:
    return Seen([], [], [])


Answer = Callable[[Send], Says]


def in_tasks(gate: Gate, programs: list[Program[Completion]], permits: int, answer: Answer) -> Seen:
    """Run the programs side by side; attempts end in reverse, when nothing else can go on."""
    log = seen()
    now = ticks()

    async def send(effect: Send, branch: Branch) -> Reply:
        log.begun.append(effect)
        for _ in range(60 - len(log.begun)):
            await asyncio.sleep(0)
        log.ended.append(effect)
        return reply(answer(effect), now())

    async def whole() -> None:
        line = AsyncPermits(permits, now)
        passing = through_gate_async(gate, send)
        world = AsyncWorld(now, line, passing, gate.emitting(log.records.append))
        try:
            await run_async(all_of(programs), world)
        finally:
            await asyncio.sleep(0)

    with pytest.raises((BudgetExhaustedError, FirstCallError)):
        asyncio.run(whole())
    return log


class Refusals(Gate):
    """A gate that says when somebody has begun to wait for the calls in flight."""

    def __init__(self, limits: BudgetLimits) -> None:
        super().__init__(limits, CountingMeter(), ticks())
        self.refused = threading.Event()

    def waiting(self, turn: Turn, effect: Send) -> Waits[Entry]:
        steps = super().waiting(turn, effect)
        until = next(steps)
        self.refused.set()
        yield until
        return (yield from steps)


def in_threads(gate: Refusals, programs: list[Program[Completion]], permits: int) -> Seen:
    """Run the programs in threads; no attempt ends before another has been refused."""
    log = seen()
    lock, stop, now = threading.Lock(), threading.Event(), ticks()

    def send(effect: Send, branch: Branch) -> Reply:
        with lock:
            log.begun.append(effect)
        assert gate.refused.wait(30)
        with lock:
            log.ended.append(effect)
        return reply(Says(), now())

    def emit(record: Record) -> None:
        with lock:
            log.records.append(record)

    line = ThreadPermits(permits, now)
    passing = through_gate(gate, send)
    world = BlockingWorld(now, line, passing, gate.emitting(emit), a_thread_each, stop)
    with pytest.raises(BudgetExhaustedError):
        run_blocking(all_of(programs), world)
    return log


def test_in_tasks_all_that_was_in_flight_ends_and_is_recorded_before_the_run_stops() -> None:
    gate = Gate(BudgetLimits(attempts=5), CountingMeter(), ticks())
    log = in_tasks(gate, calls(9), 7, lambda effect: Says())
    assert len(log.begun) == len(log.ended) == 5
    assert {one.call_key for one in log.attempts} == {one.call_key for one in log.calls}
    assert len(log.calls) == 5
    assert all(call.outcome == OK for call in log.calls)


def test_in_threads_all_that_was_in_flight_ends_and_is_recorded_before_the_run_stops() -> None:
    log = in_threads(Refusals(BudgetLimits(attempts=5)), calls(9), 7)
    assert len(log.begun) == len(log.ended) == 5
    assert {one.call_key for one in log.attempts} == {one.call_key for one in log.calls}
    assert len(log.calls) == 5
    assert all(call.outcome == OK for call in log.calls)


def test_one_after_another_the_run_stops_at_the_first_attempt_too_many() -> None:
    gate = Gate(BudgetLimits(attempts=5), CountingMeter(), ticks())
    log, now, stop = seen(), ticks(), threading.Event()

    def send(effect: Send, branch: Branch) -> Reply:
        log.begun.append(effect)
        return reply(Says(), now())

    line = ThreadPermits(1, now)
    passing, emit = through_gate(gate, send), gate.emitting(log.records.append)
    world = BlockingWorld(now, line, passing, emit, one_after_another, stop)
    with pytest.raises(BudgetExhaustedError) as raised:
        run_blocking(all_of(calls(9)), world)
    assert raised.value.refusal.limit == "attempts"
    assert len(log.begun) == len(log.calls) == 5


def test_a_call_that_backs_off_is_not_waited_for_and_its_attempt_is_recorded() -> None:
    """Its next attempt would be refused anyway; the backoff here would outlast the test."""
    gate = Gate(BudgetLimits(attempts=2), CountingMeter(), ticks())
    patient = terms(EVERY_TEN._replace(base=10**15, cap=10**15))
    patient = patient._replace(limits=patient.limits._replace(call=10**18))
    slow = complete(patient, CallKey(*WORKFLOW, "fan_out", 0, 1), ASKED, 0)
    programs = [slow, *calls(3)[1:]]
    log = in_tasks(gate, programs, 3, lambda one: BUSY if one.key.branch == 0 else Says())
    assert [one.outcome for one in log.attempts] == [OK, "unavailable"]
    assert [one.branch for one in log.calls] == [1]


def nothing_is_in_flight(gate: Gate) -> bool:
    return gate._in_flight == 0


def refused(gate: Gate, effect: Send) -> BudgetRefusal:
    """Return why an attempt is not sent at once, when nothing is in flight."""
    assert gate.enter(effect) is None
    with pytest.raises(BudgetExhaustedError) as raised:
        next(gate.waiting(Turn(lambda: None), effect))
    return raised.value.refusal


def small(number: int) -> Send:
    return replace(attempt_of(number), request=replace(ASKED, max_tokens=10))


class Waiter:
    """An attempt that waits at a gate."""

    def __init__(self, gate: Gate, effect: Send) -> None:
        self._wakes = 0
        self.entry: Entry | None = None
        self.steps = gate.waiting(Turn(self.wake), effect)
        self.until = next(self.steps)

    def wake(self) -> None:
        self._wakes += 1

    def is_woken(self) -> bool:
        return self._wakes > 0

    def go_on(self) -> Entry:
        with pytest.raises(StopIteration) as end:
            next(self.steps)
        entry: Entry = end.value.value
        return entry


def test_an_attempt_without_room_waits_until_one_that_used_less_has_ended() -> None:
    gate = Gate(BudgetLimits(tokens=WORST + 50), CountingMeter(), ticks())
    first = gate.enter(attempt_of(0))
    assert first is not None
    assert gate.enter(attempt_of(1)) is None
    waiter = Waiter(gate, attempt_of(1))
    assert not waiter.is_woken()
    gate.leave(first, reply(Says(tokens=Tokens(output=50)), 0))
    assert waiter.is_woken()
    entry = waiter.go_on()
    assert entry.worst == Amount(1, WORST)
    assert entry.waited > 0
    assert gate.ledger.reserved == Amount(1, WORST)


def test_attempts_wait_in_the_order_of_their_arrival_even_if_a_later_one_would_fit() -> None:
    gate = Gate(BudgetLimits(tokens=WORST + 50), CountingMeter(), ticks())
    first = gate.enter(attempt_of(0))
    assert first is not None
    big, later = Waiter(gate, attempt_of(1)), Waiter(gate, small(2))
    assert gate.enter(small(3)) is None
    gate.leave(first, reply(Says(tokens=Tokens(output=40)), 0))
    assert big.is_woken()
    assert later.is_woken()
    assert gate.ledger.reserved == Amount(2, WORST + 10)


def test_nothing_goes_out_once_no_use_of_those_in_flight_could_make_room() -> None:
    gate = Gate(BudgetLimits(tokens=WORST + 50), CountingMeter(), ticks())
    first = gate.enter(attempt_of(0))
    assert first is not None
    big, later = Waiter(gate, attempt_of(1)), Waiter(gate, small(2))
    gate.leave(first, reply(Says(tokens=Tokens(output=60)), 0))
    assert not big.is_woken(), "the first is not recorded yet"
    assert gate.enter(small(3)) is None
    gate.emitting(lambda record: None)(attempt_record(0))
    for waiter in (big, later):
        assert waiter.is_woken()
        with pytest.raises(BudgetExhaustedError):
            next(waiter.steps)


def test_no_attempt_waits_for_a_number_of_attempts_that_can_only_grow() -> None:
    gate = Gate(BudgetLimits(attempts=1), CountingMeter(), ticks())
    first = gate.enter(attempt_of(0))
    assert first is not None
    waiter = Waiter(gate, attempt_of(1))
    gate.leave(first, reply(Says(), 0))
    gate.emitting(lambda record: None)(attempt_record(0))
    assert waiter.is_woken()
    assert refused(gate, small(2)) == BudgetRefusal("attempts")


def test_a_cancelled_attempt_leaves_the_line_and_lets_the_next_one_in() -> None:
    gate = Gate(BudgetLimits(tokens=WORST + 50), CountingMeter(), ticks())
    first = gate.enter(attempt_of(0))
    assert first is not None
    big, later, last = (Waiter(gate, one) for one in (attempt_of(1), attempt_of(2), small(3)))
    big.steps.close()  # its task is ended
    assert not last.is_woken()
    entry = later.go_on()  # its branch is cancelled
    assert entry.worst is None
    assert last.is_woken()
    unsent = gate.not_sent(attempt_of(2), entry)
    assert (unsent.outcome, unsent.sent, unsent.budget_wait) == (CANCELLED, None, entry.waited)
    gate.emitting(lambda record: None)(attempt_record(2))
    assert gate.ledger.reserved == Amount(2, WORST + 10)
    gate.leave(first, reply(Says(tokens=Tokens(output=0)), 0))
    assert last.go_on().worst == Amount(1, 10)


def test_an_attempt_that_is_ended_after_it_was_let_in_gives_its_room_back() -> None:
    gate = Gate(BudgetLimits(tokens=WORST), CountingMeter(), ticks())
    first = gate.enter(attempt_of(0))
    assert first is not None
    one, other = Waiter(gate, attempt_of(1)), Waiter(gate, attempt_of(2))
    gate.leave(first, reply(Says(tokens=Tokens(output=0)), 0))
    assert one.is_woken()
    one.steps.close()
    assert other.go_on().worst == Amount(1, WORST)


def test_the_wait_is_limited_by_the_deadline_of_the_workflow_and_not_by_that_of_the_call() -> None:
    gate = Gate(BudgetLimits(tokens=WORST), CountingMeter(), ticks())
    assert gate.enter(attempt_of(0)) is not None
    assert Waiter(gate, attempt_of(1)).until is None
    limited = replace(attempt_of(2), deadlines=replace(attempt_of(2).deadlines, latest=3))
    waiter = Waiter(gate, limited)
    assert waiter.until == 3
    late = gate.not_sent(limited, waiter.go_on())
    assert (late.outcome, late.sent) == ("workflow_timeout", None)


def test_the_deadline_of_the_call_moves_by_the_wait_up_to_that_of_the_workflow() -> None:
    gate = Gate(BudgetLimits(tokens=WORST), CountingMeter(), ticks())
    assert gate.to_send(attempt_of(0), 7).deadlines.end == 1007
    deadlines = replace(attempt_of(0).deadlines, latest=1005)
    moved = gate.to_send(replace(attempt_of(0), deadlines=deadlines), 7).deadlines
    assert (moved.end, moved.end_outcome) == (1005, "workflow_timeout")


class Late(World):
    """A world in which each attempt has waited for room in the budget."""

    def _reply(self, asked: Send) -> Reply:
        return replace(super()._reply(asked), budget_wait=500)


def test_the_wait_is_part_of_the_recorded_permit_wait_and_not_of_the_timeout_of_the_call() -> None:
    world = Late(in_turn(Says("unavailable", status=503, takes=900), Says()))
    call = complete(terms(), CallKey(*WORKFLOW, "fan_out", 0, 1), ASKED, 0)
    assert world.run(call).outcome == OK
    assert [one.deadlines.end for one in world.sends] == [1000, 1500]
    first, second = (record for record in world.records if isinstance(record, Attempt))
    assert (first.permit_requested, first.permit_granted) == (0, 500)
    assert second.permit_granted - second.permit_requested == 500


def test_an_attempt_that_was_broken_off_counts_as_its_worst_case() -> None:
    gate = Gate(BudgetLimits(tokens=1000), CountingMeter(), ticks())

    async def interrupted() -> None:
        async def send(effect: Send, branch: Branch) -> Reply:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await through_gate_async(gate, send)(attempt_of(0), Branch())

    asyncio.run(interrupted())
    assert gate.ledger.spent == Amount(1, WORST)
    assert gate.ledger.reserved == Amount()


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_hopeless_first_answer_ends_the_run_with_that_attempt_alone_recorded(status: int) -> None:
    says = UNAUTHORIZED._replace(status=status)
    gate = Gate(BudgetLimits(), CountingMeter(), ticks())
    log = in_tasks(gate, calls(6), 3, lambda effect: says)
    assert [one.status for one in log.records if isinstance(one, Attempt)] == [status]
    assert len(log.records) == 1


def test_the_same_status_ends_nothing_once_a_call_was_answered() -> None:
    gate = Gate(BudgetLimits(attempts=6), CountingMeter(), ticks())
    log = in_tasks(gate, calls(9), 1, lambda effect: UNAUTHORIZED if effect.key.branch else Says())
    assert [one.status for one in log.attempts] == [200, 401, 401, 401, 401, 401]


def test_a_busy_server_is_not_hopeless_and_does_not_hide_that_the_key_is_wrong() -> None:
    gate = Gate(BudgetLimits(), CountingMeter(), ticks())
    log = in_tasks(gate, calls(9), 1, lambda one: UNAUTHORIZED if one.key.branch == 2 else BUSY)
    assert [one.status for one in log.attempts] == [503, 503, 401]


def test_attempts_that_are_cancelled_are_settled_as_what_they_may_have_used() -> None:
    """Three are out when the first comes back; the fourth call never gets a permit."""
    gate = Gate(BudgetLimits(), CountingMeter(), ticks())
    now, log = ticks(), seen()

    async def send(effect: Send, branch: Branch) -> Reply:
        log.begun.append(effect)
        while len(log.begun) < 3 or (effect.key.branch != 0 and not branch.cancelled):  # noqa: ASYNC110
            await asyncio.sleep(0)
        unknown = Says(CANCELLED, tokens=Tokens(input=5))
        return reply(unknown if branch.cancelled else Says(), now())

    async def whole() -> None:
        passing = through_gate_async(gate, send)
        line = AsyncPermits(3, now)
        world = AsyncWorld(now, line, passing, gate.emitting(log.records.append))
        await run_async(fan_out(calls(4), lambda ended: any(ended)), world)
        assert nothing_is_in_flight(gate)

    asyncio.run(whole())
    assert sorted(one.outcome for one in log.attempts) == [CANCELLED, CANCELLED, OK]
    assert sorted(one.outcome for one in log.calls) == [CANCELLED] * 3 + [OK]
    assert gate.ledger.reserved == Amount()
    assert gate.ledger.spent == Amount(3, 20 + 2 * WORST)


USES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, WORST)), min_size=1, max_size=25
)  # how long an attempt takes, and how many tokens it uses


@given(USES, st.integers(1, 8), st.integers(0, 1500), st.integers(1, 25))
@settings(deadline=None)
def test_no_schedule_of_concurrent_attempts_overspends(
    uses: list[tuple[int, int]], workers: int, tokens: int, attempts: int
) -> None:
    """Attempts of any length and use, begun and ended in any order, with refunds in between."""
    gate = Gate(BudgetLimits(attempts=attempts, tokens=tokens), CountingMeter(), ticks())
    spent: list[int] = []
    flying = 0

    async def send(effect: Send, branch: Branch) -> Reply:
        nonlocal flying
        takes, used = uses[effect.key.branch or 0]
        flying += 1
        assert sum(spent) + flying * WORST <= tokens
        for _ in range(takes):
            await asyncio.sleep(0)
        flying -= 1
        spent.append(used)
        return reply(Says(tokens=Tokens(input=0, output=used)), 0)

    async def worker(numbers: Iterator[int]) -> None:
        passing, rest = through_gate_async(gate, send), gate.emitting(lambda record: None)
        for number in numbers:
            await passing(attempt_of(number), Branch())
            rest(attempt_record(number))

    async def whole() -> None:
        numbers = iter(range(len(uses)))
        ends = await asyncio.gather(
            *(worker(numbers) for _ in range(workers)), return_exceptions=True
        )
        assert all(end is None or isinstance(end, BudgetExhaustedError) for end in ends)
        if any(ends):
            assert len(spent) == attempts or sum(spent) + WORST > tokens, "it stopped too early"

    asyncio.run(whole())
    assert flying == 0
    assert sum(spent) <= tokens
    assert len(spent) <= attempts
    assert gate.ledger.spent == Amount(len(spent), sum(spent))


def attempt_record(number: int) -> Attempt:
    return Attempt(
        **attempt_of(number).key._asdict(), attempt=1,
        ready=0, permit_requested=0, permit_granted=0, sent=0, headers=0, first_reasoning=None,
        first_answer=None, last_token=None, done=1, outcome=OK, status=200, retry_after=None,
        request_id=None, finish_reason=None, tokens=Tokens(), chunks=0, gaps={}, decision=None,
    )  # fmt: skip


def test_a_call_that_has_ended_is_recorded_even_if_the_run_stops_just_then() -> None:
    log, now, stop = seen(), ticks(), threading.Event()

    def emit(record: Record) -> None:
        stop.set()
        log.records.append(record)

    line = ThreadPermits(1, now)
    world = BlockingWorld(now, line, lambda *_: reply(Says(), now()), emit, a_thread_each, stop)
    run_blocking(calls(1)[0], world)
    assert (len(log.attempts), len(log.calls)) == (1, 1)


def test_nothing_is_let_through_once_the_seconds_since_the_start_are_over() -> None:
    clock = iter([9_999_999_999, *[10_000_000_000] * 5])
    gate = Gate(BudgetLimits(seconds=10.0), CountingMeter(), lambda: next(clock))
    first = gate.enter(attempt_of(0))
    assert first is not None
    gate.abandon(first)
    assert refused(gate, attempt_of(1)) == BudgetRefusal("seconds")


def test_an_attempt_that_gets_its_connection_after_the_seconds_are_over_is_not_sent() -> None:
    """It is not charged and not recorded, and the trial ends."""
    time = [0]
    gate = Gate(BudgetLimits(seconds=10.0), CountingMeter(), lambda: time[0])
    seen_by: list[int | None] = []

    def send(effect: Send, branch: Branch) -> Reply:
        seen_by.append(effect.deadlines.send_by)
        time[0] = 10 * SECOND
        return unsent(TOO_LATE, "", time[0])

    with pytest.raises(BudgetExhaustedError) as raised:
        through_gate(gate, send)(attempt_of(0), Branch())
    assert raised.value.refusal == BudgetRefusal("seconds")
    assert seen_by == [10 * SECOND]
    assert gate.ledger.spent == gate.ledger.reserved == Amount()


def test_an_interruption_ends_the_tasks_that_wait_for_the_budget() -> None:
    gate = Refusals(BudgetLimits(tokens=WORST))
    log, now = seen(), ticks()

    async def send(effect: Send, branch: Branch) -> Reply:
        log.begun.append(effect)
        while not gate.refused.is_set():  # noqa: ASYNC110 - until the other waits
            await asyncio.sleep(0)
        raise KeyboardInterrupt

    async def whole() -> None:
        line = AsyncPermits(5, now)
        passing = through_gate_async(gate, send)
        world = AsyncWorld(now, line, passing, gate.emitting(log.records.append))
        await run_async(all_of(calls(4)), world)

    def run_whole() -> None:
        with asyncio.Runner() as runner:
            # The loop raises what its tasks have raised, and then reports it as never retrieved.
            runner.get_loop().set_exception_handler(lambda loop, context: None)
            runner.run(whole())

    with pytest.raises(KeyboardInterrupt):
        run_whole()
    assert len(log.begun) == 1
    assert not log.records
    assert gate.ledger.spent == Amount(1, WORST)


def test_an_interruption_ends_the_threads_that_wait_for_the_budget() -> None:
    gate = Refusals(BudgetLimits(tokens=WORST))
    log, now, stop = seen(), ticks(), threading.Event()

    def send(effect: Send, branch: Branch) -> Reply:
        log.begun.append(effect)
        assert gate.refused.wait(30)
        raise KeyboardInterrupt

    line = ThreadPermits(5, now)
    passing, emit = through_gate(gate, send), gate.emitting(log.records.append)
    world = BlockingWorld(now, line, passing, emit, a_thread_each, stop)
    with pytest.raises(KeyboardInterrupt):
        run_blocking(all_of(calls(4)), world)
    assert len(log.begun) == 1
    assert not log.records
    assert gate.ledger.reserved == Amount()
    assert not any(thread.name.startswith("branch-") for thread in threading.enumerate())
