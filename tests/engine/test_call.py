"""One call: its attempts, permits, deadlines and records, driven without a clock."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from harness.engine.attempt import CallTerms
from harness.engine.call import Completion, complete
from harness.engine.effects import (
    Acquire,
    Deadlines,
    Emit,
    Finished,
    Grant,
    Message,
    Now,
    Release,
    Request,
    Send,
    Sleep,
    step,
)
from harness.policies.exponential import ExponentialRule
from harness.policies.no_retry import NoRetryRule
from harness.policies.openai_sdk import OpenAISdkRule
from harness.policies.retry import Retry
from harness.records.failures import CANCELLED, FAILURES, OK
from harness.records.keys import CallKey
from harness.records.schema import Attempt, Backoff, Call, Decision, Tokens
from tests.engine.scripted import (
    CALL,
    RATE_LIMITED,
    UNAUTHORIZED,
    Half,
    Says,
    World,
    in_turn,
    reply,
    terms,
    waits_of,
)

REQUEST = Request((Message("user", "why?"),), max_tokens=100)


def run(
    world: World, how: CallTerms, ready: int = 0, workflow_end: int | None = None
) -> Completion:
    return world.run(complete(how, CALL, REQUEST, ready, workflow_end))


# Driven by hand: what is yielded, step by step.


def test_a_call_that_succeeds_asks_for_a_permit_sends_and_gives_it_back() -> None:
    program = complete(terms(), CALL, REQUEST, ready=5)
    assert step(program, None) == Acquire(ready=5, deadline=None)
    assert step(program, Grant(requested=6, granted=20)) == Send(
        CALL, 1, REQUEST, Deadlines(5, 500, 50, end=1020, end_outcome="call_timeout")
    )
    said = reply(Says(), 20)
    emitted = step(program, said)
    assert emitted == Emit(
        Attempt(
            cell="async_2_full-jitter_attempt", repeat=0, workflow=3, execution=0,
            phase="fan_out", branch=1, call=1, attempt=1,
            ready=5, permit_requested=6, permit_granted=20, sent=21, headers=22,
            first_reasoning=120, first_answer=120, last_token=120, done=120, outcome=OK,
            status=200, retry_after=None, request_id="request-20", finish_reason="stop",
            tokens=Tokens(input=10, output=20), chunks=3, gaps={40: 2}, decision=None,
        )
    )  # fmt: skip
    assert step(program, None) == Release()
    assert step(program, None) == Emit(
        Call(
            cell="async_2_full-jitter_attempt", repeat=0, workflow=3, execution=0,
            phase="fan_out", branch=1, call=1, ready=5, done=120, outcome=OK, attempts=1,
            backoffs=(), tokens=Tokens(input=10, output=20), wasted_tokens=None,
        )
    )  # fmt: skip
    tokens = Tokens(input=10, output=20)
    ended = Finished(Completion(OK, "a thought", "an answer", "", done=120, tokens=tokens))
    assert step(program, None) == ended


def test_scope_attempt_gives_the_permit_back_before_it_sleeps_and_asks_again_after() -> None:
    program = complete(terms(hold=False), CALL, REQUEST, ready=0)
    step(program, None)
    step(program, Grant(0, 0))
    assert isinstance(step(program, reply(RATE_LIMITED, 0)), Emit)
    assert step(program, None) == Release()
    assert step(program, None) == Sleep(until=1 + 7)
    assert step(program, 9) == Acquire(ready=9, deadline=1000)


def test_scope_call_keeps_the_permit_while_it_sleeps_and_sends_at_once_after() -> None:
    program = complete(terms(hold=True), CALL, REQUEST, ready=0)
    step(program, None)
    step(program, Grant(0, 0))
    assert isinstance(step(program, reply(RATE_LIMITED, 0)), Emit)
    assert step(program, None) == Sleep(until=1 + 7)
    sent = step(program, 9)
    assert isinstance(sent, Send)
    assert sent.attempt == 2
    emitted = step(program, reply(Says(), 9))
    assert isinstance(emitted, Emit)
    assert isinstance(emitted.record, Attempt)
    assert emitted.record.ready == 9
    assert emitted.record.permit_requested == emitted.record.permit_granted == 9
    assert step(program, None) == Release()


def test_a_permit_that_came_with_the_deadline_is_given_back_unused() -> None:
    program = complete(terms(), CALL, REQUEST, ready=0, workflow_end=70)
    assert step(program, None) == Acquire(ready=0, deadline=70)
    assert step(program, Grant(0, 70)) == Release()
    assert step(program, None) == Now()
    emitted = step(program, 71)
    assert isinstance(emitted, Emit)
    assert isinstance(emitted.record, Call)
    assert (emitted.record.outcome, emitted.record.attempts) == ("workflow_timeout", 0)


# Run by the scripted interpreter: what the records say.


def test_a_retry_that_succeeds_leaves_two_attempts_and_one_backoff() -> None:
    world = World(in_turn(RATE_LIMITED, Says()))
    ended = run(world, terms())
    first, second = world.attempts
    assert (first.outcome, second.outcome) == ("rate_limited", OK)
    assert first.decision == Decision(retry_in=7, source="policy")
    assert second.decision is None
    [call] = world.calls
    assert call.backoffs == (Backoff(start=1, end=8, planned=7, source="policy"),)
    assert call.attempts == 2
    assert second.ready == 8
    assert ended.outcome == OK
    assert ended.done == call.done == second.done == 108


def test_what_cannot_be_helped_is_not_tried_again() -> None:
    world = World(in_turn(UNAUTHORIZED))
    ended = run(world, terms())
    [attempt] = world.attempts
    assert attempt.decision == Decision(give_up="not_retryable")
    assert ended == Completion("unauthorized", "", "", "HTTP 401", done=1)
    assert world.calls[0].outcome == "unauthorized"
    assert world.calls[0].tokens is None


def test_a_call_ends_with_its_last_attempts_outcome_when_the_attempts_are_used_up() -> None:
    unavailable = Says("unavailable", takes=1, status=503, tokens=Tokens())
    world = World(in_turn(RATE_LIMITED, RATE_LIMITED, RATE_LIMITED, unavailable))
    assert run(world, terms()).outcome == "unavailable"
    assert [attempt.attempt for attempt in world.attempts] == [1, 2, 3, 4]
    assert world.attempts[-1].decision == Decision(give_up="attempts")


def test_a_backoff_that_would_pass_the_deadline_is_not_slept() -> None:
    world = World(in_turn(RATE_LIMITED._replace(takes=995)))
    assert run(world, terms()).outcome == "rate_limited"
    assert world.attempts[0].decision == Decision(give_up="deadline")
    assert world.held_during_sleep == []
    assert world.now == 995


def test_the_server_says_how_long_to_wait() -> None:
    world = World(in_turn(RATE_LIMITED._replace(retry_after=300), Says()))
    run(world, terms())
    assert world.calls[0].backoffs == (
        Backoff(start=1, end=301, planned=300, source="retry_after"),
    )
    assert world.attempts[0].retry_after == 300


def test_a_server_that_asks_for_more_than_is_left_ends_the_call() -> None:
    world = World(in_turn(RATE_LIMITED._replace(retry_after=1000)))
    assert run(world, terms()).outcome == "rate_limited"
    assert world.attempts[0].decision == Decision(give_up="deadline")


def test_the_deadline_runs_from_the_first_permit_through_backoff_and_later_waits() -> None:
    world = World(in_turn(RATE_LIMITED, Says()), waits_of(700, 200))
    run(world, terms(), ready=0)
    assert [sent.deadlines.end for sent in world.sends] == [1700, 1700]
    first, second = world.attempts
    assert (first.permit_requested, first.permit_granted) == (0, 700)
    assert (second.ready, second.permit_requested, second.permit_granted) == (708, 708, 908)
    assert second.permit_wait == 200


def test_a_permit_that_never_comes_back_times_the_call_out_without_an_attempt() -> None:
    world = World(in_turn(RATE_LIMITED), waits_of(0, None))
    ended = run(world, terms())
    assert ended.outcome == "call_timeout"
    assert ended.done == world.calls[0].done == 1000
    assert world.calls[0].attempts == len(world.attempts) == 1
    assert len(world.calls[0].backoffs) == 1


def test_a_first_permit_that_never_comes_is_the_workflows_timeout() -> None:
    world = World(in_turn(), waits_of(None))
    ended = run(world, terms(), workflow_end=400)
    assert ended.outcome == "workflow_timeout"
    assert ended.detail == "the deadline passed before the next attempt"
    [call] = world.calls
    assert (call.attempts, call.done, call.wasted_tokens, call.backoffs) == (0, 400, None, ())
    assert world.attempts == []


def test_without_a_workflow_deadline_the_first_permit_is_waited_for_as_long_as_it_takes() -> None:
    world = World(in_turn(Says()), waits_of(10**9))
    assert run(world, terms()).outcome == OK


def test_the_earlier_of_the_two_deadlines_holds_and_gives_its_name() -> None:
    world = World(in_turn(Says(takes=5000)))
    assert run(world, terms(), workflow_end=600).outcome == "workflow_timeout"
    assert world.now == 600
    world = World(in_turn(Says(takes=5000)))
    assert run(world, terms(), workflow_end=6000).outcome == "call_timeout"
    assert world.now == 1000


def test_a_sleep_that_ends_after_the_deadline_is_followed_by_no_attempt() -> None:
    for hold in (False, True):
        world = World(in_turn(RATE_LIMITED._replace(takes=990)))
        world.oversleep = 50
        assert run(world, terms(hold=hold)).outcome == "call_timeout"
        assert len(world.sends) == 1


def test_tokens_of_failed_attempts_are_wasted_and_those_of_the_good_one_are_not() -> None:
    cut = Says("connection_lost", tokens=Tokens(output=7))
    odd = Says("missing_done", tokens=Tokens(input=5, output=1, reasoning=1))
    world = World(in_turn(cut, odd, Says()))
    run(world, terms())
    [call] = world.calls
    assert call.tokens == Tokens(input=10, output=20)
    assert call.wasted_tokens == Tokens(input=5, output=8, reasoning=1)


def test_the_texts_of_a_failed_call_are_not_handed_on() -> None:
    world = World(in_turn(Says("truncated", answer="half an ans", reasoning="hm")))
    ended = run(world, terms())
    assert (ended.reasoning, ended.answer) == ("", "")


def test_the_jitter_of_a_call_is_drawn_from_one_source_named_by_the_call() -> None:
    asked = []

    def random_for(key: CallKey) -> Random:
        asked.append(key)
        return Half()

    world = World(in_turn(RATE_LIMITED, RATE_LIMITED, Says()))
    run(world, terms()._replace(random_for=random_for))
    assert asked == [CALL]


def test_a_transcript_is_kept_when_asked_for_and_only_then() -> None:
    world = World(in_turn(Says("truncated", answer="half", reasoning="hm")))
    run(world, terms(transcripts=True))
    [kept] = world.transcripts
    assert (kept.outcome, kept.reasoning, kept.answer) == ("truncated", "hm", "half")
    assert [(said.role, said.content) for said in kept.messages] == [("user", "why?")]
    world = World(in_turn(Says()))
    run(world, terms())
    assert world.transcripts == []


# Whatever happens.

said = st.builds(
    Says,
    outcome=st.sampled_from([OK, "rate_limited", "connection_lost", *FAILURES]),
    takes=st.integers(0, 400),
    status=st.sampled_from([None, 200, 401, 429, 503]),
    retry_after=st.none() | st.integers(0, 1200),
    should_retry=st.none() | st.booleans(),
    tokens=st.builds(Tokens, input=st.none() | st.integers(0, 9)),
)
policies: st.SearchStrategy[Retry] = st.one_of(
    st.just(NoRetryRule()),
    st.builds(
        ExponentialRule,
        attempts=st.integers(1, 8),
        base=st.integers(0, 300),
        cap=st.integers(0, 300),
        jitter=st.sampled_from(["full", "equal"]),
    ),
    st.builds(OpenAISdkRule, max_retries=st.integers(0, 8), second=st.integers(1, 100)),
)


@given(
    script=st.lists(said, min_size=9, max_size=9),
    waits=st.lists(st.none() | st.integers(0, 600), max_size=9),
    policy=policies,
    hold=st.booleans(),
    workflow_end=st.none() | st.integers(1, 3000),
    oversleep=st.integers(0, 20),
)
def test_whatever_is_replied_permits_and_records_add_up(
    script: list[Says],
    waits: list[int | None],
    policy: Retry,
    hold: bool,
    workflow_end: int | None,
    oversleep: int,
) -> None:
    """The interpreter itself asserts that each permit goes back and that sends are under one."""
    if workflow_end is None and waits:
        waits[0] = waits[0] or 0  # nothing would end a first wait
    world = World(in_turn(*script), waits_of(*waits))
    world.oversleep = oversleep
    ended = run(world, terms(policy, hold=hold), workflow_end=workflow_end)
    check_records(world, ended, hold)


def check_records(world: World, ended: Completion, hold: bool) -> None:
    attempts, [call] = world.attempts, world.calls
    assert call.attempts == len(attempts) == len(world.sends)
    assert [attempt.attempt for attempt in attempts] == list(range(1, len(attempts) + 1))
    assert (ended.outcome, ended.done) == (call.outcome, call.done)
    assert world.held_during_sleep == [int(hold)] * len(call.backoffs)
    assert world.records[-1] is call, "the call's record comes last"

    for attempt, sent in zip(attempts, world.sends, strict=True):
        assert attempt.ready <= attempt.permit_requested <= attempt.permit_granted
        assert attempt.sent is not None
        assert attempt.permit_granted <= attempt.sent <= attempt.done <= sent.deadlines.end
        assert (attempt.decision is None) == (attempt.outcome in (OK, CANCELLED))
        if hold and attempt.attempt > 1:
            assert attempt.ready == attempt.permit_requested == attempt.permit_granted
    readies = [call.ready, *(backoff.end for backoff in call.backoffs)]
    assert [attempt.ready for attempt in attempts] == readies[: len(attempts)]
    for backoff, attempt in zip(call.backoffs, attempts, strict=False):
        assert attempt.decision is not None
        assert backoff.start == attempt.done
        assert (backoff.planned, backoff.source) == (
            attempt.decision.retry_in,
            attempt.decision.source,
        )
        assert backoff.start + backoff.planned <= world.sends[0].deadlines.end
        assert backoff.end >= backoff.start + backoff.planned

    if len(call.backoffs) == len(attempts):  # the next permit came too late or not at all
        assert call.outcome in ("call_timeout", "workflow_timeout")
        assert call.tokens is None
    else:
        last = attempts[-1]
        assert len(call.backoffs) == len(attempts) - 1
        assert (call.outcome, call.done) == (last.outcome, last.done)
        assert call.tokens == (last.tokens if last.outcome == OK else None)
        assert last.decision is None or last.decision.give_up
    failed = [attempt for attempt in attempts if attempt.outcome != OK]
    assert (call.wasted_tokens is None) == (not failed)
    if call.wasted_tokens is not None:
        counted = [attempt.tokens.input for attempt in failed if attempt.tokens.input is not None]
        assert call.wasted_tokens.input == (sum(counted) if counted else None)
