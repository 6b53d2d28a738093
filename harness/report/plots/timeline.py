"""One workflow in sync above the same workflow in async: what each of its calls waited for."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.call_segments import CallSegment
from harness.analysis.model import Summary
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.schema import Call, Workflow
from harness.report.plots.example_workflow import ExampleWorkflow, same_workflow_in_both
from harness.report.plots.style import MUTED, PART_STYLES, VERMILLION, new_figure
from harness.report.plots.time_spent import drawn_segments
from harness.report.wording import cell_labels, number, spoken
from harness.store.run_directory import Records

MOST_LABELS = 24
"""More rows than this and only some are labelled."""


TimelineRows = list[tuple[str, list[tuple[Call, list[CallSegment]]]]]
"""From top to bottom: a label, and its calls cut into pieces; a branch to a row."""


def timeline(summary: Summary, records: Records) -> Figure | None:
    """Draw a row a call on one axis of seconds since the workflow was ready; None without one."""
    seen = same_workflow_in_both(summary, records)
    if not seen:
        return None
    labels = cell_labels(summary.cells)
    rows = [_rows(one) for one in seen]
    heights = [0.35 + min(0.24 * max(len(row), 2), 4.2) for row in rows]
    shown = {piece.part for row in rows for _, calls in row for _, cut in calls for piece in cut}
    workflow = seen[-1].workflow
    all_ok = all(one.workflow.outcome == "ok" for one in seen)
    notes = [
        f"Workflow {workflow.workflow} of repeat {workflow.repeat}, the median of its "
        f"{seen[-1].cell.mode} cell's workflows{' that are ok' if all_ok else ''}; "
        f"topic: {_topic(workflow)}.",
    ]
    parts = [part for part in PART_STYLES if part in shown]
    figure = new_figure(0.5 + sum(heights), _title(seen, summary), summary, notes, parts)
    grid = figure.subplots(len(seen), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, one, row in zip(grid[:, 0], seen, rows, strict=True):
        _draw(axes, one, row, summary)
        took = number(_seconds(one.workflow, summary))
        axes.set_title(f"{labels[one.cell.id]}: {took} s, {one.workflow.outcome}")
    grid[-1, 0].set_xlabel("seconds since the workflow was ready")
    return figure


def _seconds(workflow: Workflow, summary: Summary) -> float:
    return (workflow.done - workflow.ready) / SECOND / summary.time_scale


def _title(seen: Sequence[ExampleWorkflow], summary: Summary) -> str:
    took = [number(_seconds(one.workflow, summary)) for one in seen]
    if len(seen) == 1:
        return f"One workflow, call by call: {took[0]} s ({spoken(seen[0].cell, summary.cells)})"
    permits = seen[1].cell.permits
    return (
        f"The same workflow takes {took[0]} s one call after another and {took[1]} s "
        f"with {permits} permit{'' if permits == 1 else 's'}"
    )


def _topic(workflow: Workflow) -> str:
    topic = " ".join(workflow.topic.split())
    return topic if len(topic) <= 60 else topic[:59] + "…"


def _rows(seen: ExampleWorkflow) -> TimelineRows:
    rows: dict[str, list[tuple[Call, list[CallSegment]]]] = {}
    for call, attempts in sorted(seen.calls, key=lambda pair: _place(pair[0])):
        rows.setdefault(_name(call), []).append((call, drawn_segments(call, attempts)))
    return list(rows.items())


def _place(call: Call) -> tuple[int, int, int]:
    order = {"decompose": 0, "fan_out": 1, "synthesize": 2}
    return order.get(call.phase, 3), call.branch or 0, call.ready


def _name(call: Call) -> str:
    return call.phase if call.branch is None else f"branch {call.branch + 1}"


def _draw(axes: Axes, seen: ExampleWorkflow, rows: TimelineRows, summary: Summary) -> None:
    scale = SECOND * summary.time_scale
    ready = seen.workflow.ready
    for row, (_, calls) in enumerate(rows):
        for call, cut in calls:
            for piece in cut:
                axes.barh(
                    row, (piece.end - piece.start) / scale, left=(piece.start - ready) / scale,
                    height=0.78, color=PART_STYLES[piece.part][1], label=f"{piece.part} {row}",
                )  # fmt: skip
            if call.outcome != OK:
                axes.annotate(
                    call.outcome.replace("_", " "), ((call.done - ready) / scale, row),
                    xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
                    color=VERMILLION,
                )  # fmt: skip
    axes.axvline(
        (seen.workflow.done - ready) / scale, color=MUTED, linewidth=1, linestyle=":", label="done"
    )
    step = -(-len(rows) // MOST_LABELS) or 1
    # From the bottom up, so that synthesize has its name; decompose is told by its place.
    named = range(len(rows) - 1, -1, -step)
    axes.set_yticks(list(named), [rows[row][0] for row in named])
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelsize=9 if len(rows) <= 12 else 8)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
