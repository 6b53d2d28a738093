"""Prompts and answers on spans, if the standard environment variable enables them.

`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` is `span_only`, `event_only`, `span_and_event`
or `no_content`, or `true` or `false` as for OpenLLMetry, which puts content on spans. The texts
come from the transcripts. They have the message schemas of the GenAI conventions: objects in
events, and JSON in attributes of spans, because many backends show only texts there. Each text is
truncated after `LIMIT` characters, or after OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT (or
OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT). Only the texts are truncated, so that the JSON stays valid.
https://github.com/open-telemetry/semantic-conventions-genai: docs/gen-ai/client-inference.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from harness.records.errors import InputError
from harness.records.schema import Transcript
from harness.telemetry import semconv
from harness.telemetry.attributes import Attributes, StructuredValue
from harness.telemetry.resource import first_set

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
LIMITS = ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")
_PLACES = {
    "": (False, False),
    "no_content": (False, False),
    "false": (False, False),
    "true": (True, False),
    "span_only": (True, False),
    "event_only": (False, True),
    "span_and_event": (True, True),
}
"""Value of the variable -> whether content is on spans, and on events."""
LIMIT = 4096
"""Maximum number of characters of one text."""


class Capture(NamedTuple):
    """Whether content is put on spans and on events, and the maximum characters of each text."""

    on_span: bool
    on_event: bool
    limit: int = LIMIT


def capture(environment: Mapping[str, str]) -> Capture | None:
    """Read the variables; None for no content. Raises InputError for an invalid value."""
    wanted = environment.get(CAPTURE_VARIABLE, "").strip().lower()
    if wanted not in _PLACES:
        names = ", ".join(name for name in _PLACES if name)
        raise InputError(f"{CAPTURE_VARIABLE}: value is not supported; write one of: {names}")
    on_span, on_event = _PLACES[wanted]
    if not on_span and not on_event:
        return None
    name, text = first_set(environment, *LIMITS)
    if text and not (text.isascii() and text.isdigit()):
        raise InputError(f"{name}: not a number of characters; write for example 4096")
    return Capture(on_span, on_event, int(text or LIMIT))


def messages(transcript: Transcript, limit: int) -> dict[str, StructuredValue]:
    """Return prompt and answer as attributes."""
    said = tuple(
        {"role": one.role, "parts": [_part("text", one.content, limit)]}
        for one in transcript.messages
    )
    parts = [
        _part(kind, text, limit)
        for kind, text in (("reasoning", transcript.reasoning), ("text", transcript.answer))
        if text
    ]
    return {
        semconv.INPUT_MESSAGES: said,
        semconv.OUTPUT_MESSAGES: ({"role": "assistant", "parts": parts},),
    }


def as_text(content: Mapping[str, StructuredValue]) -> Attributes:
    """Return the attributes with JSON in place of the objects."""
    return {name: msgspec.json.encode(value).decode() for name, value in content.items()}


def _part(kind: str, text: str, limit: int) -> dict[str, str]:
    over = len(text) - limit
    cut = text if over <= 0 else f"{text[:limit]}… ({over} characters more)"
    return {"type": kind, "content": cut}
