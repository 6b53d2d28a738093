"""Parses one response: from bytes and arrival times to time stamps, texts and an outcome.

This module does no input or output. The transports feed it bytes with their arrival times. It
distinguishes all failures of a response with status 200. The format is that of the OpenAI chat
completions API; responses of other APIs are translated into it (`other_apis`). Servers send
reasoning in fields of its own, in parts of the content, or between marks in the content; all are
supported. Tool calls, refusals and audio count as an answer, so that they end the wait for the
first text; the first part of a tool call is the first answer. What deviates from the API and can
still be read is noted as an anomaly (`records.anomalies`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from operator import sub
from typing import Any

from harness.config.response_reading import DEFAULT_TERMS, ReadingTerms
from harness.engine.effects import ToolCall
from harness.records.failures import OK
from harness.records.histogram import Histogram, add_all, bucket
from harness.records.schema import NO_TOKENS
from harness.transports.finish_reasons import outcome_of_finish
from harness.transports.framed_chunks import LONGEST_COLLECTED
from harness.transports.messages import (
    STREAM_FAILURES,
    MessageText,
    ResponseMessage,
    UnreadableError,
    decode,
    decode_plain,
    error_text,
    name_of,
    other_reasoning,
    plain_text,
    printable_text,
    whole_pairs,
)
from harness.transports.other_apis import Translator
from harness.transports.plain_chunks import PlainChunks, text_of_parts
from harness.transports.reasoning_tags import ReasoningSplitter
from harness.transports.sse import Data, EventDecoder, Stray
from harness.transports.token_usage import TokenUsage
from harness.transports.tool_calls import ToolCallReader

_LONGEST_DETAIL = 80
_BLANK = "200 with nothing in it"
_BOM = b"\xef\xbb\xbf"
_STREAM_BEGINS = (b"data:", b":", b"event:", b"id:", b"retry:")
_DONE = (b"[DONE]", b'"[DONE]"')
_PINGS = (b"ping", b"heartbeat", b"keep-alive", b"keepalive")
_FIELD = re.compile(rb"[A-Za-z][\w-]*:")
_MOST_BLANKS = 64 * 1024
"""A body that begins with more blanks is taken for what its content type says."""


class Reading:
    """A response body that is being read. `ended`: when its outcome was known.

    `complete`: the response is complete, though it may be a failure. `stream`: whether a stream was
    requested; the bytes decide what the body is. `tokens` are known when it has ended.
    `translator`: for a response of another API than chat completions.
    """

    def __init__(
        self,
        stream: bool,
        content_type: str,
        terms: ReadingTerms = DEFAULT_TERMS,
        translator: Translator | None = None,
    ) -> None:
        self.first_chunk: int | None = None
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
        self._terms = terms
        limits = terms.limits
        self._nesting = limits.nesting
        self._most_bytes, self._longest_event, self._most_text = (
            limits.body, limits.line, limits.text,
        )  # fmt: skip
        self._translator = translator
        # No event of another API is plain: almost every event is tested for its length alone.
        self._plain_bytes = min(2 * limits.nesting, limits.line) if translator is None else -1
        self._asked_for_stream = stream
        self._content_type = content_type
        self._anomalies: set[str] = set()
        self._size = 0
        self._characters = 0
        self._reasoning: list[str] = []
        self._answer: list[str] = []
        self._saw_choice = False
        self._index: Any = None
        self._saw_event = False
        self._separate = False
        self._answered_otherwise = False
        self._tool_calls: ToolCallReader | None = None
        self._splitter = ReasoningSplitter()
        self._events = EventDecoder()
        self._chunks_alike = PlainChunks(self._plain_bytes)
        self._usage = TokenUsage()
        self._body = bytearray()
        self._is_stream: bool | None = None

    @property
    def reasoning(self) -> str:
        """The reasoning text so far."""
        return self._joined(self._reasoning)

    @property
    def answer(self) -> str:
        """The answer text so far."""
        return self._joined(self._answer)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls so far; the arguments of the last one can be incomplete."""
        return () if self._tool_calls is None else self._tool_calls.calls()

    @property
    def anomalies(self) -> tuple[str, ...]:
        """What deviates from the protocol so far, in alphabetical order."""
        return tuple(sorted(self._anomalies))

    def note(self, anomaly: str) -> None:
        """Note an anomaly."""
        self._anomalies.add(anomaly)

    def feed(self, received: bytes, at: int) -> None:
        """Process bytes that arrived at `at`."""
        if self.ended is not None:
            return
        self._size += len(received)
        if self._size > self._most_bytes:
            self._fail(at, "too_large", f"more than {self._most_bytes:,} bytes")
        elif self._is_stream:
            self._feed_stream(received, at)
        else:
            self._feed_body(received, at)

    @property
    def chunks_around(self) -> tuple[bytes, bytes]:
        """What is before and after the text of the events to come, if they have a known form.

        Empty if none is known, or within an event, or if shorter ones can be too long.
        """
        is_known = self._events.is_between and self._longest_event >= LONGEST_COLLECTED
        return self._chunks_alike.around if is_known else (b"", b"")

    def take_alike(self, encoded: Sequence[bytes], stamps: Sequence[int]) -> bool:
        """Process the texts of events of the known form at once; return False if it cannot.

        `encoded`: the texts as they are in the events, and not empty. `stamps`: when each arrived.
        """
        last, text = self.last_token, text_of_parts(encoded)
        if last is None or self.ended is not None or not text:
            return False
        is_reasoning = self._chunks_alike.is_reasoning
        first = self.first_reasoning if is_reasoning else self.first_answer
        size = sum(map(len, encoded)) + len(stamps) * self._chunks_alike.bytes_around
        if (
            first is None
            or self._size + size > self._most_bytes
            or self._characters + len(text) > self._most_text
            or not (self._separate or self._splitter.passes_on(text))
        ):
            return False
        add_all(self.gaps, map(sub, stamps, chain((last,), stamps)))
        self.last_token = stamps[-1]
        self.chunks += len(stamps)
        self._size += size
        self._characters += len(text)
        (self._reasoning if is_reasoning else self._answer).append(text)
        return True

    def _feed_body(self, received: bytes, at: int) -> None:
        """Process bytes of a body that is whole, or whose form is not known yet."""
        self._body += received
        if self._is_stream is None and self._detect_form():
            begin = bytes(self._body)
            self._body.clear()
            self._feed_stream(begin, at)

    def close(self, at: int) -> None:
        """Process the clean end of the body."""
        if self.ended is not None:
            return
        is_begun = self._is_stream is None and self._says("event-stream") and self._body.strip()
        if is_begun:
            self._is_stream = True
            self._feed_stream(bytes(self._body), at)
        if self._is_stream or is_begun:
            self._end_stream(at)
        else:
            self._complete_body(at)

    def _end_stream(self, at: int) -> None:
        for event in self._events.end():
            self._event(event, at)
        if self.ended is not None:
            return
        if not self._saw_event:
            self._fail(at, "blank_body", _BLANK)
        elif self.finish_reason is None:
            self._fail(at, "missing_done", "the stream just ended")
        else:
            self.note("missing_done")
            self._conclude(at)

    def settle(self) -> None:
        """Check the token counts that were reported so far."""
        self.tokens, is_odd = self._usage.checked(self._characters)
        if is_odd:
            self.note("usage")

    def _says(self, kind: str) -> bool:
        return kind in self._content_type

    def _detect_form(self) -> bool:
        """Find out by the first bytes whether the body is a stream; False if it is not known."""
        begin = bytes(self._body[:_MOST_BLANKS]).lstrip()
        if begin.startswith(_BOM):
            begin = begin.removeprefix(_BOM).lstrip()
            if begin[:1] in (b"{", b"["):
                self.note("byte_order_mark")
        elif _BOM.startswith(begin) and len(self._body) < _MOST_BLANKS:
            return False
        if begin.startswith(_STREAM_BEGINS):
            self._is_stream = True
        elif begin[:1] in (b"{", b"["):
            self._is_stream = False
        elif not any(known.startswith(begin) for known in _STREAM_BEGINS):
            self._is_stream = self._says("event-stream")
        elif len(self._body) >= _MOST_BLANKS:
            self._is_stream = False
        if self._is_stream and self._content_type and not self._says("event-stream"):
            self.note("content_type")
        if self._is_stream and not self._asked_for_stream:
            self.note("wrong_form")
        return bool(self._is_stream)

    def _feed_stream(self, received: bytes, at: int) -> None:
        if not received.endswith(b"\n\n") or not self._events.is_between:
            self._decode_events(received, at)
            return
        for event in received[:-2].split(b"\n\n"):
            if text := self._chunks_alike.text_of(event):  # almost every event
                self._note_alike(text, at)
            else:
                self._decode_events(event + b"\n\n", at)
            if self.ended is not None:
                return

    def _decode_events(self, received: bytes, at: int) -> None:
        for event in self._events.feed(received):
            self._event(event, at)
        if self.ended is None and self._events.held > self._longest_event:
            self._fail(at, "too_large", f"an event of more than {self._longest_event:,} bytes")

    def _event(self, event: Data | Stray, at: int) -> None:
        if self.ended is not None:
            return
        if not self._saw_event:
            self._saw_event = True
            if self._events.had_mark:
                self.note("byte_order_mark")
        if isinstance(event, Stray):
            self._stray(event.line, at)
            return
        payload = event.payload
        if not event.type and payload[:1] == b"{" and len(payload) <= self._plain_bytes:
            try:
                message = decode_plain(payload)
            except STREAM_FAILURES:
                self._decode(payload, at, "malformed_stream")
            else:
                self._message(message, at)
                self._learn(payload, message)
        elif event.type == b"error":
            self._fail(at, "error_in_stream", "error event")
        elif payload[:1] in (b"[", b'"') and payload.strip() in _DONE:
            self._conclude(at)
        elif not payload.strip() or (event.type in _PINGS and payload[:1] != b"{"):
            self.note("empty_event")
        elif len(payload) > self._longest_event:
            self._fail(at, "too_large", f"an event of more than {self._longest_event:,} bytes")
        else:
            self._decode(payload, at, "malformed_stream")

    def _stray(self, line: bytes, at: int) -> None:
        """Process a line that is no field of an event stream."""
        if _FIELD.match(line) is None:
            is_error = line[:1] == b"{" and b'"error"' in line
            outcome = "error_in_stream" if is_error else "malformed_stream"
            self._fail(at, outcome, "a line that is no server-sent event")
        elif line[:6].lower() == b"error:":
            self._fail(at, "error_in_stream", "error line")
        else:
            self.note("unknown_field")

    def _decode(self, payload: bytes, at: int, malformed: str) -> None:
        translator = self._translator
        try:
            message, anomalies = (decode if translator is None else translator.decode)(
                payload, self._nesting
            )
        except UnreadableError as error:
            self._fail(at, malformed, str(error))
        else:
            if anomalies:
                self._anomalies.update(anomalies)
            self._message(message, at)
            if translator is not None and translator.is_final and self.ended is None:
                self._conclude(at)

    def _message(self, message: ResponseMessage, at: int) -> None:
        if message.error or message.object == "error":
            outcome = "error_in_stream" if self._is_stream else "error_in_body"
            self._fail(at, outcome, error_text(message))
            return
        if self._is_stream and self.first_chunk is None:
            self.first_chunk = at
        if self.response_id is None:
            self.response_id, self.response_model = name_of(message.id), name_of(message.model)
        if message.usage is not None:
            self._usage.note(message.usage)
        for choice in message.choices or ():
            if not self._saw_choice:
                self._saw_choice, self._index = True, choice.index
            elif choice.index != self._index and isinstance(choice.index, int):
                continue  # another answer to the same request
            if choice.usage is not None:
                self._usage.note(choice.usage)
            if choice.finish_reason:
                self.finish_reason = printable_text(choice.finish_reason)
            text = choice.delta if self._is_stream else choice.message
            if text is None and self.last_token is None:
                text = choice.message or choice.delta
                if text is not None:
                    self.note("unknown_shape")
            if text is not None:
                self._note_text(text, at)
            if not self._is_stream:
                break

    def _learn(self, payload: bytes, message: ResponseMessage) -> None:
        """Take the form of a chunk whose text was noted."""
        choices = message.choices
        if choices and self.ended is None and self.response_id is not None:
            index = choices[0].index
            if index == self._index or not isinstance(index, int):
                self._chunks_alike.learn(payload, message)

    def _note_alike(self, text: str, at: int) -> None:
        """Process a chunk that differs from an earlier one in its text alone."""
        last, gaps = self.last_token, self.gaps
        if last is not None:
            gap = bucket(at - last)
            gaps[gap] = gaps.get(gap, 0) + 1
        self.last_token = at
        self.chunks += 1
        is_reasoning = self._chunks_alike.is_reasoning  # then reasoning is separate
        if not self._separate and not self._splitter.passes_on(text):
            self._keep(*self._split(text), at)
        elif is_reasoning:
            self._keep(text, "", at)
        else:
            self._keep("", text, at)

    def _note_chunk(self, at: int) -> None:
        """Stamp and count a chunk with a text."""
        if self.last_token is not None:
            gap = bucket(at - self.last_token)
            self.gaps[gap] = self.gaps.get(gap, 0) + 1
        self.last_token = at
        self.chunks += 1

    def _separate_reasoning(self, at: int) -> None:
        """Note that reasoning comes in fields of its own."""
        if not self._separate:
            self._end_splitting(at)
            self._separate = True

    def _split(self, answer: str) -> tuple[str, str]:
        """Return the reasoning and the answer of a content, which may have marks."""
        if self._separate:
            return "", answer
        parts = self._splitter.feed(answer)
        if parts.earlier_was_reasoning:
            self._reclassify()
        return parts.reasoning, parts.answer

    def _note_text(self, text: MessageText, at: int) -> None:
        reasoning = text.reasoning_content or text.reasoning or ""
        answer = text.content or ""
        other = text.tool_calls or text.function_call or text.refusal or text.audio
        is_hidden = False
        # A chunk of a stream has one kind of text.
        is_complete = answer and self._is_stream
        if not reasoning and not is_complete and (elsewhere := other_reasoning(text)):
            reasoning = plain_text(elsewhere)
            is_hidden = not reasoning
        if not reasoning and not answer and not other and not is_hidden:
            return
        self._note_chunk(at)
        if reasoning or is_hidden:
            self._separate_reasoning(at)
        if is_hidden and self.first_reasoning is None:
            self.first_reasoning = at
        if answer and not self._separate:
            reasoning, answer = self._split(answer)
        if other:
            self._answered_otherwise = True
            if text.tool_calls or text.function_call:
                self._note_tool_calls(text, at)
        self._keep(reasoning, answer, at)

    def _note_tool_calls(self, text: MessageText, at: int) -> None:
        if self._tool_calls is None:
            self._tool_calls = ToolCallReader()
        self._characters += self._tool_calls.note(text.tool_calls, text.function_call)
        if self.first_answer is None:
            self.first_answer = at

    def _keep(self, reasoning: str, answer: str, at: int) -> None:
        if reasoning:
            self._reasoning.append(reasoning)
            self._characters += len(reasoning)
            if self.first_reasoning is None:
                self.first_reasoning = at
        if answer:
            self._answer.append(answer)
            self._characters += len(answer)
            if self.first_answer is None:
                self.first_answer = at
        if self._characters > self._most_text and self.ended is None:
            self._fail(at, "too_large", f"more than {self._most_text:,} characters of text")

    def _end_splitting(self, at: int) -> None:
        """Add the text that the splitter held back."""
        held = self._splitter.end()
        self._keep(held.reasoning, held.answer, at)

    def _reclassify(self) -> None:
        """Turn the answer so far into reasoning: its opening mark was missing."""
        self._reasoning, self._answer = self._answer, []
        self.first_reasoning, self.first_answer = self.first_answer, None

    def _joined(self, texts: list[str]) -> str:
        text = "".join(texts)
        return whole_pairs(text) if "surrogate" in self._anomalies else text

    def _complete_body(self, at: int) -> None:
        body = bytes(self._body).strip().removeprefix(_BOM)
        if not body:
            self._fail(at, "blank_body", _BLANK)
            return
        if body[:1] not in (b"{", b"["):
            self._fail(at, "not_json", "200 with something that is not JSON")
            return
        self._is_stream = False
        if self._content_type and not self._says("json"):
            self.note("content_type")
        if self._asked_for_stream:
            self.note("wrong_form")
        self._decode(body, at, "malformed_json")
        if self.ended is None:
            self._conclude(at)

    def _conclude(self, at: int) -> None:
        """Set the outcome of a complete response from its finish reason and texts."""
        self.complete = True
        if self.last_token is not None:
            self._end_splitting(self.last_token)
        reason = self.finish_reason
        if reason is None:
            self.note("missing_finish")
            outcome = OK
        else:
            outcome = outcome_of_finish(reason, self._terms.finish_reasons)
        self.settle()
        if self.ended is not None:
            return
        if outcome != OK:
            self._fail(at, outcome, f"finish_reason {reason}"[:_LONGEST_DETAIL])
        elif not self._saw_choice:
            self._fail(at, "empty_choices", "a response without a choice")
        elif not self.answer.strip() and not self._is_answered_otherwise():
            only = "reasoning only" if self.first_reasoning is not None else "no text at all"
            self._fail(at, "empty_answer", only)
        elif self._terms.strict and self._anomalies:
            self._fail(at, self._strict_outcome(), f"anomaly: {', '.join(self.anomalies)}")
        else:
            self.outcome, self.ended = OK, at

    def _is_answered_otherwise(self) -> bool:
        translator = self._translator
        return self._answered_otherwise or (translator is not None and translator.is_answered)

    def _strict_outcome(self) -> str:
        if "missing_done" in self._anomalies:
            return "missing_done"
        return "malformed_stream" if self._is_stream else "malformed_json"

    def _fail(self, at: int, outcome: str, detail: str) -> None:
        self.outcome, self.detail, self.ended = outcome, detail, at
