"""Workflows call by call: one in sync above the same one in async, or any other one."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.analysis.call_segments import PARTS
from harness.analysis.model import Cell, Summary
from harness.analysis.selection import Dataset
from harness.analysis.settings import policy_of
from harness.records.failures import OK, is_failure
from harness.records.schema import Workflow
from harness.report.charts.model import (
    PART_LOOKS,
    Bar,
    Chart,
    ChartRow,
    Key,
    RowPanel,
    axis_from_zero,
)
from harness.report.path_text import WORDS, ToSeconds, in_scenario_seconds
from harness.report.tables import Column, Subject, Table
from harness.report.waterfall import Waterfall, WaterfallRow, Waterfalls
from harness.report.wording import MODE_NAMES, counted, number, spoken

MOST_ROWS = 40
"""Rows of a workflow that are drawn, unless all are asked for."""

LONGEST_TOPIC = 80
ON_PATH = "on the critical path"


class ExampleWorkflow(NamedTuple):
    """One workflow of one cell."""

    cell: Cell
    workflow: Workflow


def same_workflow_in_both(summary: Summary, data: Dataset) -> list[ExampleWorkflow]:
    """Return the median workflow of the async cell with most permits, after its sync twin.

    Of several such cells the recommended one is taken, else the first. The twin has the same
    retry policy, scope, repeat and workflow, so the same topic; it is absent without a sync cell.
    Successful workflows are preferred; the list is empty when there are no workflows.
    """
    workflows_of = {name: cell.workflows for name, cell in data.cells.items()}
    ran = [cell for cell in summary.cells if workflows_of[cell.id]]
    if not ran:
        return []
    main = max(
        ran,
        key=lambda c: (MODE_NAMES.index(c.mode), c.permits, c.id == summary.recommendation.cell),
    )
    twin_cell = next((cell for cell in ran if _is_twin(cell, main)), None)
    twins = {
        (workflow.repeat, workflow.workflow): workflow
        for workflow in (workflows_of[twin_cell.id] if twin_cell else [])
    }
    found = workflows_of[main.id]
    paired = [workflow for workflow in found if (workflow.repeat, workflow.workflow) in twins]
    both_ok = [
        workflow
        for workflow in paired
        if workflow.outcome == twins[workflow.repeat, workflow.workflow].outcome == OK
    ]
    chosen = median_workflow(both_ok or paired or [w for w in found if w.outcome == OK] or found)
    twin = twins.get((chosen.repeat, chosen.workflow))
    seen = [ExampleWorkflow(main, chosen)]
    return seen if twin is None or twin_cell is None else [ExampleWorkflow(twin_cell, twin), *seen]


def _is_twin(cell: Cell, main: Cell) -> bool:
    return cell.mode == "sync" and policy_of(cell) == policy_of(main) and cell.id != main.id


def median_workflow(workflows: Sequence[Workflow]) -> Workflow:
    """Return the workflow with the median latency, the lower one of two."""
    middle = statistics.median_low(workflow.done - workflow.ready for workflow in workflows)
    return next(w for w in workflows if w.done - w.ready == middle)


def timeline(about: Subject, data: Dataset) -> Chart | None:
    """Return one workflow call by call, sync above async; None without a workflow."""
    summary = about.summary
    seen = same_workflow_in_both(summary, data)
    if not seen:
        return None
    waterfalls = Waterfalls(data)
    drawn = [waterfalls.of(one.workflow) for one in seen]
    seconds = in_scenario_seconds(summary.time_scale)
    took = [number(seconds(one.latency)) for one in drawn]
    longest = max(one.latency for one in drawn)
    panels = tuple(
        waterfall_panel(
            one, most_telling(one.rows), seconds, longest,
            f"{about.labels[cell.id]}: {time} s, {workflow.outcome}",
        )
        for (cell, workflow), one, time in zip(seen, drawn, took, strict=True)
    )  # fmt: skip
    workflow = seen[-1].workflow
    each = (f"{time} s in {spoken(one.cell, summary.cells)}"
            for time, one in zip(took, seen, strict=True))  # fmt: skip
    all_ok = all(one.workflow.outcome == OK for one in seen)
    more = len(drawn[-1].rows) - len(panels[-1].rows)
    return Chart(
        "One workflow, call by call" if len(seen) < 2 else "The same workflow, call by call",
        _comparison(seen, took, summary),
        f"What each call of one workflow waited for. It took {' and '.join(each)}.",
        (
            f"Workflow {workflow.workflow} of repeat {workflow.repeat}, the median of its "
            f"{seen[-1].cell.mode} cell's workflows{' that are ok' if all_ok else ''}; topic: "
            f"{_topic(workflow)}.",
            *[f"{counted(more, 'call')} more: harness trace RUN {drawn[-1].key}"] * (more > 0),
            *waterfall_notes(panels),
        ),
        panels,
        waterfall_legend(panels),
        _cuts_table(about, seen, drawn, seconds),
    )


def _comparison(seen: Sequence[ExampleWorkflow], took: Sequence[str], summary: Summary) -> str:
    if len(seen) == 1:
        return f"One workflow, call by call: {took[0]} s ({spoken(seen[0].cell, summary.cells)})"
    return (
        f"The same workflow takes {took[0]} s one call after another and {took[1]} s with "
        f"{counted(seen[1].cell.permits, 'permit')}"
    )


def _topic(workflow: Workflow) -> str:
    topic = " ".join(workflow.topic.split())
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
        "Every piece, in seconds since the workflow was ready",
        (
            *about.cell_columns([cell for cell, _, _ in cuts]),
            Column("call", "call", [row.label.strip() for _, row, _ in cuts]),
            Column("part", "part", [WORDS[piece.part] for _, _, piece in cuts]),
            Column("from", about.seconds("from"), [seconds(piece.start) for _, _, piece in cuts]),
            Column("to", about.seconds("to"), [seconds(piece.end) for _, _, piece in cuts]),
            Column("outcome of the call", "call_outcome", [row.outcome for _, row, _ in cuts]),
        ),
    )


def most_telling(rows: Sequence[WaterfallRow]) -> list[WaterfallRow]:
    """Return at most `MOST_ROWS` rows: the path's, failed ones, then those that ended last."""
    ranked = sorted(rows, key=lambda row: (not row.held, not is_failure(row.outcome), -row.end))
    kept = set(map(id, ranked[:MOST_ROWS]))
    return [row for row in rows if id(row) in kept]


def look_of(part: str) -> str:
    """Return the colour of a part of a call's time: the client's own wait is one of the others."""
    return PART_LOOKS["other" if part == "client_wait" else part][1]


def waterfall_panel(
    drawn: Waterfall, rows: Iterable[WaterfallRow], seconds: ToSeconds, longest: int, title: str
) -> RowPanel:
    """Return these rows of a workflow, the critical path below its calls.

    `longest`: nanoseconds that the axis reaches to.
    """
    axis = axis_from_zero("seconds since the workflow was ready", seconds(longest))
    return RowPanel(title, tuple(_row(row, seconds) for row in rows), axis, 20)


def _row(row: WaterfallRow, seconds: ToSeconds) -> ChartRow:
    took = f"{number(seconds(row.end - row.start))} s"
    lengths = {
        part: sum(piece.length for piece in row.pieces if piece.part == part) for part in PARTS
    }
    parts = ", ".join(
        f"{WORDS[part]} {number(seconds(length))} s" for part, length in lengths.items() if length
    )
    ended = "" if row.outcome == OK else f", {row.outcome.replace('_', ' ')}"
    path = f"; {ON_PATH}" if row.held else ""
    return ChartRow(
        f"{row.label} ×" if is_failure(row.outcome) else row.label,
        took,
        bars=(
            *(
                Bar(seconds(piece.start), seconds(piece.end), look_of(piece.part), low=0.24)
                for piece in row.pieces
            ),
            *(Bar(seconds(start), seconds(end), "path", high=0.16) for start, end in row.path),
        ),
        mark=ON_PATH if row.held else "",
        words=f"{row.label.strip()}: {took}, {counted(row.attempts, 'attempt')}{ended}: "
        f"{parts}{path}.",
    )


def waterfall_legend(panels: Iterable[RowPanel]) -> tuple[Key, ...]:
    """Return the keys of what these panels show."""
    shown = {bar.look for panel in panels for row in panel.rows for bar in row.bars}
    keys = [Key(look, words) for words, look in PART_LOOKS.values() if look in shown]
    return (*keys, Key("path", "critical path")) if "path" in shown else tuple(keys)


def waterfall_notes(panels: Iterable[RowPanel]) -> list[str]:
    """Return what the signs in these panels mean."""
    failed = any(row.label.endswith("×") for panel in panels for row in panel.rows)
    return ["×: the call failed."] if failed else []
