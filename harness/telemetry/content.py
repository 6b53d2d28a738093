"""Prompts and answers on spans, if the standard environment variable enables them.

`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` is `span_only`, `event_only` or
`span_and_event`; any other value disables content. The texts come from the transcripts and are
encoded as JSON by the message schemas of the convention. Each text is truncated after `LIMIT`
characters, or after OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT (or OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT).
Only the texts are truncated, so that the JSON stays valid.
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-spans.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from harness.records.errors import InputError
from harness.records.failures import OK
from harness.records.schema import Transcript
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes
from harness.telemetry.resource import first_set

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
LIMITS = ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")
LIMIT = 4096
"""Maximum number of characters of one text."""


class Capture(NamedTuple):
    """Whether content is put on spans and on events, and the maximum characters of each text."""

    on_span: bool
    on_event: bool
    limit: int = LIMIT


def capture(environment: Mapping[str, str]) -> Capture | None:
    """Read the variables; None for no content. Raises InputError for an invalid limit."""
    wanted = environment.get(CAPTURE_VARIABLE, "").strip().lower()
    on_span = wanted in ("span_only", "span_and_event")
    on_event = wanted in ("event_only", "span_and_event")
    if not on_span and not on_event:
        return None
    name, text = first_set(environment, *LIMITS)
    if text and not (text.isascii() and text.isdigit()):
        raise InputError(f"{name}: not a number of characters; write for example 4096")
    return Capture(on_span, on_event, int(text or LIMIT))


def messages(transcript: Transcript, finish_reason: str | None, limit: int) -> Attributes:
    """Return prompt and answer as attributes; a failed call has the finish reason `error`."""
    said = [
        {"role": one.role, "parts": [_part("text", one.content, limit)]}
        for one in transcript.messages
    ]
    parts = [
        _part(kind, text, limit)
        for kind, text in (("reasoning", transcript.reasoning), ("text", transcript.answer))
        if text
    ]
    reason = (finish_reason or "stop") if transcript.outcome == OK else "error"
    answer = [{"role": "assistant", "parts": parts, "finish_reason": reason}]
    return {
        semconv.INPUT_MESSAGES: msgspec.json.encode(said).decode(),
        semconv.OUTPUT_MESSAGES: msgspec.json.encode(answer).decode(),
    }


def _part(kind: str, text: str, limit: int) -> dict[str, str]:
    over = len(text) - limit
    cut = text if over <= 0 else f"{text[:limit]}… ({over} characters more)"
    return {"type": kind, "content": cut}
