"""Requests that programs send themselves, with a path and a whole body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from harness.engine.effects import Message, Reply, Request
from harness.simulator.virtual.requests import render_reply
from tests.virtual.single import Waiting, attempt, blocking, tasks, trial

both = pytest.mark.parametrize("waiting", [blocking, tasks], ids=["sync", "async"])
PROMPT = "What makes the tides?"


def sent(waiting: Waiting, path: str, body: dict[str, Any], **changed: Any) -> tuple[bytes, Reply]:
    content = json.dumps({"model": "m", **body}).encode()
    request = Request((Message("user", PROMPT),), body=content, path=path)
    effect = attempt()
    send = type(effect)(effect.key, effect.attempt, request, effect.deadlines)
    return content, waiting(trial(stream=False, **changed), send)


def events_of(stream: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in stream.splitlines() if b"data: " in line]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


@both
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_whole_body_is_answered_as_the_same_messages_are(waiting: Waiting, stream: bool) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}], "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    _, reply = sent(waiting, "/chat/completions", body)
    plain = waiting(trial(stream=stream), attempt())
    assert (reply.answer, reply.tokens) == (plain.answer, plain.tokens)
    assert (reply.done, reply.gaps, reply.first_chunk) == (
        plain.done, plain.gaps, plain.first_chunk,
    )  # fmt: skip


@both
def test_a_body_that_the_provider_refuses_is_a_bad_request(waiting: Waiting) -> None:
    content, reply = sent(waiting, "/chat/completions", {"messages": []})
    assert (reply.outcome, reply.status, reply.done) == ("bad_request", 400, 0)
    assert "messages must be a list" in (reply.error_body or "")
    refused = render_reply("/chat/completions", content, reply)
    assert refused.status == 400
    assert json.loads(refused.body)["error"]["code"] == "bad_request"
    assert sent(waiting, "/images/generations", {})[1].outcome == "bad_request"


def test_further_keys_are_added_to_the_messages() -> None:
    effect = attempt()
    request = Request((Message("user", PROMPT),), body=b'{"max_tokens": 15}')
    send = type(effect)(effect.key, effect.attempt, request, effect.deadlines)
    reply = blocking(trial(), send)
    assert (reply.outcome, reply.tokens.output) == ("truncated", 15)


def test_a_reply_is_rendered_as_the_response_of_the_sdk() -> None:
    body = {"messages": [{"role": "user", "content": PROMPT}]}
    content, reply = sent(blocking, "/chat/completions", body)
    whole = render_reply("/chat/completions", content, reply, 7)
    completion = ChatCompletion.model_validate_json(whole.body)
    assert completion.choices[0].message.content == reply.answer
    assert (completion.id, completion.created) == (reply.response_id, 7)
    assert completion.usage is not None
    assert completion.usage.completion_tokens == reply.tokens.output

    content, reply = sent(blocking, "/chat/completions", {**body, "stream": True})
    stream = render_reply("/chat/completions", content, reply)
    assert stream.headers["content-type"].startswith("text/event-stream")
    chunks = [ChatCompletionChunk.model_validate(event) for event in events_of(stream.body)]
    deltas = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(deltas) == reply.answer
