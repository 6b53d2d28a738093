"""The messages of the OpenAI-compatible API, in DeepSeek's variant (api-docs.deepseek.com)."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.records.provider_log import SIMULATED_HEADER
from harness.records.schema import Tokens
from harness.simulator.script import TextChunk

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
BLANK_LINE = b"\n"
_MARK = {SIMULATED_HEADER: "true"}
STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **_MARK,
}  # fmt: skip
JSON_HEADERS = {"content-type": "application/json", **_MARK}
METRICS_HEADERS = {"content-type": "text/plain; version=0.0.4; charset=utf-8", **_MARK}
FINGERPRINT = "simulated"
"""The value of `system_fingerprint`, which marks stored responses as simulated."""

encode = msgspec.json.encode
_OPEN_END = b'},"finish_reason":null}]}\n\n'


def completion_id(name: str) -> str:
    """Return the id of the completion called `name`."""
    return f"chatcmpl-{name}"


def request_id(name: str) -> str:
    """Return the `x-request-id` of the request called `name`."""
    return f"req-{name}"


class Chunks:
    """Encodes the events of one stream. Their constant parts are encoded once."""

    __slots__ = ("_answer", "_answer_end", "_bare", "_head", "_reasoning", "_reasons")

    def __init__(self, name: str, created: int, model: str, reasons: bool) -> None:
        head = {"id": completion_id(name), "object": "chat.completion.chunk", "created": created}
        head |= {"model": model, "system_fingerprint": FINGERPRINT}
        self._bare = b"data: " + encode(head)[:-1]
        self._head = self._bare + b',"choices":[{"index":0,"delta":'
        other = b',"reasoning_content":null' if reasons else b""
        self._answer = self._head + b'{"content":'
        self._reasoning = self._head + b'{"content":null,"reasoning_content":'
        self._answer_end = other + _OPEN_END
        self._reasons = reasons

    def role(self) -> bytes:
        """Return the first event, without text."""
        empty = b'"content":null,"reasoning_content":""' if self._reasons else b'"content":""'
        return self._head + b'{"role":"assistant",' + empty + _OPEN_END

    def text(self, piece: TextChunk) -> bytes:
        """Return an event with text of the reasoning or of the answer."""
        if piece.is_reasoning:
            return self._reasoning + encode(piece.text) + _OPEN_END
        return self._answer + encode(piece.text) + self._answer_end

    def finish(self, reason: str) -> bytes:
        """Return the event with the finish reason."""
        return self._answer + b'""},"finish_reason":' + encode(reason) + b"}]}\n\n"

    def usage(self, tokens: Tokens) -> bytes:
        """Return the event with the token counts, without choices."""
        return self._bare + b',"choices":[],"usage":' + encode(usage(tokens)) + b"}\n\n"


def completion_body(
    name: str, created: int, model: str, reasoning: str, answer: str, finish: str, tokens: Tokens
) -> bytes:
    """Return the body of a response that is not streamed."""
    message = {"role": "assistant", "content": answer}
    if tokens.reasoning:
        message["reasoning_content"] = reasoning
    return encode(
        {
            "id": completion_id(name),
            "object": "chat.completion",
            "created": created,
            "model": model,
            "system_fingerprint": FINGERPRINT,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            ],
            "usage": usage(tokens),
        }
    )


def usage(tokens: Tokens) -> dict[str, Any]:
    """Return token counts in DeepSeek's format."""
    given, cached, output = tokens.input or 0, tokens.cached or 0, tokens.output or 0
    return {
        "prompt_tokens": given,
        "completion_tokens": output,
        "total_tokens": given + output,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning or 0},
        "prompt_cache_hit_tokens": cached,
        "prompt_cache_miss_tokens": given - cached,
    }


def error_body(message: str, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    """Return an error body: https://platform.openai.com/docs/guides/error-codes."""
    return encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def models(name: str) -> bytes:
    """Return the list of models: one, named after the profile."""
    model = {"id": name, "object": "model", "created": 0, "owned_by": "simulated"}
    return encode({"object": "list", "data": [model]})


def metrics(running: int, waiting: int) -> bytes:
    """Return the load in Prometheus' text format."""
    return b"".join(
        b"# HELP %b %b\n# TYPE %b gauge\n%b %d\n" % (name, about, name, name, value)
        for name, about, value in (
            (b"harness_simulator_requests_running", b"Requests in service.", running),
            (b"harness_simulator_requests_waiting", b"Requests that wait for a slot.", waiting),
        )
    )
