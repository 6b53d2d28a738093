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
    """Return the path of a trace, from its end to its start; parents stand before children."""
    children: dict[str | None, list[Section]] = defaultdict(list)
    within: dict[str, Section] = {}
    for span in spans:
        # Jaeger stores a start and a duration, each in whole microseconds.
        start = span.start // 1000
        end = start + (span.end - span.start) // 1000
        if span.parent_id is not None:
            if span.parent_id not in within or start >= within[span.parent_id].end:
                continue  # it lies outside its parent
            end = min(end, within[span.parent_id].end)
        within[span.span_id] = Section(span, start, end)
        children[span.parent_id].append(within[span.span_id])
    path: list[Section] = []

    def walk(one: Section) -> None:
        inside, at = children[one.span.span_id], one.end
        while True:
            last = max(inside, key=lambda child: child.end, default=None)
            since = one.start if last is None else last.end
            if since != at:
                path.append(Section(one.span, since, at))
            if last is None:
                return
            walk(last)
            at = last.start
            inside = [child for child in inside if child.end < at]

    (root,) = children[None]
    walk(root)
    return path
