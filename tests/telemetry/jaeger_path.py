"""The critical path as Jaeger's user interface finds it: its rule, in our own words.

A walk goes backwards from the end of a span. It enters the child that ends last, comes back at the
start of that child, and enters the child that ends last before that moment: strictly before it, in
whole microseconds. What no child explains belongs to the span itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from harness.telemetry.span import Span


class Section(NamedTuple):
    """A part of the path, in microseconds since the Unix epoch."""

    span: Span
    start: int
    end: int


def jaeger_path(spans: Sequence[Span]) -> list[Section]:
    """Return the path of a trace, from its end to its start."""
    children: dict[str | None, list[Span]] = defaultdict(list)
    for span in spans:
        children[span.parent_id].append(span)
    sections: list[Section] = []

    def walk(span: Span) -> None:
        at = _end(span)
        while True:
            before = [one for one in children[span.span_id] if _end(one) < at]
            if at == _end(span):
                before = children[span.span_id]
            last = max(before, key=_end, default=None)
            start = _start(span) if last is None else _end(last)
            if start < at:
                sections.append(Section(span, start, at))
            if last is None:
                return
            walk(last)
            at = _start(last)

    (root,) = children[None]
    walk(root)
    return sections


def _start(span: Span) -> int:
    return span.start // 1000


def _end(span: Span) -> int:
    """Jaeger stores a start and a duration, each in whole microseconds."""
    return span.start // 1000 + (span.end - span.start) // 1000
