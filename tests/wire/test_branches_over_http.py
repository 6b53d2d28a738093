"""Branches that are no longer wanted and hedges, over real connections, in every mode."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from harness.bench.modes import MODES
from harness.engine.attempt import CallTerms
from harness.engine.call import complete
from harness.engine.effects import Message, Program, Request, fan_out
from harness.policies.no_retry import NoRetryRule
from harness.policies.protocol import HedgeRule
from harness.policies.stack import Stack
from harness.records.failures import CANCELLED, OK
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Branches, Call, Record, Workflow
from harness.workflows.execution import run_workflow
from harness.workflows.partial_failure import Partial, fail_fast, quorum
from tests.bench.test_modes import PATIENT, open_gate, ours
from tests.engine.scripted import WORKFLOW
from tests.transports.attempts import make_target
from tests.transports.bodies import DONE, EVENT_STREAM, chunk
from tests.wire.clients import now
from tests.wire.fault_server import END, FaultServer, Hold, Seen, Step, Until, Write, framed, head
from tests.workflows.plans import research_plan

EVERY_MODE = pytest.mark.parametrize(
    ("mode", "permits"), [("sync", 1), ("threads", 4), ("async", 4)]
)
SIDE_BY_SIDE = pytest.mark.parametrize("mode", ["threads", "async"])
HEAD = Write(head(200, ("content-type", EVENT_STREAM)))
QUESTIONS = [f"What is letter {letter}?" for letter in "abcd"]


def says(text: str) -> Sequence[Step]:
    return [HEAD, Write(framed(chunk(content=text) + chunk("stop") + DONE)), Write(END)]


REFUSED: Sequence[Step] = [Write(head(422)), Write(END)]


def play(
    mode: str, permits: int, server: FaultServer, program: Program[None]
) -> tuple[list[Attempt], list[Call], list[Workflow]]:
    """Run a program against a server and return its records; nothing may be left of it."""
    records: list[Record] = []
    target = make_target(server.base_url)
    MODES[mode](program, target, permits, now, records.append, open_gate())
    assert server.settled(lambda: server.open == 0)
    assert ours() == []
    return (
        [record for record in records if isinstance(record, Attempt)],
        [record for record in records if isinstance(record, Call)],
        [record for record in records if isinstance(record, Workflow)],
    )


def workflow(partial: Partial) -> Program[None]:
    plan = research_plan(sub_questions=4, partial=partial)
    yield from run_workflow(PATIENT, plan, WORKFLOW, "letters", now())


def answering(branches: dict[str, Sequence[Step]]) -> Callable[[Seen], Sequence[Step]]:
    """Answer the research of each letter so; the other phases go well."""

    def answer(seen: Seen) -> Sequence[Step]:
        asked = json.loads(seen.body)["messages"][-1]["content"]
        if "JSON" in asked:
            return says(json.dumps({"sub_questions": QUESTIONS}))
        if "Write a report" in asked:
            return says("The report.")
        [steps] = [steps for letter, steps in branches.items() if f"letter {letter}?" in asked]
        return steps

    return answer


@EVERY_MODE
def test_a_quorum_hangs_up_on_its_stragglers(mode: str, permits: int) -> None:
    """The server would never answer c and d; in sync mode they are not even asked."""
    silence: Sequence[Step] = [HEAD, Hold()]
    answers = {"a": says("one"), "b": says("two"), "c": silence, "d": silence}
    with FaultServer(answering(answers)) as server:
        attempts, calls, [record] = play(mode, permits, server, workflow(quorum(4, 0.5)))
        asked = len(server.seen)
    assert (record.outcome, record.branches) == ("degraded", Branches(total=4, ok=2))
    assert record.error is None
    branches = {call.branch: call for call in calls if call.phase == "fan_out"}
    assert [branches[index].outcome for index in range(4)] == [OK, OK, CANCELLED, CANCELLED]
    tried = sum(call.attempts for call in calls)
    assert len(attempts) == tried >= asked
    if mode == "sync":
        assert (branches[2].attempts, branches[3].attempts, asked) == (0, 0, 4)


@EVERY_MODE
def test_fail_fast_hangs_up_on_the_siblings(mode: str, permits: int) -> None:
    silence: Sequence[Step] = [Hold()]
    answers = {"a": says("one"), "b": REFUSED, "c": silence, "d": silence}
    with FaultServer(answering(answers)) as server:
        _, calls, [record] = play(mode, permits, server, workflow(fail_fast(4)))
    assert record.outcome == "failed"
    assert record.error == "fan_out: unprocessable (HTTP 422)"
    outcomes = Counter(call.outcome for call in calls if call.phase == "fan_out")
    assert (outcomes["unprocessable"], outcomes.total()) == (1, 4)
    assert outcomes[CANCELLED] >= 2
    assert not any(call.phase == "synthesize" for call in calls)


# --- hedges


def hedging(allowed: int = 99) -> CallTerms:
    left = iter(range(allowed))
    policy = Stack([], NoRetryRule())
    policy.hedge = HedgeRule(1, lambda asking: next(left, None) is not None)
    return PATIENT._replace(policy=policy)


def calls_of(how: CallTerms, count: int) -> Program[None]:
    def call(branch: int) -> Program[object]:
        key = CallKey(*WORKFLOW, "fan_out", branch, 1)
        return complete(how, key, Request((Message("user", f"Why {branch}?"),)), now())

    yield from fan_out([call(branch) for branch in range(count)])


@SIDE_BY_SIDE
@pytest.mark.parametrize("slow", [0, 1], ids=["the first is slow", "the hedge is slow"])
def test_the_first_to_show_text_goes_on_and_the_other_is_hung_up_on(mode: str, slow: int) -> None:
    """The slow one never answers; the other only when both are there."""
    count = iter(range(99))

    def answer(seen: Seen) -> Sequence[Step]:
        if next(count) == slow:
            return [Hold()]
        return [Until(lambda: server.most_in_service == 2), *says("fast")]

    with FaultServer(answer) as server:
        attempts, [call], _ = play(mode, 2, server, calls_of(hedging(), 1))
        assert server.connections == len(server.seen) == 2
    assert (call.outcome, call.attempts) == (OK, 2)
    by_number = {one.attempt: one for one in attempts}
    assert sorted(by_number) == [1, 2]
    assert (by_number[1].hedge, by_number[2].hedge) == (False, True)
    assert Counter(one.outcome for one in attempts) == {OK: 1, CANCELLED: 1}
    assert by_number[1].permit_granted < by_number[2].permit_granted
    assert all(one.done <= call.done for one in attempts)


@SIDE_BY_SIDE
def test_a_hedge_needs_a_permit_of_its_own_and_waits_for_it_in_vain(mode: str) -> None:
    with FaultServer(lambda _: [Until(lambda: True), *says("here")]) as server:
        attempts, calls, _ = play(mode, 1, server, calls_of(hedging(), 5))
        assert server.most_in_service == 1
    assert [call.outcome for call in calls] == [OK] * 5
    assert [one.outcome for one in attempts if not one.hedge] == [OK] * 5


@SIDE_BY_SIDE
def test_hedges_go_out_no_more_often_than_their_budget_allows(mode: str) -> None:
    """No call is answered before two of them have been hedged, and none is hedged after that."""
    with FaultServer(lambda _: [Until(lambda: len(server.seen) == 6), *says("here")]) as server:
        attempts, calls, _ = play(mode, 8, server, calls_of(hedging(2), 4))
        assert len(server.seen) == 6
    assert [call.outcome for call in calls] == [OK] * 4
    assert sum(one.hedge for one in attempts) == 2
    assert len(attempts) == 6
