"""What a span is, whatever it is written as."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from harness.telemetry.attributes import Attributes

SpanRole = Literal["internal", "client"]


NO_ATTRIBUTES: Attributes = {}


class Event(NamedTuple):
    """A moment within a span: `time` in nanoseconds since the Unix epoch."""

    name: str
    time: int
    attributes: Attributes = NO_ATTRIBUTES


class SpanLink(NamedTuple):
    """A span of another trace, by its hexadecimal ids."""

    trace_id: str
    span_id: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span. Ids are hexadecimal, times nanoseconds since the Unix epoch.

    `error`: why the span's status is ERROR, None when it is not.
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

    @property
    def told_end(self) -> int:
        """The end that backends are told: Jaeger takes a length of 0 for a negative one and warns.

        A permit that is there at once is such a span.
        """
        return max(self.end, self.start + 1)
