"""Parses one response: from bytes and arrival times to time stamps, texts and an outcome.

This module does no input or output. The transports feed it bytes with their arrival times. It
distinguishes all failures of a response with status 200. The format is that of the OpenAI chat
completions API. Servers send reasoning in `reasoning_content`, in `reasoning`, or in `<think>`
inside the content; all three are supported. Tool calls, refusals and audio count as an answer, so
that they end the wait for the first text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from harness.records.failures import OK
from harness.records.histogram import Histogram, bucket
from harness.records.schema import NO_TOKENS, Tokens
from harness.transports.sse import Data, EventDecoder, Stray
from harness.transports.think_tags import ThinkSplitter


class _Text(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None
    audio: Any = None


class _Choice(msgspec.Struct):
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Message(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    id: Any = None
    model: Any = None
    error: Any = None
    object: Any = None
    code: Any = None
    type: Any = None


_decode = msgspec.json.Decoder(_Message).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Exceptions for JSON that is broken, has the wrong shape, or is nested too deeply."""

_BY_FINISH_REASON = {
    "length": "truncated",
    "content_filter": "content_filter",
    "insufficient_system_resource": "insufficient_system_resource",
}

_LONGEST_NAME = 200
_BLANK = "200 with nothing in it"
_STREAM_BEGINS = (b"data:", b":", b"event:", b"id:", b"retry:", b"\xef\xbb\xbf")


class Reading:
    """A response body that is being read. `ended`: when its outcome was known.

    `complete`: the response is complete, though it may be a failure. `stream`: whether a stream was
    requested; the content type and the bytes decide what the body is.
    """

    def __init__(self, stream: bool, content_type: str) -> None:
        self.first_reasoning: int | None = None
        self.first_answer: int | None = None
        self.last_token: int | None = None
        self.chunks = 0
        self.gaps: Histogram = {}
        self.tokens = NO_TOKENS
        self.finish_reason: str | None = None
        self.response_id: str | None = None
        self.response_model: str | None = None
        self.outcome: str | None = None
        self.detail = ""
        self.ended: int | None = None
        self.complete = False
        self._reasoning: list[str] = []
        self._answer: list[str] = []
        self._saw_choice = False
        self._saw_event = False
        self._separate = False
        self._answered_otherwise = False
        self._splitter = ThinkSplitter()
        self._events = EventDecoder()
        self._body = bytearray()
        self._is_stream: bool | None = None
        if "event-stream" in content_type:
            self._is_stream = True
        elif not stream or "json" in content_type or "html" in content_type:
            self._is_stream = False

    @property
    def reasoning(self) -> str:
        """The reasoning text so far."""
        return "".join(self._reasoning)

    @property
    def answer(self) -> str:
        """The answer text so far."""
        return "".join(self._answer)

    def feed(self, received: bytes, at: int) -> None:
        """Process bytes that arrived at `at`."""
        if self.ended is not None:
            return
        if self._is_stream is None:
            received = self._detect_stream(received)
        if not self._is_stream:
            self._body += received
            return
        for event in self._events.feed(received):
            self._event(event, at)

    def close(self, at: int) -> None:
        """Process the clean end of the body."""
        if self.ended is not None:
            return
        if not self._is_stream:
            self._complete_body(at)
            return
        for event in self._events.end():
            self._event(event, at)
        if not self._saw_event:
            self._fail(at, "blank_body", _BLANK)
        elif self.ended is None:
            self._fail(at, "missing_done", "the stream just ended")

    def _detect_stream(self, received: bytes) -> bytes:
        """Decide by the first bytes; return all bytes so far."""
        received = bytes(self._body) + received
        begin = received.lstrip()
        if begin.startswith(_STREAM_BEGINS):
            self._is_stream = True
        elif not any(known.startswith(begin) for known in _STREAM_BEGINS):
            self._is_stream = False
        self._body.clear()
        return received

    def _event(self, event: Data | Stray, at: int) -> None:
        if self.ended is not None:
            return
        self._saw_event = True
        if isinstance(event, Stray):
            self._fail(at, "malformed_stream", "a line that is no server-sent event")
        elif event.type == b"error":
            self._fail(at, "error_in_stream", "error event")
        elif event.payload[:1] == b"[" and event.payload.strip() == b"[DONE]":
            self._succeed(at)
        else:
            try:
                message = _decode(event.payload)
            except _UNREADABLE:
                self._fail(at, "malformed_stream", "a chunk that cannot be read")
            else:
                self._message(message, at)

    def _message(self, message: _Message, at: int) -> None:
        if message.error or message.object == "error":
            outcome = "error_in_stream" if self._is_stream else "error_in_body"
            self._fail(at, outcome, _error_text(message))
            return
        if self.response_id is None:
            self.response_id, self.response_model = _name(message.id), _name(message.model)
        if message.usage is not None:
            self._note_usage(message.usage)
        for choice in (message.choices or ())[:1]:
            self._saw_choice = True
            if choice.finish_reason is not None:
                self.finish_reason = choice.finish_reason
            text = choice.delta if self._is_stream else choice.message
            if text is not None:
                self._note_text(text, at)

    def _note_text(self, text: _Text, at: int) -> None:
        reasoning = text.reasoning_content or text.reasoning or ""
        answer = text.content or ""
        other = text.tool_calls or text.function_call or text.refusal or text.audio
        if not reasoning and not answer and not other:
            return
        if self.last_token is not None:
            gap = bucket(at - self.last_token)
            self.gaps[gap] = self.gaps.get(gap, 0) + 1
        self.last_token = at
        self.chunks += 1
        if reasoning and not self._separate:
            self._end_splitting(at)
            self._separate = True
        if answer and not self._separate:
            parts = self._splitter.feed(answer)
            if parts.earlier_was_reasoning:
                self._reclassify()
            reasoning, answer = parts.reasoning, parts.answer
        if other:
            self._answered_otherwise = True
        self._keep(reasoning, answer, at)

    def _keep(self, reasoning: str, answer: str, at: int) -> None:
        if reasoning:
            self._reasoning.append(reasoning)
            if self.first_reasoning is None:
                self.first_reasoning = at
        if answer:
            self._answer.append(answer)
            if self.first_answer is None:
                self.first_answer = at

    def _end_splitting(self, at: int) -> None:
        """Add the text that the splitter held back."""
        held = self._splitter.end()
        self._keep(held.reasoning, held.answer, at)

    def _reclassify(self) -> None:
        """Turn the answer so far into reasoning: its opening tag was missing."""
        self._reasoning, self._answer = self._answer, []
        self.first_reasoning, self.first_answer = self.first_answer, None

    def _note_usage(self, usage: _Usage) -> None:
        into, out = usage.prompt_tokens_details, usage.completion_tokens_details
        cached = usage.prompt_cache_hit_tokens
        if cached is None and into is not None:
            cached = into.cached_tokens
        self.tokens = Tokens(
            input=usage.prompt_tokens,
            cached=cached,
            output=usage.completion_tokens,
            reasoning=out.reasoning_tokens if out is not None else None,
        )

    def _complete_body(self, at: int) -> None:
        body = bytes(self._body).strip()
        if not body:
            self._fail(at, "blank_body", _BLANK)
            return
        if body[:1] not in (b"{", b"["):
            self._fail(at, "not_json", "200 with something that is not JSON")
            return
        try:
            message = _decode(body)
        except _UNREADABLE:
            self._fail(at, "malformed_json", "200 with JSON that cannot be read")
            return
        self._message(message, at)
        if self.ended is None:
            self._succeed(at)

    def _succeed(self, at: int) -> None:
        """Set the outcome of a complete response from its finish reason and texts."""
        self.complete = True
        if self.last_token is not None:
            self._end_splitting(self.last_token)
        outcome = _BY_FINISH_REASON.get(self.finish_reason or "")
        if self.finish_reason == "error":
            outcome = "error_in_stream" if self._is_stream else "error_in_body"
        if outcome is not None:
            self._fail(at, outcome, f"finish_reason {self.finish_reason}")
        elif not self._saw_choice:
            self._fail(at, "empty_choices", "a response without a choice")
        elif not self.answer.strip() and not self._answered_otherwise:
            only = "reasoning only" if self._reasoning else "no text at all"
            self._fail(at, "empty_answer", only)
        else:
            self.outcome, self.ended = OK, at

    def _fail(self, at: int, outcome: str, detail: str) -> None:
        self.outcome, self.detail, self.ended = outcome, detail, at


def _name(value: Any) -> str | None:
    """Return a name of limited length; None for anything else."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME else None


def _error_text(message: _Message) -> str:
    """Return the code or type of an error, never the free text of the server."""
    error = message.error
    fields = error if isinstance(error, dict) else {"code": message.code, "type": message.type}
    for value in (fields.get("code"), fields.get("type")):
        if isinstance(value, str | int) and value:
            return f"error {str(value)[:60]}"
    return "error object"
