"""The APIs that serve requests to a model: how each reads a request and renders an answer."""

from __future__ import annotations

from typing import assert_never

from harness.simulator import wire
from harness.simulator.answer_form import ApiName
from harness.simulator.rendering import Rendering
from harness.simulator.request_parser import ChatRequest, parse_chat, read_object
from harness.simulator.script import CalledTool


def read_request(api: ApiName, body: bytes, phase: str | None) -> ChatRequest:
    """Read the body of a request to an API. Raises BadRequestError.

    `phase`: the setting of the phase that the client names.
    """
    value = read_object(body)
    if api == "chat":
        return parse_chat(value, phase)
    assert_never(api)


def response_id_of(request: ChatRequest, name: str) -> str:
    """Return the id of the response to `request` that is called `name`."""
    return wire.completion_id(name)


def make_rendering(
    request: ChatRequest, response_id: str, created: int, tool: CalledTool | None, *, reasons: bool
) -> Rendering:
    """Return what renders the answer to a request.

    `created`: in seconds since 1970. `tool`: the tool that the answer calls. `reasons`: whether it
    has reasoning.
    """
    return wire.ChatRendering(
        response_id,
        created,
        request.model,
        tool,
        reasons=reasons,
        reports_usage=request.include_usage,
    )
