"""Translates the responses of other APIs into messages of chat completions, which are read alike.

A stream of the Responses API is a series of named events, and its last one has the whole response.
A complete response has the finish reason `stop` or `tool_calls`; an incomplete one has its reason.
A response that is made in the background is answered when it is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from harness.transports.messages import (
    Choice,
    MessageText,
    ResponseMessage,
    UnreadableError,
    name_of,
    read_json,
)

_CHAT, _RESPONSES, _EMBEDDINGS = "/chat/completions", "/responses", "/embeddings"
"""The ends of the paths of the APIs."""
_REASONING = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")
_FINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_FINISH = {"max_output_tokens": "length", "max_tokens": "length"}
_IN_BACKGROUND = ("queued", "in_progress")
_TEXT_ITEMS = ("message", "reasoning")


class Translator(Protocol):
    """Translates what one response consists of.

    `is_final`: the last message ended a stream. `is_answered`: there is an answer without text.
    """

    is_final: bool
    is_answered: bool

    def decode(self, payload: bytes, nesting: int) -> tuple[ResponseMessage, Sequence[str]]:
        """Decode an event or a body as `messages.decode` does. Raises UnreadableError."""


def is_read(path: str) -> bool:
    """Return whether the responses to requests to `path` are read; others are passed on."""
    return path.endswith((_CHAT, _RESPONSES, _EMBEDDINGS))


def has_text(path: str) -> bool:
    """Return whether the responses to requests to `path` have text, if they are read."""
    return not path.endswith(_EMBEDDINGS)


def translator_of(path: str) -> Translator | None:
    """Return the translator for responses to requests to `path`; None for chat completions."""
    if path.endswith(_RESPONSES):
        return ResponsesTranslator()
    if path.endswith(_EMBEDDINGS):
        return EmbeddingsTranslator()
    return None


class ResponsesTranslator:
    """Translates one response of the Responses API."""

    def __init__(self) -> None:
        self.is_final = False
        self.is_answered = False
        self._calls_tools = False
        self._has_text = False
        self._begun: dict[Any, dict[str, Any]] = {}  # calls without arguments so far

    def decode(self, payload: bytes, nesting: int) -> tuple[ResponseMessage, Sequence[str]]:
        """Decode an event or a body. Raises UnreadableError."""
        value, anomalies = _read_object(payload, nesting)
        kind = value.get("type")
        if isinstance(kind, str) and value.get("object") != "response":
            return self._event(kind, value), anomalies
        return self._whole(value), anomalies

    def _event(self, kind: str, event: dict[str, Any]) -> ResponseMessage:
        delta = event.get("delta")
        if isinstance(delta, str):
            return self._delta(kind, event, delta)
        if kind in ("response.output_item.added", "response.output_item.done"):
            return self._item(event, is_done=kind.endswith("done"))
        response = event.get("response")
        if kind == "error" or not isinstance(response, dict):
            error = event.get("error") or (event if kind == "error" else None)
            return ResponseMessage(error=error)
        if kind not in _FINAL:
            return ResponseMessage(id=response.get("id"), model=response.get("model"))
        self.is_final = True
        status = kind.removeprefix("response.")
        output = response.get("output") or []  # some servers leave it out here
        message = self._whole({"status": status, **response, "output": output})
        for choice in message.choices or ():
            choice.delta = None if self._has_text else choice.message
            choice.message = None
        return message

    def _delta(self, kind: str, event: dict[str, Any], delta: str) -> ResponseMessage:
        match kind:
            case "response.output_text.delta":
                text = MessageText(content=delta)
            case "response.refusal.delta":
                text = MessageText(refusal=delta)
            case _ if kind in _REASONING:
                text = MessageText(reasoning_content=delta)
            case "response.function_call_arguments.delta":
                index = event.get("output_index")
                call = self._begun.pop(index, {"index": index, "function": {}})
                call["function"]["arguments"] = delta
                self._calls_tools = True
                text = MessageText(tool_calls=[call])
            case _:
                return ResponseMessage()
        self._has_text = True
        return _of_delta(text)

    def _item(self, event: dict[str, Any], *, is_done: bool) -> ResponseMessage:
        """Keep the beginning of a function call; its first arguments are its first text."""
        item, index = event.get("item"), event.get("output_index")
        if not isinstance(item, dict):
            return ResponseMessage()
        if item.get("type") == "function_call":
            if not is_done:
                self._begun[index] = {"index": index, **_call(item)}
                return ResponseMessage()
            if self._begun.pop(index, None) is None:
                return ResponseMessage()
            self._calls_tools = True
            call: dict[str, Any] = {"index": index, **_call(item)}
        elif not is_done or item.get("type") in _TEXT_ITEMS:
            return ResponseMessage()
        else:
            call = item  # of a tool that is not a function
        self._has_text = True
        return _of_delta(MessageText(tool_calls=[call]))

    def _whole(self, response: dict[str, Any]) -> ResponseMessage:
        error = response.get("error")
        if not error and response.get("status") == "failed":
            error = {"code": "failed"}
        message = ResponseMessage(
            usage=response.get("usage"),
            id=response.get("id"),
            model=response.get("model"),
            error=error,
        )
        self.is_answered = response.get("status") in _IN_BACKGROUND
        output = response.get("output")
        if isinstance(output, list) and not error:
            items = [item for item in output if isinstance(item, dict)]
            finish = self._finish(response)
            message.choices = [Choice(message=self._text(items), index=0)]
            message.choices[0].finish_reason = finish or self._complete()
        return message

    def _complete(self) -> str:
        return "tool_calls" if self._calls_tools else "stop"

    @staticmethod
    def _finish(response: dict[str, Any]) -> str | None:
        """Return why a response is not complete; None if it is."""
        status = response.get("status")
        if status in (None, "completed", *_IN_BACKGROUND):
            return None
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        named = name_of(reason) or name_of(status) or "unknown"
        return _FINISH.get(named, named)

    def _text(self, items: list[dict[str, Any]]) -> MessageText | None:
        """Return the texts and tool calls of the output; None if there are none."""
        reasoning, answer, refusals = [], [], []
        calls: list[dict[str, Any]] = []
        for item in items:
            kind = item.get("type")
            if kind == "reasoning":
                reasoning += _texts(item.get("content")) or _texts(item.get("summary"))
            elif kind == "message":
                answer += _texts(item.get("content"))
                refusals += _texts(item.get("content"), "refusal")
            elif kind == "function_call":
                self._calls_tools = True
                calls.append({"index": len(calls), **_call(item)})
            else:
                calls.append(item)
        if not (reasoning or answer or refusals or calls):
            return None
        return MessageText(
            content="".join(answer) or None,
            reasoning_content="".join(reasoning) or None,
            refusal="".join(refusals) or None,
            tool_calls=calls or None,
        )


class EmbeddingsTranslator:
    """Translates one response with vectors: it has a finish reason, `stop`, and no text."""

    is_final = False

    def __init__(self) -> None:
        self.is_answered = False

    def decode(self, payload: bytes, nesting: int) -> tuple[ResponseMessage, Sequence[str]]:
        """Decode a body. Raises UnreadableError."""
        value, anomalies = _read_object(payload, nesting)
        data, usage = value.get("data"), value.get("usage")
        self.is_answered = isinstance(data, list) and any(
            isinstance(one, dict) and one.get("embedding") for one in data
        )
        if isinstance(usage, dict):  # the total is the input, and the output is none
            usage = {**usage, "completion_tokens": 0}
        return ResponseMessage(
            choices=[Choice(finish_reason="stop", index=0)] if self.is_answered else None,
            usage=usage,
            id=value.get("id"),
            model=value.get("model"),
            error=value.get("error"),
        ), anomalies


def _read_object(payload: bytes, nesting: int) -> tuple[dict[str, Any], Sequence[str]]:
    value, anomalies = read_json(payload, nesting)
    if not isinstance(value, dict):
        raise UnreadableError("JSON that is no object")
    return value, anomalies


def _of_delta(text: MessageText) -> ResponseMessage:
    return ResponseMessage(choices=[Choice(delta=text, index=0)])


def _call(item: dict[str, Any]) -> dict[str, Any]:
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    return {"id": item.get("call_id"), "function": function}


def _texts(content: Any, key: str = "text") -> list[str]:
    parts = content if isinstance(content, list) else []
    return [
        part[key] for part in parts if isinstance(part, dict) and isinstance(part.get(key), str)
    ]
