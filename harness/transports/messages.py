"""Decodes one message of a chat completion, also one that deviates from the API.

Most messages are decoded by msgspec into a fixed shape. One that does not fit is decoded again as
any JSON, and its content may then be a list of parts. What deviates is noted as an anomaly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec


class MessageText(msgspec.Struct):
    """The fields of a delta or message that have text, or stand for an answer without text."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: Any = None
    reasoning_text: Any = None
    thinking: Any = None
    thinking_content: Any = None
    thinking_blocks: Any = None
    thought: Any = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None
    audio: Any = None


class Choice(msgspec.Struct):
    """One of the answers."""

    delta: MessageText | None = None
    message: MessageText | None = None
    finish_reason: str | None = None
    index: Any = None
    usage: Any = None


class ResponseMessage(msgspec.Struct):
    """A chunk of a stream, or a whole response."""

    choices: list[Choice] | None = None
    usage: Any = None
    id: Any = None
    model: Any = None
    error: Any = None
    object: Any = None
    code: Any = None
    type: Any = None


class UnreadableError(Exception):
    """The bytes are no message; the text says why."""


decode_plain = msgspec.json.Decoder(ResponseMessage).decode
"""Decodes a message that has exactly the shape of the API; raises one of `FAILURES` for others."""
_LONGEST_NAME = 200
STREAM_FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)
"""Exceptions for JSON that is broken, has the wrong shape, or is nested too deeply."""

_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NESTING = re.compile(rb'"(?:[^"\\]++|\\.)*+"|([\[{])|([\]}])', re.DOTALL)
_SOURCES = ("content", "text", "thinking", "reasoning", "summary", "reasoning_content", "value")
"""The fields of a part that may hold its text, the most likely one first."""
_TEXTS = (None, "text", "output_text")
_REASONING = ("think", "thought", "reason", "analysis")


def decode(payload: bytes, nesting: int) -> tuple[ResponseMessage, Sequence[str]]:
    """Decode a message of at most `nesting` levels; return it and the anomalies of its JSON.

    Raises UnreadableError if it is no message.
    """
    _check_nesting(payload, nesting)
    try:
        return decode_plain(payload), ()
    except STREAM_FAILURES:
        value, anomalies = _read_json(payload)
    fields = _fields(value)
    choices = [_choice(one, anomalies) for one in _list(fields.pop("choices", None))]
    return ResponseMessage(choices=choices, **fields), anomalies


def read_json(payload: bytes, nesting: int) -> tuple[Any, list[str]]:
    """Decode any JSON of at most `nesting` levels; return it and its anomalies.

    Raises UnreadableError.
    """
    _check_nesting(payload, nesting)
    return _read_json(payload)


def _read_json(payload: bytes) -> tuple[Any, list[str]]:
    try:
        return msgspec.json.decode(payload), []
    except STREAM_FAILURES:
        anomalies = ["surrogate" if _ESCAPED_SURROGATE.search(payload) else "not_quite_json"]
    try:
        return json.loads(payload.decode()), anomalies
    except STREAM_FAILURES:
        raise UnreadableError("JSON that cannot be read") from None


def _check_nesting(payload: bytes, nesting: int) -> None:
    # So deep a message is at least twice as long, as each level has two brackets.
    if len(payload) > 2 * nesting and _is_deeper(payload, nesting):
        raise UnreadableError(f"JSON with more than {nesting} levels")


def _is_deeper(payload: bytes, nesting: int) -> bool:
    if payload.count(b"{") + payload.count(b"[") <= nesting:
        return False
    depth = 0
    for match in _NESTING.finditer(payload):
        if match[1]:
            depth += 1
            if depth > nesting:
                return True
        elif match[2]:
            depth -= 1
    return False


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a message."""
    if not isinstance(value, dict):
        raise UnreadableError("JSON that is no object")
    return {name: value[name] for name in ResponseMessage.__struct_fields__ if name in value}


def _list(value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise UnreadableError("choices that are no list")
    return value or []


def _choice(value: Any, anomalies: list[str]) -> Choice:
    if not isinstance(value, dict):
        raise UnreadableError("a choice that is no object")
    finish = value.get("finish_reason")
    if finish is not None and not isinstance(finish, str):
        anomalies.append("unknown_shape")
        finish = str(finish) if finish else None
    return Choice(
        delta=_text(value.get("delta"), anomalies),
        message=_text(value.get("message"), anomalies),
        finish_reason=finish,
        index=value.get("index"),
        usage=value.get("usage"),
    )


def _text(value: Any, anomalies: list[str]) -> MessageText | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise UnreadableError("a text that is no object")
    fields = {name: value[name] for name in MessageText.__struct_fields__ if name in value}
    for name in ("reasoning_content", "reasoning"):
        if not isinstance(fields.get(name, ""), str | None):
            fields["reasoning_details"] = fields.pop(name)
    content = fields.get("content")
    if not isinstance(content, str | None):
        fields["content"] = None
        _add_parts(fields, content if isinstance(content, list) else [content], anomalies)
    return MessageText(**fields)


def _add_parts(fields: dict[str, Any], parts: list[Any], anomalies: list[str]) -> None:
    """Add the texts of a content that is a list of parts."""
    reasoning: list[Any] = []
    answer: list[str] = []
    for part in parts:
        if isinstance(part, str):
            answer.append(part)
        elif not isinstance(part, dict):
            raise UnreadableError("a content that is no text")
        elif _is_reasoning(part):
            reasoning.append(part)
        elif text := plain_text(part):
            answer.append(text)
            if part.get("type") not in _TEXTS:
                anomalies.append("unknown_shape")
        elif part.get("type") not in _TEXTS:
            fields["tool_calls"] = fields.get("tool_calls") or [part]
    fields["content"] = "".join(answer)
    if reasoning and not fields.get("reasoning_content"):
        fields["reasoning_content"] = plain_text(reasoning) or None
        fields["reasoning_details"] = reasoning


def _is_reasoning(part: dict[str, Any]) -> bool:
    kind = str(part.get("type", "")).lower()
    return part.get("thought") is True or any(word in kind for word in _REASONING)


def plain_text(value: Any) -> str:
    """Return the text of a part, a list of parts or a text; empty if there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(plain_text, value))
    if isinstance(value, dict):
        return next((text for name in _SOURCES if (text := plain_text(value.get(name)))), "")
    return ""


def whole_pairs(text: str) -> str:
    """Join the halves of surrogate pairs; replace single halves, which cannot be written."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def other_reasoning(text: MessageText) -> Any:
    """Return reasoning in a rare field; nothing if there is none."""
    return (
        text.reasoning_details
        or text.thinking
        or text.thinking_content
        or text.thought
        or text.reasoning_text
        or text.thinking_blocks
    )


def name_of(value: Any) -> str | None:
    """Return a name of limited length; None for anything else."""
    is_name = isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()
    return value if is_name else None


def printable_text(reason: str) -> str:
    """Return a finish reason as it can be shown."""
    return reason if len(reason) <= _LONGEST_NAME and reason.isprintable() else ascii(reason[:60])


def error_text(message: ResponseMessage) -> str:
    """Return the code or type of an error, never the free text of the server."""
    error = message.error
    fields = error if isinstance(error, dict) else {"code": message.code, "type": message.type}
    for value in (fields.get("code"), fields.get("type")):
        if isinstance(value, str | int) and value:
            return f"error {str(value)[:60]}"
    return "error object"
