"""Response bodies as servers write them."""

from __future__ import annotations

import json
from typing import Any

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def event(payload: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def chunk(finish_reason: str | None = None, **delta: Any) -> bytes:
    """One chunk of a stream: the delta's fields, and why it ends."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event({"object": "chat.completion.chunk", "choices": [choice]})


def usage_chunk(usage: dict[str, Any]) -> bytes:
    """The chunk with the token counts, which has no choice."""
    return event({"object": "chat.completion.chunk", "choices": [], "usage": usage})


def message(finish_reason: str | None = "stop", **fields: Any) -> dict[str, Any]:
    """The whole message of a response that is not streamed."""
    choice = {"index": 0, "message": {"role": "assistant", **fields}}
    return {"object": "chat.completion", "choices": [{**choice, "finish_reason": finish_reason}]}


def whole(finish_reason: str | None = "stop", **fields: Any) -> bytes:
    """That message as bytes."""
    return json.dumps(message(finish_reason, **fields)).encode()


HTML = b"<!doctype html><title>502</title>"

STREAMS: dict[str, list[bytes]] = {
    "ok": [chunk(content="hi"), chunk("stop"), DONE],
    "ok: no [DONE] after the finish reason": [chunk(content="hi"), chunk("stop")],
    "missing_done: no finish reason": [chunk(content="hi")],
    "missing_done while reasoning": [chunk(reasoning_content="hm")],
    "malformed_stream: a line of plain text": [chunk(content="hi"), b"upstream timed out\n"],
    "malformed_stream: plain text at the end": [chunk(content="hi"), b"Bad Gateway"],
    "malformed_stream: a cut chunk": [chunk(content="hi")[:-9] + b"\n\n", DONE],
    "malformed_stream: no object": [event("hi"), DONE],
    "malformed_stream: not UTF-8": [b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n'],
    "malformed_stream: a number for a text": [chunk(content=3), DONE],
    "malformed_stream: too deep": [b"data: " + b'{"id":' * 9999 + b"0" + b"}" * 9999 + b"\n\n"],
    "error_in_stream": [chunk(content="hi"), event({"error": {"code": 503}}), DONE],
    "error_in_stream: as text": [event({"error": "overloaded"}), DONE],
    "error_in_stream: an object that says so": [event({"object": "error", "code": 500}), DONE],
    "error_in_stream: an event that says so": [b"event: error\n" + event({"message": "no"}), DONE],
    "server_error: as finish reason": [chunk(content="hi"), chunk("error"), DONE],
    "blank_body": [],
    "blank_body: blank lines": [b"\n\n", b"\r\n", b"\n"],
    "blank_body: keep-alive comments": [KEEP_ALIVE, KEEP_ALIVE],
    "empty_choices": [event({"choices": []}), DONE],
    "empty_choices: done at once": [DONE],
    "empty_choices: usage only": [usage_chunk({"prompt_tokens": 3}), DONE],
    "empty_answer": [chunk(content=""), chunk("stop"), DONE],
    "empty_answer: blanks": [chunk(content=" \n "), chunk("stop"), DONE],
    "empty_answer: reasoning only": [chunk(reasoning_content="hm"), chunk("stop"), DONE],
    "empty_answer: inline reasoning only": [chunk(content="<think>hm"), chunk("stop"), DONE],
    "truncated": [chunk(content="hi"), chunk("length"), DONE],
    "truncated: while reasoning": [chunk(reasoning_content="hm"), chunk("length"), DONE],
    "insufficient_system_resource": [
        chunk(content="hi"),
        chunk("insufficient_system_resource"),
        DONE,
    ],
    "content_filter": [chunk(content="hi"), chunk("content_filter"), DONE],
}
"""Streams by the outcome that they come to, with what is special about them."""

BODIES: dict[str, tuple[bytes, str]] = {
    "ok": (whole(content="hi"), JSON),
    "ok: reasoning and answer": (whole(content="hi", reasoning_content="hm"), JSON),
    "ok: blank lines while it waited": (b"\n\n \r\n" + whole(content="hi"), JSON),
    "blank_body": (b"", JSON),
    "blank_body: blank lines": (b"\n\r\n\n", JSON),
    "not_json: HTML": (HTML, "text/html"),
    "not_json: HTML that says it is JSON": (HTML, JSON),
    "not_json: text": (b"upstream timed out", "text/plain"),
    "malformed_json: cut": (whole(content="hi")[:-5], JSON),
    "malformed_json: a list": (b"[]", JSON),
    "malformed_json: too deep": (b'{"id":' * 9999 + b"0" + b"}" * 9999, JSON),
    "malformed_json: choices of another shape": (b'{"choices": "none"}', JSON),
    "error_in_body": (b'{"error": {"message": "busy", "type": "overloaded"}}', JSON),
    "error_in_body: an object that says so": (b'{"object": "error", "message": "busy"}', JSON),
    "server_error: as finish reason": (whole("error", content="hi"), JSON),
    "empty_choices": (b'{"choices": []}', JSON),
    "empty_choices: null": (b'{"choices": null, "error": null}', JSON),
    "empty_answer": (whole(content=""), JSON),
    "empty_answer: null": (whole(content=None), JSON),
    "empty_answer: reasoning only": (whole(content="", reasoning_content="hm"), JSON),
    "truncated": (whole("length", content="", reasoning_content="hm"), JSON),
    "insufficient_system_resource": (whole("insufficient_system_resource", content=""), JSON),
    "content_filter": (whole("content_filter", content=None), JSON),
}
"""Whole bodies with their content types, named alike."""


def outcome_of(case: str) -> str:
    """The outcome in the name of a case above."""
    return case.split(maxsplit=1)[0].rstrip(":")
