"""Requests that programs send themselves, and the responses that they get, in virtual time."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from harness.engine.effects import Reply, Request
from harness.simulator import wire
from harness.simulator.answer_form import PATHS, ApiName
from harness.simulator.apis import make_rendering, read_request
from harness.simulator.rendering import Rendering, WholeAnswer
from harness.simulator.request_parser import (
    BadRequestError,
    ChatRequest,
    parse_chat,
    read_object,
)
from harness.simulator.script import CalledTool, TextChunk


class RenderedResponse(NamedTuple):
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes


def read_sent(request: Request, model: str, stream: bool, phase: str | None) -> ChatRequest:
    """Read a request with a body as the provider reads it over HTTP. Raises BadRequestError.

    `model` and `stream`: of a request whose body has only further keys.
    """
    if request.path is not None:
        return read_request(_api(request.path), request.body, phase)
    messages = [
        {"role": one.role, "content": one.content, "reasoning_content": one.reasoning}
        for one in request.messages
    ]
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": stream}
    body["stream_options"] = {"include_usage": True}
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.json_mode:
        body["response_format"] = {"type": "json_object"}
    return parse_chat(body | read_object(request.body), phase)


def render_reply(path: str, body: bytes, reply: Reply, created: int = 0) -> RenderedResponse:
    """Return the response that a program gets which has sent `body` to `path`.

    `path`: below the base URL, as in `/chat/completions`. `reply`: of its last attempt, either a
    complete response or a refusal; so `reply.status` is not None. `created`: in seconds since 1970.
    """
    assert reply.status is not None, "there is a response"
    if reply.status >= 300:
        kind = "invalid_request_error" if reply.status < 500 else "server_error"
        error = wire.error_body(f"{reply.detail} (simulated)", kind, reply.outcome)
        return RenderedResponse(reply.status, dict(wire.JSON_HEADERS), error)
    request = read_request(_api(path), body, None)
    tool = text = None
    if reply.tool_calls:
        (call,) = reply.tool_calls
        tool, text = CalledTool(call.id, call.name), call.arguments
    answer = WholeAnswer(
        reply.reasoning,
        reply.answer if text is None else text,
        reply.finish_reason or "stop",
        reply.tokens,
    )
    name = re.split("[-_]", reply.response_id or "0" * 16)[-1]
    rendering = make_rendering(request, name, created, tool, reasons=bool(answer.reasoning))
    if not request.stream:
        return RenderedResponse(200, dict(wire.JSON_HEADERS), rendering.whole(answer))
    return RenderedResponse(200, dict(wire.STREAM_HEADERS), _streamed(rendering, answer))


def _streamed(rendering: Rendering, answer: WholeAnswer) -> bytes:
    """Return a stream with the whole reasoning and the whole text in one chunk each."""
    output, reasoning = answer.tokens.output or 0, answer.tokens.reasoning or 0
    pieces = [
        TextChunk(answer.reasoning, reasoning, True),
        TextChunk(answer.text, output - reasoning, False),
    ]
    texts = [rendering.text(piece) for piece in pieces if piece.text]
    return b"".join([rendering.begin(), *texts, rendering.end(answer.finish, answer.tokens)])


def _api(path: str) -> ApiName:
    api = PATHS.get(path)
    if api is None:
        raise BadRequestError(f"no such path: {path}; try {', '.join(PATHS)}")
    return api
