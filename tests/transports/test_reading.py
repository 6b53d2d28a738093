"""Every way in which a 200 can still be a failure is told apart, and every stamp is the bytes'."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.failures import FAILURES, OK
from harness.records.histogram import bucket
from harness.records.schema import Tokens
from harness.transports.reading import Reading
from tests.transports.bodies import (
    BODIES,
    DONE,
    EVENT_STREAM,
    JSON,
    KEEP_ALIVE,
    STREAMS,
    chunk,
    event,
    message,
    outcome_of,
    usage_chunk,
    whole,
)
from tests.transports.cutting import cut


def read(pieces: list[bytes], content_type: str, stream: bool = True) -> Reading:
    """Feed the pieces at 10, 20, 30 …, and the end 10 after the last."""
    reading = Reading(stream, content_type)
    for number, piece in enumerate(pieces, 1):
        reading.feed(piece, number * 10)
    reading.close((len(pieces) + 1) * 10)
    return reading


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_comes_to_the_outcome_of_its_name(case: str) -> None:
    reading = read(STREAMS[case], EVENT_STREAM)
    assert reading.outcome == outcome_of(case)
    assert reading.ended is not None
    assert (reading.detail == "") == (reading.outcome == OK)


@pytest.mark.parametrize("stream", [False, True], ids=["asked whole", "asked as stream"])
@pytest.mark.parametrize("case", BODIES)
def test_a_whole_body_comes_to_the_outcome_of_its_name(case: str, stream: bool) -> None:
    body, content_type = BODIES[case]
    reading = read([body], content_type, stream)
    assert reading.outcome == outcome_of(case)
    assert reading.ended == 20


def test_every_failure_of_a_body_is_a_known_class() -> None:
    named = {outcome_of(case) for case in (*STREAMS, *BODIES)}
    assert named - {OK} <= FAILURES.keys()


@given(case=st.sampled_from(sorted(STREAMS)), cuts=st.data())
def test_a_stream_means_the_same_however_it_is_cut(case: str, cuts: st.DataObject) -> None:
    sent = b"".join(STREAMS[case])
    one = read([sent], EVENT_STREAM)
    other = read(cuts.draw(cut(sent)), EVENT_STREAM)
    assert _meaning(other) == _meaning(one)


@given(case=st.sampled_from(sorted(STREAMS)), cuts=st.data())
def test_a_stream_without_a_content_type_is_known_by_its_first_bytes(
    case: str, cuts: st.DataObject
) -> None:
    sent = b"".join(STREAMS[case])
    other = read(cuts.draw(cut(b"\n" + sent)), "")
    assert _meaning(other) == _meaning(read([sent], EVENT_STREAM))


@given(case=st.sampled_from(sorted(BODIES)), cuts=st.data())
def test_a_body_without_a_content_type_is_known_by_its_first_bytes(
    case: str, cuts: st.DataObject
) -> None:
    sent, _ = BODIES[case]
    assert _meaning(read(cuts.draw(cut(sent)), "")) == _meaning(read([sent], JSON))


def _meaning(reading: Reading) -> tuple[Any, ...]:
    return (
        reading.outcome,
        reading.detail,
        reading.reasoning,
        reading.answer,
        reading.finish_reason,
        reading.tokens,
        reading.chunks,
    )


@pytest.mark.parametrize(
    "deltas",
    [
        [{"role": "assistant", "content": None, "reasoning_content": ""},
         {"reasoning_content": "wh", "content": None}, {"reasoning_content": "y"},
         {"content": "bec", "reasoning_content": None}, {"content": "ause"}],
        [{"reasoning": "wh"}, {"reasoning": "y", "content": ""}, {"content": "because"}],
        [{"reasoning": "why", "reasoning_content": "why"}, {"content": "because"}],
        [{"content": "<think>"}, {"content": "why</thi"}, {"content": "nk>\n\nbecause"}],
        [{"content": "<thi"}, {"content": "nk>why</think>because"}],
        [{"content": "why"}, {"content": "</think>"}, {"content": "\n\nbecause"}],
    ],
    ids=["reasoning_content", "reasoning", "both fields", "think", "cut tag", "no opening tag"],
)  # fmt: skip
def test_reasoning_and_answer_are_apart_wherever_a_server_puts_them(
    deltas: list[dict[str, Any]],
) -> None:
    reading = read([*(chunk(**delta) for delta in deltas), chunk("stop"), DONE], EVENT_STREAM)
    assert (reading.outcome, reading.reasoning, reading.answer) == (OK, "why", "because")


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "why", "content": "because"},
        {"reasoning": "why", "content": "because"},
        {"content": "<think>why</think>\n\nbecause"},
        {"content": "why</think>because"},
    ],
    ids=["reasoning_content", "reasoning", "think", "no opening tag"],
)
def test_a_whole_message_has_its_reasoning_and_answer_apart(fields: dict[str, str]) -> None:
    reading = read([whole(**fields)], JSON, stream=False)
    assert (reading.outcome, reading.reasoning, reading.answer) == (OK, "why", "because")


def test_a_tag_in_the_answer_of_a_server_with_separate_reasoning_is_text() -> None:
    sent = [chunk(reasoning_content="why"), chunk(content="<think> is a tag"), DONE]
    assert read(sent, EVENT_STREAM).answer == "<think> is a tag"


def test_what_was_held_back_is_kept_when_reasoning_comes_separately_after_all() -> None:
    sent = [chunk(content=" <"), chunk(reasoning_content="why"), chunk(content="3"), DONE]
    reading = read(sent, EVENT_STREAM)
    assert (reading.reasoning, reading.answer) == ("why", " <3")


DEEPSEEK = {
    "prompt_tokens": 100, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36,
    "completion_tokens": 50, "total_tokens": 150,
    "completion_tokens_details": {"reasoning_tokens": 20},
}  # fmt: skip
OPENAI = {
    "prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens": 50,
    "completion_tokens_details": {"reasoning_tokens": 20, "accepted_prediction_tokens": 0},
}  # fmt: skip
ALL = Tokens(input=100, cached=64, output=50, reasoning=20)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (DEEPSEEK, ALL),
        (OPENAI, ALL),
        ({"prompt_tokens": 100, "completion_tokens": 50}, Tokens(input=100, output=50)),
        ({"prompt_tokens": 100, "prompt_tokens_details": None}, Tokens(input=100)),
        (None, Tokens()),
    ],
    ids=["deepseek", "openai", "plain", "null details", "null"],
)
def test_token_counts_are_read_in_every_shape(usage: dict[str, Any] | None, tokens: Tokens) -> None:
    last = event({"choices": [], "usage": usage})
    streamed = read([chunk(content="hi"), chunk("stop"), last, DONE], EVENT_STREAM)
    body = json.dumps(message(content="hi") | {"usage": usage}).encode()
    assert (streamed.outcome, streamed.tokens) == (OK, tokens)
    assert read([body], JSON, stream=False).tokens == tokens


def test_token_counts_that_are_absent_are_unknown_not_zero() -> None:
    assert read([chunk(content="hi"), DONE], EVENT_STREAM).tokens == Tokens()
    assert read([whole(content="hi")], JSON, stream=False).tokens == Tokens()


def test_the_stamps_are_those_of_the_bytes_with_text() -> None:
    reading = read(
        [
            KEEP_ALIVE,
            chunk(role="assistant", content="", reasoning_content=""),  # 20: no text yet
            chunk(reasoning_content="wh"),  # 30
            chunk(reasoning_content="y"),  # 40
            KEEP_ALIVE,
            chunk(content="because"),  # 60
            chunk(content="."),  # 70
            chunk("stop"),
            usage_chunk({"prompt_tokens": 1}),
            DONE,  # 100
        ],
        EVENT_STREAM,
    )
    assert (reading.first_reasoning, reading.first_answer) == (30, 60)
    assert (reading.last_token, reading.ended) == (70, 100)
    assert (reading.chunks, reading.gaps) == (4, {bucket(10): 2, bucket(20): 1})


def test_text_that_turns_out_to_be_reasoning_takes_its_stamp_along() -> None:
    sent = [chunk(content="wh"), chunk(content="y</think>"), chunk(content="because"), DONE]
    reading = read(sent, EVENT_STREAM)
    assert (reading.first_reasoning, reading.first_answer) == (10, 30)


def test_text_is_counted_by_chunks_not_by_pieces_of_the_network() -> None:
    reading = read([chunk(content="a") + chunk(content="b") + chunk("stop"), DONE], EVENT_STREAM)
    assert (reading.chunks, reading.gaps) == (2, {0: 1})


def test_a_whole_message_is_one_chunk_that_comes_at_its_end() -> None:
    body = whole(reasoning_content="why", content="because")
    reading = read([body[:10], body[10:]], JSON, stream=False)
    assert reading.first_reasoning == reading.first_answer == reading.last_token == 30
    assert (reading.chunks, reading.gaps) == (1, {})


@pytest.mark.parametrize(
    ("names", "read_as"),
    [
        ({"id": "c-1", "model": "m-2"}, ("c-1", "m-2")),
        ({"id": 7, "model": ["m"]}, (None, None)),
        ({"id": "", "model": "x" * 201}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_a_response_is_known_by_the_id_and_the_model_that_it_names(
    names: dict[str, Any], read_as: tuple[str | None, str | None]
) -> None:
    said = names | {"choices": [{"delta": {"content": "a"}, "message": {"content": "a"}}]}
    later: dict[str, Any] = (
        {"id": "other", "model": "other"} | {"choices": []} if read_as[0] else {"choices": []}
    )
    stream = read([event(said), event(later), DONE], EVENT_STREAM)
    body = read([json.dumps(said).encode()], JSON, stream=False)
    assert stream.outcome == body.outcome == OK
    for reading in (stream, body):
        assert (reading.response_id, reading.response_model) == read_as


def test_nothing_counts_after_the_end() -> None:
    reading = Reading(True, EVENT_STREAM)
    reading.feed(chunk(content="hi") + DONE + chunk(content=" there") + b"<html>\n", 10)
    reading.feed(chunk(content="!"), 20)
    reading.close(30)
    assert (reading.outcome, reading.answer, reading.ended) == (OK, "hi", 10)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        ({"code": "rate_limit_exceeded", "message": "sk-secret"}, "error rate_limit_exceeded"),
        ({"code": None, "type": "server_error"}, "error server_error"),
        ({"code": 503, "type": "x"}, "error 503"),
        ({"message": "sk-secret"}, "error object"),
        ("sk-secret", "error object"),
    ],
)
def test_the_detail_of_an_error_names_its_code_and_never_its_text(error: Any, detail: str) -> None:
    assert read([event({"error": error})], EVENT_STREAM).detail == detail
    body = json.dumps({"error": error}).encode()
    assert read([body], JSON, stream=False).detail == detail


@pytest.mark.parametrize(
    "field",
    [
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]},
        {"function_call": {"name": "f", "arguments": "{}"}},
        {"refusal": "no"},
        {"audio": {"id": "a"}},
    ],
    ids=lambda field: next(iter(field)),
)
def test_an_answer_without_text_is_an_answer(field: dict[str, Any]) -> None:
    reading = Reading(True, EVENT_STREAM)
    reading.feed(chunk(role="assistant", **field), 1)
    assert reading.last_token == 1
    reading.feed(chunk("tool_calls") + DONE, 2)
    assert (reading.outcome, reading.answer) == ("ok", "")
    whole_body = Reading(False, JSON)
    whole_body.feed(whole("tool_calls", content=None, **field), 1)
    whole_body.close(2)
    assert whole_body.outcome == "ok"


def test_the_first_chunk_may_come_before_the_first_text() -> None:
    role = event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
    reading = read([KEEP_ALIVE, role, chunk(content="a"), chunk("stop") + DONE], EVENT_STREAM)
    assert (reading.first_chunk, reading.first_answer) == (20, 30)
    assert read([whole("a")], JSON, stream=False).first_chunk is None
    assert read([KEEP_ALIVE, DONE], EVENT_STREAM).first_chunk is None
