"""Spans as an indented tree, as in the timeline of Jaeger."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records.failures import CANCELLED
from harness.report.line_wrap import WIDTH
from harness.report.path_text import ToSeconds
from harness.report.wording import number
from harness.telemetry import semconv
from harness.telemetry.attributes import AttributeValue
from harness.telemetry.span import Span

_BESIDE = {
    semconv.CELL_SPAN: (semconv.CELL,),
    semconv.TRIAL_SPAN: (semconv.REPEAT,),
    semconv.BACKOFF_SPAN: (semconv.BACKOFF_SOURCE,),
    semconv.ATTEMPT_SPAN: (semconv.STATUS_CODE, semconv.HEDGE, semconv.RESPONSE_ANOMALIES),
}
"""Name of a span -> the attributes shown beside it."""
_TIMES = 20


def tree_lines(spans: Sequence[Span], seconds: ToSeconds) -> list[str]:
    """Return a line for each span and event: its start since the first span, and its length."""
    children: dict[str | None, list[Span]] = {}
    known = {span.span_id for span in spans}
    for span in spans:
        parent = span.parent_id if span.parent_id in known else None
        children.setdefault(parent, []).append(span)
    begin = min((span.start for span in spans), default=0)
    lines: list[str] = []

    def draw(span: Span, depth: int) -> None:
        times = f"{number(seconds(span.start - begin))} +{number(seconds(span.end - span.start))}"
        text = f"{'  ' * depth}{span.name}{_beside(span)}"
        lines.append(f"{text[: WIDTH - _TIMES]:<{WIDTH - _TIMES}}{times:>{_TIMES}}")
        for event in span.events:
            at = f"{number(seconds(event.time - begin))}"
            mark = f"{'  ' * (depth + 1)}· {event.name}"
            lines.append(f"{mark:<{WIDTH - _TIMES}}{at:>{_TIMES - 8}}".rstrip())
        for child in sorted(children.get(span.span_id, []), key=lambda one: one.start):
            draw(child, depth + 1)

    for root in sorted(children.get(None, []), key=lambda one: one.start):
        draw(root, 0)
    return lines


def _beside(span: Span) -> str:
    is_branch = semconv.BRANCH in span.attributes and semconv.CALL not in span.attributes
    shown = (semconv.BRANCH,) if is_branch else _BESIDE.get(span.name)
    said = [
        f"{name.rpartition('.')[2]}={_value(span.attributes[name])}"
        for name in shown or ()
        if name in span.attributes
    ]
    if span.attributes.get(semconv.OUTCOME) == CANCELLED and shown is not None:
        said.append(CANCELLED)
    if span.error is not None:
        said.append(f"ERROR {span.attributes.get(semconv.ERROR_TYPE, '')}".rstrip())
    return f" ({', '.join(said)})" if said else ""


def _value(value: AttributeValue) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
