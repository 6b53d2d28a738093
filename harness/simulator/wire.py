"""The messages of the OpenAI-compatible API, in DeepSeek's variant (api-docs.deepseek.com)."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.records.provider_log import SIMULATED_HEADER
from harness.records.schema import Tokens
from harness.simulator.rendering import WholeAnswer
from harness.simulator.script import CalledTool, TextChunk

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


class ChatRendering:
    """Renders one answer in the chat completions API. Constant parts of events are encoded once.

    `tool`: the tool that the answer calls; the text of the answer is then its arguments. `reasons`:
    whether the answer has reasoning. `reports_usage`: whether a stream ends with the token counts.
    """

    __slots__ = (
        "_answer", "_answer_end", "_bare", "_created", "_head", "_id", "_is_begun", "_model",
        "_reasoning", "_reasons", "_reports_usage", "_tool",
    )  # fmt: skip

    def __init__(
        self,
        response_id: str,
        created: int,
        model: str,
        tool: CalledTool | None,
        *,
        reasons: bool,
        reports_usage: bool,
    ) -> None:
        self._id, self._created, self._model = response_id, created, model
        self._tool, self._is_begun, self._reports_usage = tool, False, reports_usage
        head = {"id": response_id, "object": "chat.completion.chunk", "created": created}
        head |= {"model": model, "system_fingerprint": FINGERPRINT}
        self._bare = b"data: " + encode(head)[:-1]
        self._head = self._bare + b',"choices":[{"index":0,"delta":'
        other = b',"reasoning_content":null' if reasons else b""
        self._answer = self._head + b'{"content":'
        self._reasoning = self._head + b'{"content":null,"reasoning_content":'
        self._answer_end = other + _OPEN_END
        self._reasons = reasons

    def begin(self) -> bytes:
        """Return the first event, without text."""
        empty = b'"content":null,"reasoning_content":""' if self._reasons else b'"content":""'
        return self._head + b'{"role":"assistant",' + empty + _OPEN_END

    def text(self, piece: TextChunk) -> bytes:
        """Return an event with text of the reasoning or of the answer."""
        if piece.is_reasoning:
            return self._reasoning + encode(piece.text) + _OPEN_END
        if self._tool is not None:
            return self._arguments(self._tool, piece.text)
        return self._answer + encode(piece.text) + self._answer_end

    def _arguments(self, tool: CalledTool, arguments: str) -> bytes:
        """Return an event with arguments of the tool call; the first one names the tool."""
        call: dict[str, Any] = {"index": 0, "function": {"arguments": arguments}}
        if not self._is_begun:
            self._is_begun = True
            call = {"index": 0, **_call(tool, arguments)}
        return self._head + b'{"tool_calls":' + encode([call]) + self._answer_end

    def end(self, finish: str, tokens: Tokens) -> bytes:
        """Return the last events: the finish reason and the token counts."""
        last = self._answer + b'""},"finish_reason":' + encode(finish) + b"}]}\n\n"
        if not self._reports_usage:
            return last + DONE
        counts = self._bare + b',"choices":[],"usage":' + encode(usage(tokens)) + b"}\n\n"
        return last + counts + DONE

    def whole(self, answer: WholeAnswer) -> bytes:
        """Return the body of a response that is not streamed."""
        tool, tokens = self._tool, answer.tokens
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text if tool is None else None,
        }
        if tokens.reasoning:
            message["reasoning_content"] = answer.reasoning
        if tool is not None:
            message["tool_calls"] = [_call(tool, answer.text)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
        return encode(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": self._model,
                "system_fingerprint": FINGERPRINT,
                "choices": [choice],
                "usage": usage(tokens),
            }
        )


def _call(tool: CalledTool, arguments: str) -> dict[str, Any]:
    function = {"name": tool.name, "arguments": arguments}
    return {"id": tool.id, "type": "function", "function": function}


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
