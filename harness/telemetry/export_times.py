"""The times of spans in exports, which differ from the records by at most a few microseconds.

The critical path of Jaeger follows only children that end before the next one starts, in whole
microseconds. In the records, one phase or attempt often ends at the nanosecond at which the next
one starts, and Jaeger would skip it. In exports it ends 1 to 2 microseconds earlier. Jaeger also
warns of spans without a duration, so each span lasts at least a nanosecond.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from harness.telemetry.span import Span

MICROSECOND = 1000


def with_export_times(spans: Sequence[Span]) -> list[Span]:
    """Return whole traces, parents before children, with the times for an export.

    Children stay within their parents, and siblings keep their order. What lies after the earlier
    end of a span is moved to that end, so the order within it is kept too.
    """
    children: dict[str | None, list[Span]] = defaultdict(list)
    for span in spans:
        children[span.parent_id].append(span)
    exported: dict[str, Span] = {}
    for span in spans:
        if span.parent_id is None:
            end = max(span.end, span.start + 1)
            exported[span.span_id] = replace(span, end=end)
        if own := children.get(span.span_id):
            exported |= _within(exported[span.span_id], own)
    return [exported[span.span_id] for span in spans]


def _within(parent: Span, own: list[Span]) -> Iterable[tuple[str, Span]]:
    """Yield the children `own` of an exported `parent`, by their ids."""
    recorded = sorted(span.start for span in own)
    for span in own:
        start, end = min(span.start, parent.end - 1), min(span.end, parent.end)
        place = bisect_left(recorded, span.end)  # the first sibling that starts after this span
        if place < len(recorded):
            following = min(recorded[place], parent.end - 1) // MICROSECOND
            if end // MICROSECOND >= following:
                end = (following - 1) * MICROSECOND
        end = max(end, start + 1)
        events = tuple(event._replace(time=min(event.time, end)) for event in span.events)
        yield span.span_id, replace(span, start=start, end=end, events=events)
