"""Reads requests of the Responses API: a text or a list of items, functions, and a text format."""

from __future__ import annotations

from typing import Any

from harness.simulator.request_parser import (
    JSON_FORMATS,
    BadRequestError,
    ChatRequest,
    content_text,
    flag,
    make_form,
    make_request,
    max_tokens_of,
    model_of,
    name_and_arguments,
    read_schema,
    read_tools,
)

_UNSUPPORTED = ("previous_response_id", "conversation", "background")


def parse_responses(value: dict[str, Any], phase: str | None) -> ChatRequest:
    """Read a request of the Responses API. Raises BadRequestError."""
    for name in _UNSUPPORTED:
        if value.get(name):
            raise BadRequestError(
                f"{name} is not supported, because no response is kept; send the whole input", name
            )
    messages: list[tuple[str, str]] = []
    instructions = value.get("instructions")
    if isinstance(instructions, str):
        messages.append(("system", instructions))
    items = value.get("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list) or not items:
        raise BadRequestError("input must be a text or a list with at least one item", "input")
    rounds: list[list[tuple[str, str]]] = []
    is_open = False
    for position, item in enumerate(items):
        where = f"input.{position}"
        if not isinstance(item, dict):
            raise BadRequestError("an item must be an object", where)
        kind = item.get("type", "message")
        if kind == "function_call":
            call = name_and_arguments(item, where)
            if not is_open:
                rounds.append([])
            rounds[-1].append(call)
            messages.append(("assistant", "".join(call)))
        elif (message := _message(item, kind, where)) is not None:
            if message[0] == "user":
                rounds.clear()
            messages.append(message)
        is_open = kind == "function_call"
    if not messages:
        raise BadRequestError("input must have a message", "input")
    format = _format(value)
    schema = format.get("schema") if format.get("type") == "json_schema" else None
    schema_json = read_schema(schema, "text.format.schema")
    tools = read_tools(value.get("tools"), None)
    return make_request(
        messages,
        model=model_of(value),
        phase=phase,
        wants_json=format.get("type") in JSON_FORMATS,
        max_tokens=max_tokens_of(value, "max_output_tokens"),
        stream=flag(value, "stream"),
        include_usage=True,
        form=make_form("responses", tools, value.get("tool_choice"), rounds, schema_json),
    )


def _message(item: dict[str, Any], kind: Any, where: str) -> tuple[str, str] | None:
    """Return role and text of an item; None for one without text that counts."""
    if kind == "function_call_output":
        return "tool", content_text(item.get("output"), f"{where}.output")
    if kind == "reasoning":
        thoughts = content_text(item.get("content") or item.get("summary"), where)
        return ("assistant", thoughts) if thoughts else None
    if kind != "message":
        return None
    role = item.get("role")
    if not isinstance(role, str):
        raise BadRequestError("a message must be an object with a role", where)
    return role, content_text(item.get("content"), f"{where}.content")


def _format(value: dict[str, Any]) -> dict[str, Any]:
    text = value.get("text")
    format = text.get("format") if isinstance(text, dict) else None
    return format if isinstance(format, dict) else {}
