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
