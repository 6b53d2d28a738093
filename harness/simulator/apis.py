"""The APIs that serve requests to a model: how each reads a request and renders an answer."""

from __future__ import annotations

from typing import assert_never

from harness.simulator import wire
from harness.simulator.answer_form import ApiName
from harness.simulator.embeddings_api import EmbeddingsRendering, parse_embeddings
from harness.simulator.rendering import Rendering
from harness.simulator.request_parser import ChatRequest, parse_chat, read_object
from harness.simulator.responses_parser import parse_responses
from harness.simulator.responses_rendering import ResponsesRendering, responses_id
from harness.simulator.script import CalledTool


def read_request(api: ApiName, body: bytes, phase: str | None) -> ChatRequest:
    """Read the body of a request to an API. Raises BadRequestError.

    `phase`: the setting of the phase that the client names.
    """
    value = read_object(body)
    match api:
        case "chat":
            return parse_chat(value, phase)
        case "responses":
            return parse_responses(value, phase)
        case "embeddings":
            return parse_embeddings(value, phase)
        case _:
            assert_never(api)


def response_id_of(request: ChatRequest, name: str) -> str | None:
    """Return the id of the response to `request` that is called `name`; None if it has none."""
    match request.api:
        case "chat":
            return wire.completion_id(name)
        case "responses":
            return responses_id(name)
        case "embeddings":
            return None
        case _:
            assert_never(request.api)


def make_rendering(
    request: ChatRequest, name: str, created: int, tool: CalledTool | None, *, reasons: bool
) -> Rendering:
    """Return what renders the answer to a request.

    `name`: of the response. `created`: in seconds since 1970. `tool`: the tool that the answer
    calls. `reasons`: whether it has reasoning.
    """
    match request.api:
        case "chat":
            return wire.ChatRendering(
                wire.completion_id(name),
                created,
                request.model,
                tool,
                reasons=reasons,
                reports_usage=request.include_usage,
            )
        case "responses":
            return ResponsesRendering(name, created, request, tool)
        case "embeddings":
            return EmbeddingsRendering(request)
        case _:
            assert_never(request.api)
