"""The JSON bodies of requests for chat completions, as an endpoint takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from harness.config.request_settings import RequestSettings, SystemMessages
from harness.engine.effects import Message, Request
from harness.transports.messages import plain_text
from harness.transports.target import Target

_SYSTEM_ROLES = ("system", "developer")


def request_body(target: Target, request: Request) -> dict[str, Any]:
    """Return the body of a request of the harness."""
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [_plain_message(message) for message in request.messages],
        "stream": target.stream,
    }
    if target.stream:
        body["stream_options"] = {"include_usage": True}
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.json_mode:
        body["response_format"] = {"type": "json_object"}
    if request.body:
        body.update(msgspec.json.decode(request.body))
    return adapted(body, target.request, target.extra_body)


def adapted(
    body: dict[str, Any], settings: RequestSettings, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a body with what `[endpoint]` says of bodies; `extra`: keys that are added."""
    if settings.system != "message" and isinstance(body.get("messages"), list):
        body = {**body, "messages": with_system(body["messages"], settings.system)}
    if settings.omit or settings.rename:
        body = {
            settings.rename.get(key, key): value
            for key, value in body.items()
            if key not in settings.omit
        }
    return body | dict(extra)


def _plain_message(message: Message) -> dict[str, str]:
    plain = {"role": message.role, "content": message.content}
    return plain | {"reasoning_content": message.reasoning} if message.reasoning else plain


def with_system(messages: Iterable[Any], system: SystemMessages) -> list[Any]:
    """Return messages with system prompts as the endpoint takes them.

    `user`: a system prompt goes to the beginning of the next message of the user, or becomes one.
    """
    if system == "message":
        return list(messages)
    sent: list[Any] = []
    held: list[str] = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role in _SYSTEM_ROLES:
            held.append(plain_text(message.get("content")))
        elif role == "user" and held and system == "user":
            sent.append({**message, "content": _begun(message.get("content"), held)})
            held.clear()
        else:
            sent.append(message)
    if held and system == "user":
        sent.append({"role": "user", "content": "\n\n".join(held)})
    return sent


def _begun(content: Any, texts: list[str]) -> Any:
    """Return the content of a message, a text or a list of parts, with texts at its beginning."""
    if isinstance(content, list):
        return [{"type": "text", "text": "\n\n".join(texts)}, *content]
    return "\n\n".join([*texts, content or ""])
