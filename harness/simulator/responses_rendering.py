"""Renders answers as responses of the Responses API: items, and events that build them up."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.records.schema import Tokens
from harness.simulator.rendering import WholeAnswer
from harness.simulator.request_parser import ChatRequest
from harness.simulator.script import CalledTool, TextChunk

_COMPLETE = ("stop", "tool_calls")
_REASONS = {"length": "max_output_tokens"}


def responses_id(name: str) -> str:
    """Return the id of the response called `name`."""
    return f"resp_{name}"


class _Item:
    """One item of the output: reasoning, a message or a function call."""

    def __init__(self, name: str, index: int, tool: CalledTool | None, *, thinks: bool) -> None:
        self.index = index
        self.text: list[str] = []
        self.tool = tool
        self.thinks = thinks
        prefix = "rs" if thinks else "msg" if tool is None else "fc"
        self.id = f"{prefix}_{name}"

    def as_dict(self, status: str) -> dict[str, Any]:
        """Return the item with its text so far; nothing of it if it has just begun."""
        text = "".join(self.text)
        if self.thinks:
            content = [self.part(text)] if text else []
            return {"id": self.id, "type": "reasoning", "summary": [], "content": content}
        if self.tool is None:
            return {
                "id": self.id,
                "type": "message",
                "role": "assistant",
                "status": status,
                "content": [self.part(text)] if text else [],
            }
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self.tool.id,
            "name": self.tool.name,
            "arguments": text,
        }

    def part(self, text: str) -> dict[str, Any]:
        """Return the only part of a content."""
        if self.thinks:
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class ResponsesRendering:
    """Renders one answer in the Responses API.

    `name`: of the response. `tool`: the tool that the answer calls.
    """

    def __init__(
        self, name: str, created: int, request: ChatRequest, tool: CalledTool | None
    ) -> None:
        self._name, self._created, self._request, self._tool = name, created, request, tool
        self._items: list[_Item] = []
        self._number = -1

    def begin(self) -> bytes:
        """Return the first events, without text."""
        response = self._response("in_progress", None)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def text(self, piece: TextChunk) -> bytes:
        """Return the events for a chunk of text: the beginning of its item, if it is new."""
        before = b""
        if not self._items or self._items[-1].thinks is not piece.is_reasoning:
            before = self._close("completed") + self._open(piece.is_reasoning)
        item = self._items[-1]
        item.text.append(piece.text)
        if item.tool is not None:
            name = "response.function_call_arguments.delta"
            return before + self._item_event(name, item, delta=piece.text)
        name = "response.reasoning_text.delta" if item.thinks else "response.output_text.delta"
        return before + self._text_event(name, item, delta=piece.text)

    def end(self, finish: str, tokens: Tokens) -> bytes:
        """Return the last events: the ends of the item and of the response."""
        status = _status(finish)
        closing = self._close(status)
        response = self._response(status, tokens, finish)
        return closing + self._event(f"response.{status}", response=response)

    def whole(self, answer: WholeAnswer) -> bytes:
        """Return the body of a response that is not streamed."""
        for text, thinks in ((answer.reasoning, True), (answer.text, False)):
            if text:
                self._open(thinks)
                self._items[-1].text.append(text)
        status = _status(answer.finish)
        response = self._response(status, answer.tokens, answer.finish)
        return msgspec.json.encode(response)

    def _open(self, thinks: bool) -> bytes:
        tool = None if thinks else self._tool
        item = _Item(self._name, len(self._items), tool, thinks=thinks)
        self._items.append(item)
        added = self._event(
            "response.output_item.added",
            output_index=item.index,
            item=item.as_dict("in_progress"),
        )
        if tool is not None:
            return added
        part = item.part("")
        return added + self._item_event(
            "response.content_part.added", item, content_index=0, part=part
        )

    def _close(self, status: str) -> bytes:
        if not self._items:
            return b""
        item = self._items[-1]
        text = "".join(item.text)
        if item.tool is not None:
            name = "response.function_call_arguments.done"
            ends = self._item_event(name, item, name=item.tool.name, arguments=text)
        else:
            name = "response.reasoning_text.done" if item.thinks else "response.output_text.done"
            ends = self._text_event(name, item, text=text)
            ends += self._item_event(
                "response.content_part.done", item, content_index=0, part=item.part(text)
            )
        return ends + self._event(
            "response.output_item.done", output_index=item.index, item=item.as_dict(status)
        )

    def _output(self, status: str) -> list[dict[str, Any]]:
        """Return the items; only the last one can be incomplete."""
        last = len(self._items) - 1
        return [item.as_dict(status if item.index == last else "completed") for item in self._items]

    def _text_event(self, kind: str, item: _Item, /, **fields: Any) -> bytes:
        if not item.thinks:
            fields["logprobs"] = []
        return self._item_event(kind, item, content_index=0, **fields)

    def _item_event(self, kind: str, item: _Item, /, **fields: Any) -> bytes:
        return self._event(kind, item_id=item.id, output_index=item.index, **fields)

    def _event(self, kind: str, /, **fields: Any) -> bytes:
        self._number += 1
        data = {"type": kind, "sequence_number": self._number, **fields}
        return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"

    def _response(self, status: str, tokens: Tokens | None, finish: str = "") -> dict[str, Any]:
        form, reason = self._request.form, _REASONS.get(finish, finish)
        assert form is not None, "the API is not that of chat completions"
        tools = [
            {
                "type": "function",
                "name": tool.name,
                "parameters": msgspec.Raw(tool.parameters),
                "strict": None,
            }
            for tool in form.tools
        ]
        return {
            "id": responses_id(self._name),
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "model": self._request.model,
            "output": self._output(status),
            "parallel_tool_calls": False,
            "tool_choice": form.choice,
            "tools": tools,
            "max_output_tokens": self._request.max_tokens,
            "metadata": {"simulated": "true"},
            "usage": None if tokens is None else _usage(tokens),
        }


def _status(finish: str) -> str:
    return "completed" if finish in _COMPLETE else "incomplete"


def _usage(tokens: Tokens) -> dict[str, Any]:
    given, output = tokens.input or 0, tokens.output or 0
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": tokens.cached or 0, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning or 0},
        "total_tokens": given + output,
    }
