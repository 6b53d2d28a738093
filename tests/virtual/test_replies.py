from __future__ import annotations

import msgspec
import pytest

from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.histogram import bucket
from harness.records.schema import Tokens
from tests.virtual.single import Waiting, attempt, blocking, tasks, trial

TENTH = SECOND // 10
both = pytest.mark.parametrize("waiting", [blocking, tasks], ids=["sync", "async"])


@both
def test_a_response_comes_as_the_profile_says(waiting: Waiting) -> None:
    reply = waiting(trial(), attempt())
    assert (reply.outcome, reply.status, reply.finish_reason) == (OK, 200, "stop")
    assert (reply.sent, reply.headers) == (0, 0)
    assert reply.first_reasoning == 2 * SECOND
    assert reply.first_answer == 3 * SECOND
    assert reply.last_token == reply.done == 49 * TENTH
    assert reply.chunks == 30
    assert reply.gaps == {bucket(TENTH): 29}
    assert reply.tokens == Tokens(input=10, cached=0, output=30, reasoning=10)
    assert reply.answer
    assert reply.reasoning
    assert reply.request_id is not None


@both
def test_a_response_that_is_not_streamed_comes_at_once_and_its_headers_before(
    waiting: Waiting,
) -> None:
    reply = waiting(trial(stream=False), attempt())
    assert reply.headers == SECOND
    done = 49 * TENTH
    assert (reply.first_reasoning, reply.first_answer, reply.last_token) == (done, done, done)
    assert (reply.chunks, reply.gaps, reply.done) == (1, {}, done)


@both
def test_what_is_too_long_is_truncated(waiting: Waiting) -> None:
    reply = waiting(trial(max_output_tokens=15), attempt())
    assert (reply.outcome, reply.finish_reason) == ("truncated", "length")
    assert reply.tokens.output == 15
    assert reply.done == 34 * TENTH


@both
@pytest.mark.parametrize("idle", [TENTH, 60 * SECOND], ids=["each chunk", "no chunk"])
def test_the_first_token_is_waited_for_to_the_nanosecond(waiting: Waiting, idle: int) -> None:
    late = waiting(trial(), attempt(first_token=2 * SECOND - 1, idle=idle))
    assert late.outcome == "first_token_timeout"
    assert late.done == 2 * SECOND - 1
    assert (late.chunks, late.first_reasoning, late.last_token) == (0, None, None)
    assert late.tokens == Tokens()
    assert waiting(trial(), attempt(first_token=2 * SECOND, idle=idle)).outcome == OK


@both
def test_text_is_waited_for_to_the_nanosecond(waiting: Waiting) -> None:
    late = waiting(trial(), attempt(idle=TENTH - 1))
    assert late.outcome == "idle_timeout"
    assert late.last_token == 2 * SECOND
    assert late.done == 2 * SECOND + TENTH - 1
    assert late.chunks == 1
    assert waiting(trial(), attempt(idle=TENTH)).outcome == OK


@both
@pytest.mark.parametrize("name", ["call_timeout", "workflow_timeout"])
@pytest.mark.parametrize("idle", [TENTH, 60 * SECOND], ids=["each chunk", "no chunk"])
def test_the_end_comes_to_the_nanosecond_and_keeps_what_had_come(
    waiting: Waiting, name: str, idle: int
) -> None:
    end = 3 * SECOND + TENTH + 1
    late = waiting(trial(), attempt(end=end, name=name, idle=idle))
    assert late.outcome == name
    assert late.done == end
    assert late.first_reasoning == 2 * SECOND
    assert late.first_answer == 3 * SECOND
    assert late.last_token == 3 * SECOND + TENTH
    assert late.chunks == 12
    assert late.gaps == {bucket(TENTH): 11}
    assert late.tokens == Tokens()
    assert late.reasoning
    assert late.finish_reason is None


@both
def test_a_whole_body_is_waited_for_as_a_first_token(waiting: Waiting) -> None:
    late = waiting(trial(stream=False), attempt(first_token=SECOND // 2))
    assert (late.outcome, late.done) == ("first_token_timeout", SECOND // 2)
    assert (late.headers, late.status, late.request_id) == (None, None, None)
    later = waiting(trial(stream=False), attempt(first_token=2 * SECOND))
    assert (later.outcome, later.headers, later.status) == ("first_token_timeout", SECOND, 200)


@both
def test_without_ids_a_response_is_the_same_but_for_its_ids(waiting: Waiting) -> None:
    whole, bare = trial(), trial()
    bare = bare._replace(target=bare.target._replace(ids=False))
    reply, without = waiting(whole, attempt()), waiting(bare, attempt())
    assert None not in (reply.request_id, reply.response_id)
    assert (without.request_id, without.response_id) == (None, None)
    assert (
        msgspec.structs.replace(without, request_id=reply.request_id, response_id=reply.response_id)
        == reply
    )
