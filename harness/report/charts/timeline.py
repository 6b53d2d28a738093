"""Workflows call by call: the same one in sync and in async, or any other one."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.analysis.model import Cell, Summary
from harness.analysis.selection import Dataset
from harness.analysis.settings import policy_of, with_permits
from harness.records.failures import CANCELLED, OK, is_failure
from harness.records.redaction import escape_controls
from harness.records.schema import Workflow
from harness.records.settings import one_at_a_time
from harness.report.charts.model import (
    CANCELLED_LOOK,
    PART_LOOKS,
    Bar,
    Chart,
    ChartRow,
    Key,
    RowPanel,
    axis_from_zero,
    part_keys,
)
from harness.report.path_text import ToSeconds, in_scenario_seconds
from harness.report.tables import Column, Subject, Table
from harness.report.waterfall import Waterfall, WaterfallRow, Waterfalls
from harness.report.wording import MODE_NAMES, PART_WORDS, counted, number, spoken

MOST_ROWS = 40
"""The most rows of a workflow that are drawn by default."""

LONGEST_TOPIC = 80
DRAWN_PARTS = {**PART_WORDS, CANCELLED: "cancelled attempts"}
"""The name of each part of a call that is drawn."""

ON_PATH = "on the critical path"


class ExampleWorkflow(NamedTuple):
    """A workflow of a cell."""

    cell: Cell
    workflow: Workflow


def same_workflow_in_both(summary: Summary, data: Dataset) -> list[ExampleWorkflow]:
    """Return the median workflow of the async cell with most permits, after the same one in sync.

    Of several such cells it takes the recommended one, otherwise the first. The workflow in sync,
    if there is one, has the same settings, repeat and topic. Successful workflows are preferred.
    """
    workflows_of = {name: cell.workflows for name, cell in data.cells.items()}
    ran = [cell for cell in summary.cells if workflows_of[cell.id]]
    if not ran:
        return []
    main = max(
        ran,
        key=lambda c: (
            MODE_NAMES.index(c.mode),
            not c.limiter,
            c.permits,
            c.id == summary.recommendation.candidate,
        ),
    )
    alike = (c for c in ran if one_at_a_time(c.mode) and policy_of(c) == policy_of(main))
    sync_cell = next((cell for cell in alike if cell.id != main.id), None)
    in_sync = {(w.repeat, w.workflow): w for w in (workflows_of[sync_cell.id] if sync_cell else ())}
    found = workflows_of[main.id]
    paired = [w for w in found if (w.repeat, w.workflow) in in_sync]
    both_ok = [w for w in paired if w.outcome == in_sync[w.repeat, w.workflow].outcome == OK]
    chosen = median_workflow(both_ok or paired or [w for w in found if w.outcome == OK] or found)
    twin = in_sync.get((chosen.repeat, chosen.workflow))
    first = [ExampleWorkflow(sync_cell, twin)] if sync_cell and twin else []
    return [*first, ExampleWorkflow(main, chosen)]


def median_workflow(workflows: Sequence[Workflow]) -> Workflow:
    """Return the workflow with the median latency, the lower of two."""
    middle = statistics.median_low(workflow.done - workflow.ready for workflow in workflows)
    return next(w for w in workflows if w.done - w.ready == middle)


def timeline(about: Subject) -> Chart | None:
    """Return one workflow call by call, sync above async; None without a workflow."""
    summary = about.summary
    seen = same_workflow_in_both(summary, about.data)
    if not seen:
        return None
    waterfalls = Waterfalls(about.data)
    drawn = [waterfalls.of(one.workflow) for one in seen]
    seconds = in_scenario_seconds(summary.time_scale)
    took = [number(seconds(one.path.latency)) for one in drawn]
    longest = max(one.path.latency for one in drawn)
    titles = [
        f"{about.labels[cell.id]}: {time} s, {workflow.outcome}"
        for (cell, workflow), time in zip(seen, took, strict=True)
    ]
    panels = tuple(
        waterfall_panel(most_telling(one.rows), seconds, longest, title)
        for one, title in zip(drawn, titles, strict=True)
    )
    names = [spoken(one.cell, summary.cells) for one in seen]
    each = (f"{time} s in {name}" for time, name in zip(took, names, strict=True))
    cell, workflow = seen[-1]
    all_ok = all(one.workflow.outcome == OK for one in seen)
    more = len(drawn[-1].rows) - len(panels[-1].rows)
    title, finding = "One workflow", f"One workflow, call by call: {took[0]} s ({names[0]})"
    if len(seen) > 1:
        title = "The same workflow"
        finding = (
            f"{title} takes {took[0]} s one call after another and {took[1]} s with "
            f"{with_permits(cell)}"
        )
    return Chart(
        f"{title}, call by call",
        finding,
        f"What each call of one workflow waited for. It took {' and '.join(each)}.",
        (
            f"Workflow {workflow.workflow + 1} of repeat {workflow.repeat + 1}, the median of the "
            f"{'successful ' if all_ok else ''}workflows of the {cell.mode} setting; topic: "
            f"{_topic(workflow)}.",
            *[f"{counted(more, 'more call')}: harness trace RUN {drawn[-1].key}"] * (more > 0),
            *waterfall_notes(panels),
        ),
        panels,
        waterfall_legend(panels),
        _cuts_table(about, seen, drawn, seconds),
    )


def _topic(workflow: Workflow) -> str:
    topic = escape_controls(" ".join(workflow.topic.split()))
    return topic if len(topic) <= LONGEST_TOPIC else topic[: LONGEST_TOPIC - 1] + "…"


def _cuts_table(
    about: Subject, seen: Sequence[ExampleWorkflow], drawn: Sequence[Waterfall], seconds: ToSeconds
) -> Table:
    cuts = [
        (example.cell, row, piece)
        for example, one in zip(seen, drawn, strict=True)
        for row in one.rows
        for piece in row.pieces
    ]
    return Table(
        "timeline",
        "The parts of all calls, since the workflow was ready",
        (
            *about.cell_columns([cell for cell, _, _ in cuts]),
            Column("call", "call", [row.label.strip() for _, row, _ in cuts]),
            Column("part", "part", [DRAWN_PARTS[piece.part] for _, _, piece in cuts]),
            Column("from s", about.seconds("from"), [seconds(piece.start) for _, _, piece in cuts]),
            Column("to s", about.seconds("to"), [seconds(piece.end) for _, _, piece in cuts]),
            Column("outcome of the call", "call_outcome", [row.outcome for _, row, _ in cuts]),
        ),
    )


def most_telling(rows: Sequence[WaterfallRow]) -> list[WaterfallRow]:
    """Return at most `MOST_ROWS` rows: on the critical path, then failed, then the last to end."""
    ranked = sorted(rows, key=lambda row: (not row.path, not is_failure(row.outcome), -row.end))
    kept = set(map(id, ranked[:MOST_ROWS]))
    return [row for row in rows if id(row) in kept]


def look_of(part: str) -> str:
    """Return the colour of a part of a call's time; client wait has that of `other`."""
    if part == CANCELLED:
        return CANCELLED_LOOK
    return PART_LOOKS["other" if part == "client_wait" else part][1]


def waterfall_panel(
    rows: Iterable[WaterfallRow], seconds: ToSeconds, longest: int, title: str
) -> RowPanel:
    """Return the panel of these rows. `longest`: the end of the axis in nanoseconds."""
    axis = axis_from_zero("seconds since the workflow was ready", seconds(longest))
    return RowPanel(title, tuple(_row(row, seconds) for row in rows), axis, 20)


def _row(row: WaterfallRow, seconds: ToSeconds) -> ChartRow:
    took = f"{number(seconds(row.end - row.start))} s"
    parts = ", ".join(
        f"{words} {number(seconds(length))} s"
        for part, words in DRAWN_PARTS.items()
        if (length := sum(piece.length for piece in row.pieces if piece.part == part))
    )
    ended = "" if row.outcome == OK else f", {row.outcome.replace('_', ' ')}"
    path = f"; {ON_PATH}" if row.path else ""
    bars = [
        *(Bar(seconds(p.start), seconds(p.end), look_of(p.part), low=0.24) for p in row.pieces),
        *(Bar(seconds(start), seconds(end), "path", high=0.16) for start, end in row.path),
    ]
    return ChartRow(
        f"{row.label} ×" if is_failure(row.outcome) else row.label,
        took,
        bars=tuple(bars),
        mark=ON_PATH if row.path else "",
        words=f"{row.label.strip()}: {took}, {counted(row.attempts, 'attempt')}{ended}: "
        f"{parts}{path}.",
    )


def waterfall_legend(panels: Iterable[RowPanel]) -> tuple[Key, ...]:
    """Return the legend of these panels."""
    shown = {bar.look for panel in panels for row in panel.rows for bar in row.bars}
    path = (Key("path", "critical path"),) if "path" in shown else ()
    return (*part_keys(shown), *path)


def waterfall_notes(panels: Iterable[RowPanel]) -> list[str]:
    """Return notes that explain the signs in these panels."""
    failed = any(row.label.endswith("×") for panel in panels for row in panel.rows)
    return ["×: the call failed."] if failed else []
