"""A span, independent of its encoding."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from harness.telemetry.attributes import Attributes

SpanRole = Literal["internal", "client"]
NO_ATTRIBUTES: Attributes = {}


class Event(NamedTuple):
    """An event within a span: `time` in nanoseconds since the Unix epoch."""

    name: str
    time: int
    attributes: Attributes = NO_ATTRIBUTES


class SpanLink(NamedTuple):
    """A link to a span of another trace, by its hexadecimal ids."""

    trace_id: str
    span_id: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span. Ids are hexadecimal, times are nanoseconds since the Unix epoch.

    `error`: the message of the status ERROR; None if the status is not ERROR.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start: int
    end: int
    attributes: Attributes
    kind: SpanRole = "internal"
    events: tuple[Event, ...] = ()
    links: tuple[SpanLink, ...] = ()
    error: str | None = None
