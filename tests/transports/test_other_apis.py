"""Responses of the Responses API and the embeddings API, as servers write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.engine.effects import ToolCall
from harness.transports.other_apis import has_text, is_read, translator_of
from harness.transports.reading import Reading
from tests.transports.bodies import DONE, EVENT_STREAM, JSON, KEEP_ALIVE

USAGE = {
    "input_tokens": 9, "output_tokens": 7, "total_tokens": 16,
    "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "Because"}]}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
REASONING = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}


def response(status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"id": "r1", "object": "response", "model": "m1", "status": status, **fields}


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}).encode()
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def end(kind: str = "completed", **fields: Any) -> bytes:
    return event(f"response.{kind}", response=response(kind, usage=USAGE, **fields))


def text(delta: str, kind: str = "output_text") -> bytes:
    return event(f"response.{kind}.delta", delta=delta, output_index=0)


def arguments(delta: str, index: int = 0) -> bytes:
    return event("response.function_call_arguments.delta", delta=delta, output_index=index)


def item(kind: str, value: dict[str, Any], index: int = 0) -> bytes:
    return event(f"response.output_item.{kind}", item=value, output_index=index)


def read(pieces: list[bytes], path: str = "/v1/responses", whole: bool = False) -> Reading:
    kind = JSON if whole else EVENT_STREAM
    reading = Reading(not whole, kind, translator=translator_of(path))
    for number, piece in enumerate(pieces):
        reading.feed(piece, 10 * (number + 1))
    reading.close(1000)
    return reading


CREATED = event("response.created", response=response("in_progress", output=[]))


def test_a_stream_is_read_to_its_last_event() -> None:
    reading = read([CREATED, text("Hm", "reasoning_text"), text("Be"), text("cause"), end()])
    assert (reading.outcome, reading.finish_reason, reading.ended) == ("ok", "stop", 50)
    assert (reading.reasoning, reading.answer) == ("Hm", "Because")
    assert (reading.first_chunk, reading.first_reasoning, reading.first_answer) == (10, 20, 30)
    assert (reading.last_token, reading.chunks, sum(reading.gaps.values())) == (40, 3, 2)
    assert (reading.response_id, reading.response_model) == ("r1", "m1")
    tokens = reading.tokens
    assert (tokens.input, tokens.cached, tokens.output, tokens.reasoning) == (9, 4, 7, 2)
    assert reading.anomalies == ()


def test_function_calls_are_put_together() -> None:
    begun = {**CALL, "arguments": ""}
    other = {**CALL, "call_id": "c2", "name": "g"}
    reading = read(
        [
            CREATED, item("added", begun), arguments('{"a"'), arguments(":1}"),
            item("done", CALL), item("added", {**other, "arguments": ""}, 1),
            item("done", other, 1), end(output=[CALL, other]),
        ]
    )  # fmt: skip
    assert reading.tool_calls == (ToolCall("c1", "f", '{"a":1}'), ToolCall("c2", "g", '{"a":1}'))
    assert (reading.outcome, reading.finish_reason) == ("ok", "tool_calls")
    assert (reading.first_answer, reading.chunks) == (30, 3)


def test_a_whole_response_is_read() -> None:
    body = response(output=[REASONING, MESSAGE, CALL], usage=USAGE)
    reading = read([json.dumps(body).encode()], whole=True)
    assert (reading.outcome, reading.finish_reason) == ("ok", "tool_calls")
    assert (reading.reasoning, reading.answer) == ("Hm", "Because")
    assert reading.tool_calls == (ToolCall("c1", "f", '{"a":1}'),)
    assert reading.tokens.output == 7
    assert reading.anomalies == ()


CALL_OF_SERVER = {"type": "web_search_call", "id": "w1", "status": "completed"}
CUT = {"incomplete_details": {"reason": "max_output_tokens"}}


@pytest.mark.parametrize(
    ("outcome", "pieces"),
    [
        ("ok", [end(output=[MESSAGE])]),
        ("ok", [text("no", "refusal"), end()]),
        ("ok", [item("done", CALL_OF_SERVER), end()]),
        ("ok", [KEEP_ALIVE, text("a"), end(), DONE]),
        ("ok", [text("a").partition(b"\n")[2], end().partition(b"\n")[2]]),
        ("truncated", [text("a"), end("incomplete", **CUT)]),
        ("content_filter", [end("incomplete", incomplete_details={"reason": "content_filter"})]),
        ("error_in_stream", [text("a"), end("failed", error={"code": "server_error"})]),
        ("error_in_stream", [text("a"), event("error", code="overloaded", message="no")]),
        ("error_in_stream", [event("error", message="no").partition(b"\n")[2]]),
        ("error_in_stream", [end("failed")]),
        ("aborted", [text("a"), end("cancelled", output=[MESSAGE])]),
        ("missing_done", [CREATED, text("a")]),
        ("empty_answer", [CREATED, end(output=[])]),
        ("empty_answer", [text("a", "reasoning_text"), end(output=[REASONING])]),
        ("malformed_stream", [text("a"), b"data: {cut\n\n"]),
        ("malformed_stream", [b'event: response.created\ndata: ["a"]\n\n']),
        ("blank_body", []),
    ],
)
def test_a_stream_has_an_outcome(outcome: str, pieces: list[bytes]) -> None:
    assert read(pieces).outcome == outcome


@pytest.mark.parametrize(
    ("outcome", "body"),
    [
        ("ok", response("queued", output=[])),
        ("truncated", response("incomplete", output=[MESSAGE], **CUT)),
        ("error_in_body", response("failed", output=[], error={"code": "server_error"})),
        ("error_in_body", {"error": {"code": "overloaded"}}),
        ("empty_answer", response(output=[])),
        ("empty_choices", {"choices": []}),
        ("empty_choices", response(output=None)),
        ("malformed_json", [1]),
    ],
)
def test_a_whole_response_has_an_outcome(outcome: str, body: Any) -> None:
    assert read([json.dumps(body).encode()], whole=True).outcome == outcome


@pytest.mark.parametrize(
    ("outcome", "body"),
    [
        ("ok", {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}),
        ("ok", {"data": [{"embedding": "AAAA"}]}),
        ("empty_choices", {"data": []}),
        ("empty_choices", {"data": [{"embedding": []}]}),
        ("error_in_body", {"error": {"code": 503}}),
        ("malformed_json", "no"),
    ],
)
def test_vectors_have_an_outcome(outcome: str, body: Any) -> None:
    reading = read([json.dumps(body).encode()], "/v1/embeddings", whole=True)
    assert reading.outcome == outcome if isinstance(body, dict) else reading.outcome == "not_json"
    if outcome == "ok":
        assert (reading.last_token, reading.anomalies) == (None, ())
        if "usage" in body:
            assert (reading.tokens.input, reading.tokens.output) == (3, 0)


def test_a_path_says_what_is_read() -> None:
    paths = ("/v1/chat/completions", "/openai/v1/responses", "/v1/embeddings", "/v1/models")
    assert list(map(is_read, paths)) == [True, True, True, False]
    assert list(map(has_text, paths)) == [True, True, False, True]
    assert translator_of(paths[0]) is None
