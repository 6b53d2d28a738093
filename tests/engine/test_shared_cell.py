"""What processes share: they see one state, and none of them exceeds what holds for all."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine.adaptive_limit import AdaptiveLimit, fair_parts
from harness.engine.budget_gate import BudgetExhaustedError, FirstCallError, Gate
from harness.engine.effects import Deadlines, Message, Reply, Request, Send, unsent
from harness.engine.ledger import Amount, BudgetLimits, Ledger
from harness.engine.permits import ThreadPermits
from harness.engine.shared_cell import SharedCell, SharedFlag, SharedState
from harness.engine.shared_policy import SharedPolicy, shared_policy
from harness.engine.waiting import Turn
from harness.limits.aimd import Aimd
from harness.policies.breaker import Breaker
from harness.policies.no_retry import NoRetryRule
from harness.policies.protocol import GO, Asking, Ended, ParkCall
from harness.policies.retry import Failure
from harness.policies.retry_budget import RetryBudget
from harness.policies.section import PolicyContext
from harness.policies.stack import Stack
from harness.records.clock import SECOND
from harness.records.keys import CallKey
from harness.records.schema import Decision, Tokens, retry_in
from tests.analysis.builders import make_attempt


@contextmanager
def cells(count: int) -> Iterator[list[SharedCell]]:
    """Open one cell as often as there are processes; their locks exclude each other as there."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        opened = [SharedCell(Path(folder) / "cell") for _ in range(count)]
        for cell in opened:
            stack.callback(cell.close)
        yield opened


class Holder:
    """Counts in one process."""

    def __init__(self, cell: SharedCell) -> None:
        self.count = 0
        self.shared = SharedState(cell, self._load, lambda: self.count)

    def _load(self, count: int) -> None:
        self.count = count

    def add(self, amount: int) -> int:
        with self.shared:
            self.count += amount
        return self.count


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-5, 5)), max_size=40))
@settings(deadline=None)
def test_a_state_is_the_same_in_all_processes(steps: list[tuple[int, int]]) -> None:
    with cells(3) as opened:
        holders, total = [Holder(cell) for cell in opened], 0
        for at, amount in steps:
            total += amount
            assert holders[at].add(amount) == total
            changed = amount != 0
            assert not holders[at].shared.is_new
            assert not changed or all(one.shared.is_new for one in holders if one != holders[at])


def test_what_did_not_change_is_not_written() -> None:
    with cells(1) as (cell,):
        holder = Holder(cell)
        holder.add(0)
        assert cell.version == 0
        holder.add(1)
        assert cell.version == 1


def test_a_state_that_is_too_large_is_refused_and_the_one_before_stays() -> None:
    with cells(2) as (one, other):
        one.write("small")
        with pytest.raises(ValueError, match="bytes"):
            one.write("x" * 300_000)
        assert other.read() == "small"


def test_a_flag_is_set_for_all(tmp_path: Path) -> None:
    flags = [SharedFlag(tmp_path / "flag") for _ in range(2)]
    assert [flag.is_set() for flag in flags] == [False, False]
    flags[0].set()
    assert [flag.is_set() for flag in flags] == [True, True]
    for flag in flags:
        flag.close()


HOLDING = """
import sys
from pathlib import Path
from harness.engine.shared_cell import SharedCell
cell = SharedCell(Path(sys.argv[1]))
cell.lock()
# Killed before the last step: the value is there, and does not count.
import harness.engine.shared_cell as module
class Stop:
    size = module._VERSION.size
    unpack_from = module._VERSION.unpack_from
    def pack_into(self, *arguments):
        print("holds", flush=True)
        sys.stdin.read()
module._VERSION = Stop()
cell.write("half")
"""


def test_a_process_that_is_killed_leaves_the_lock_and_the_value_before(tmp_path: Path) -> None:
    path = tmp_path / "cell"
    cell = SharedCell(path)
    cell.write("whole")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    cell.lock()
    assert cell.read() == "whole"
    cell.unlock()
    cell.close()


# The budget.


class TokensOfReply:
    """An attempt may use `max_tokens` and uses what its reply says."""

    def __init__(self) -> None:
        self.most = Amount()

    def worst(self, effect: Send) -> Amount:
        return Amount(*map(max, Amount(1, effect.request.max_tokens or 0), self.most))

    def used(self, worst: Amount, reply: Reply) -> Amount:
        used = Amount(1, reply.tokens.output or 0)
        if used.tokens > worst.tokens:
            self.most = Amount(*map(max, self.most, used))
        return used


def attempt_of(worst: int) -> Send:
    request = Request((Message("user", "why?"),), max_tokens=worst)
    key = CallKey("c", 0, 0, 0, "fan_out", 1, 1)
    return Send(key, 1, request, Deadlines(1, 1, 1, 10**12, "call_timeout"))


def reply(tokens: int) -> Reply:
    return msgspec.structs.replace(unsent("ok", "", 1), sent=0, tokens=Tokens(output=tokens))


def gate_of(cell: SharedCell, limits: BudgetLimits, flag: SharedFlag | None = None) -> Gate:
    return Gate(limits, TokensOfReply(), lambda: 0, shared=cell, answers=flag)


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("sle"), st.integers(1, 60), st.integers(0, 100)),
    max_size=60,
)


@given(STEPS, st.integers(1, 12), st.integers(0, 400))
@settings(deadline=None)
def test_processes_never_exceed_a_budget_together(
    steps: Sequence[tuple[int, str, int, int]], attempts: int, tokens: int
) -> None:
    limits = BudgetLimits(attempts=attempts, tokens=tokens)
    with cells(3) as opened:
        gates = [gate_of(cell, limits) for cell in opened]
        in_flight: list[list[Amount]] = [[], [], []]
        sent, used = 0, 0
        for at, step, worst, share in steps:
            gate, own = gates[at], in_flight[at]
            if step == "s":
                admitted = gate.enter(attempt_of(worst))
                if admitted is not None:
                    own.append(admitted)
                    sent += 1
            elif own and step == "l":
                amount = own.pop(0)
                used += amount.tokens * share // 100
                gate.leave(amount, reply(amount.tokens * share // 100))
            elif own:
                amount = own.pop(0)
                gate.withdraw(amount)
                sent -= 1
            held = sum(amount.tokens for each in in_flight for amount in each)
            assert sent <= attempts
            assert used + held <= tokens
            ledger: Ledger = gate.ledger
            if step != "s" or admitted is not None:
                assert ledger.spent.tokens <= used


def test_room_that_another_process_makes_lets_a_waiting_attempt_in() -> None:
    with cells(2) as (first, second):
        one, other = (gate_of(cell, BudgetLimits(tokens=100)) for cell in (first, second))
        worst = one.enter(attempt_of(80))
        assert worst is not None
        assert other.enter(attempt_of(80)) is None
        woken = list[int]()
        steps = other.waiting(Turn(lambda: woken.append(1)), attempt_of(80))
        next(steps)
        other.look()
        assert woken == []
        one.leave(worst, reply(10))
        assert not other.look()
        assert woken == [1]
        with pytest.raises(StopIteration) as ended:
            next(steps)
        assert ended.value.value.worst == Amount(1, 80)


def test_a_process_without_a_waiting_call_learns_that_the_budget_is_used_up() -> None:
    with cells(2) as (first, second):
        one, other = (gate_of(cell, BudgetLimits(attempts=1)) for cell in (first, second))
        worst = other.enter(attempt_of(1))
        assert worst is not None
        assert one.enter(attempt_of(1)) is None
        steps = one.waiting(Turn(lambda: None), attempt_of(1))
        with pytest.raises(BudgetExhaustedError):  # nothing of this process is in flight
            next(steps)
        assert not other.look()  # its attempt is in flight
        other.leave(worst, reply(1))
        other.emitting(lambda record: None)(make_attempt())
        assert other.look()


def test_usage_above_the_worst_case_counts_in_all_processes() -> None:
    with cells(2) as (first, second):
        one, other = (gate_of(cell, BudgetLimits(tokens=100)) for cell in (first, second))
        worst = one.enter(attempt_of(10))
        assert worst is not None
        one.leave(worst, reply(60))
        assert other.enter(attempt_of(10)) is None  # it may use 60, too


def test_a_refusal_ends_no_run_in_which_another_process_had_an_answer(tmp_path: Path) -> None:
    flags = [SharedFlag(tmp_path / "flag") for _ in range(3)]
    gates = [
        Gate(BudgetLimits(), None, lambda: 0, answers=flag, hopeless={"not_found"})
        for flag in flags
    ]
    refused = make_attempt(outcome="not_found", status=404)
    with pytest.raises(FirstCallError):
        gates[0].emitting(lambda record: None)(refused)
    gates[1].emitting(lambda record: None)(make_attempt(outcome="ok", status=200))
    gates[2].emitting(lambda record: None)(refused)
    for flag in flags:
        flag.close()


# Policies.


class AlwaysAgain:
    """Tries again at once."""

    def decide(self, failure: Failure, random: Random) -> Decision:
        return retry_in(0, "policy")


CONTEXT = PolicyContext("broken", 1.0, streamed=True)
ASKING = Asking("fan_out", 1, 0)


def ended(outcome: str, now: int, admitted: int, attempt: int = 1) -> Ended:
    status = 200 if outcome == "ok" else 503
    return Ended(
        "fan_out", attempt, outcome, status, None, None, admitted, admitted, now, 10**12
    )  # fmt: skip


def breaking(cell: SharedCell) -> SharedPolicy:
    layer = Breaker(failures=2, pause=1.0).layer(CONTEXT)
    policy = shared_policy(Stack([layer], NoRetryRule()), cell)
    assert isinstance(policy, SharedPolicy)
    return policy


def test_a_breaker_that_one_process_opens_parks_the_calls_of_others() -> None:
    with cells(3) as opened:
        policies = [breaking(cell) for cell in opened]
        for policy in policies:
            assert policy.admit(ASKING) is GO
        policies[0].ended(ended("unavailable", 10, 0), Random)
        policies[1].ended(ended("unavailable", 20, 0), Random)  # the second in a row
        parked = policies[2].admit(Asking("fan_out", 1, 30))
        assert isinstance(parked, ParkCall)
        assert parked.until == 20 + SECOND
        assert policies[0].admit(Asking("fan_out", 1, 30)) == parked


def test_the_probe_of_one_process_wakes_the_calls_of_others() -> None:
    with cells(2) as (first, second):
        one, other = breaking(first), breaking(second)
        for now in (10, 20):
            one.ended(ended("unavailable", now, 0), Random)
        probe = 20 + SECOND
        assert one.admit(Asking("fan_out", 1, probe)) is GO
        parked = other.admit(Asking("fan_out", 1, probe + 1))
        assert isinstance(parked, ParkCall)
        assert parked.until is None  # until the bell rings
        rung = list[object]()
        other.look(rung.append)
        assert rung == []
        verdict = one.ended(ended("ok", probe + 10, probe), Random)
        assert verdict.ring == parked.bell
        other.look(rung.append)
        assert rung == [parked.bell]
        other.look(rung.append)
        assert rung == [parked.bell]
        assert other.admit(Asking("fan_out", 1, probe + 11)) is GO


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 5))
@settings(deadline=None)
def test_a_retry_budget_is_one_for_all_processes(order: list[int], burst: int) -> None:
    with cells(3) as opened:
        layers = [RetryBudget(ratio=0.1, burst=burst).layer(CONTEXT) for _ in opened]
        policies = [
            shared_policy(Stack([layer], AlwaysAgain()), cell)
            for layer, cell in zip(layers, opened, strict=True)
        ]
        again = 0
        for number, at in enumerate(order):
            verdict = policies[at].ended(ended("unavailable", number, 0, attempt=2), Random)
            assert verdict.decision is not None
            again += verdict.decision.retry_in is not None
        assert again == min(burst, len(order))


def test_a_policy_without_a_state_is_not_shared() -> None:
    with cells(1) as (cell,):
        plain = Stack([], NoRetryRule())
        assert shared_policy(plain, cell) is plain


# Limits that adapt.


@given(
    st.integers(0, 200),
    st.lists(st.none() | st.integers(0, 90), min_size=1, max_size=6),
    st.integers(0, 10),
)
def test_a_limit_is_divided_by_what_is_wanted(
    limit: int, wanted: list[int | None], first: int
) -> None:
    parts = fair_parts(limit, wanted, first)
    alive = [rank for rank, want in enumerate(wanted) if want is not None]
    assert sum(parts) == (limit if alive else 0)
    assert all(parts[rank] == 0 for rank in range(len(wanted)) if rank not in alive)
    lacking = [rank for rank in alive if parts[rank] < (wanted[rank] or 0)]
    for rank in lacking:  # nobody has more than one who lacks some, but for a rest of one
        assert all(parts[other] <= parts[rank] + 1 for other in alive)
    if lacking:
        assert all(parts[rank] <= (wanted[rank] or 0) for rank in alive)


def test_a_limit_below_the_number_of_processes_goes_round() -> None:
    served = [fair_parts(1, [5, 5, 5], first) for first in range(3)]
    assert served == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


USES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("acfl"), st.integers(0, 3)), max_size=80
)


@given(USES, st.integers(1, 9))
@settings(deadline=None)
def test_processes_never_use_more_than_a_limit_together(
    steps: list[tuple[int, str, int]], most: int
) -> None:
    section = Aimd(max=most, start=most, min=1)
    with cells(3) as opened:
        limits = [
            AdaptiveLimit(section.limiter(1.0), rank=rank, of=3, cell=cell)
            for rank, cell in enumerate(opened)
        ]
        lines = [ThreadPermits(limit.permits, lambda: 0) for limit in limits]
        nothing = lambda record: None  # noqa: E731
        feeds = [
            limit.feeding(permits, nothing) for limit, permits in zip(limits, lines, strict=True)
        ]
        now = 0
        for at, step, passed in steps:
            now += passed * SECOND // 2
            limit, permits = limits[at], lines[at]
            before, was = sum(line.in_use for line in lines), limit.limit
            if step == "a":
                limit.look(permits, now)  # until then it knows the limit of its last look
                permits.at_once(None)
            elif step == "l":
                limit.look(permits, now)
            elif permits.in_use:
                outcome = "ok" if step == "c" else "rate_limited"
                feeds[at](make_attempt(done=now, sent=now, outcome=outcome))
                permits.release()
            in_use = sum(line.in_use for line in lines)
            assert in_use <= most
            # What is over a limit that fell is given back and not handed on.
            assert in_use <= max(before, was)


def test_permits_that_a_process_does_not_want_go_to_another() -> None:
    with cells(2) as opened:
        section = Aimd(max=10, start=10)
        one, other = (
            AdaptiveLimit(section.limiter(1.0), rank=rank, of=2, cell=cell)
            for rank, cell in enumerate(opened)
        )
        assert (one.permits, other.permits) == (5, 5)
        busy, idle = ThreadPermits(5, lambda: 0), ThreadPermits(5, lambda: 0)
        for _ in range(9):
            busy.at_once(None, Turn(lambda: None))
        one.look(busy, 0)
        assert one.permits == 5  # the other one holds the rest
        idle.at_once(None)
        other.look(idle, 0)
        assert other.permits == 1
        one.look(busy, 0)
        assert one.permits == 9
        assert busy.in_use == 9


def test_the_permits_of_a_process_that_has_ended_go_to_another() -> None:
    with cells(2) as opened:
        one, other = (
            AdaptiveLimit(Aimd(max=10, start=10).limiter(1.0), rank=rank, of=2, cell=cell)
            for rank, cell in enumerate(opened)
        )
        other.end(0)
        permits = ThreadPermits(one.permits, lambda: 0)
        one.look(permits, 0)
        assert one.permits == 10
