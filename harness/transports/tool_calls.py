"""Assembles the tool calls of a response, which a stream gives in parts."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.engine.effects import ToolCall


class ToolCallReader:
    """The tool calls of one response so far.

    A part belongs to the call with its index. Without an index, or with an id that the call with
    this index does not have, a part with an id begins a call, and another one goes on with the
    last.
    """

    def __init__(self) -> None:
        self._calls: list[_OpenCall] = []
        self._by_index: dict[int, _OpenCall] = {}

    def note(self, tool_calls: Any, function_call: Any) -> int:
        """Add parts of a delta or message; return the number of characters of their arguments.

        `function_call`: the only call of a response, in the older form.
        """
        parts = tool_calls if isinstance(tool_calls, list) else []
        if not parts and isinstance(function_call, dict):
            parts = [{"index": 0, "function": function_call}]
        return sum(self._add(part) for part in parts if isinstance(part, dict))

    def _add(self, part: dict[str, Any]) -> int:
        function = part.get("function")
        if not isinstance(function, dict):
            return 0  # a tool that is not a function
        name, arguments = _text(function.get("name")), function.get("arguments")
        call = self._call_of(part.get("index"), _text(part.get("id")))
        call.name = call.name or name
        if isinstance(arguments, dict | list):  # as some servers send them
            arguments = msgspec.json.encode(arguments).decode()
        if not isinstance(arguments, str):
            return 0
        call.arguments.append(arguments)
        return len(arguments)

    def _call_of(self, index: Any, identity: str) -> _OpenCall:
        call = self._by_index.get(index) if isinstance(index, int) else None
        if call is None and not isinstance(index, int) and not identity and self._calls:
            call = self._calls[-1]
        if call is not None and (not identity or call.id in ("", identity)):
            call.id = call.id or identity
            return call
        call = _OpenCall(identity)
        self._calls.append(call)
        if isinstance(index, int):
            self._by_index[index] = call
        return call

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the calls so far."""
        return tuple(ToolCall(call.id, call.name, "".join(call.arguments)) for call in self._calls)


class _OpenCall:
    def __init__(self, identity: str) -> None:
        self.id = identity
        self.name = ""
        self.arguments: list[str] = []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
