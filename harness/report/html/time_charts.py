"""Where the time went: by phase, by part of a call, and in one workflow looked at closely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.analysis.call_segments import CallSegment
from harness.analysis.model import Cell, Distribution, Summary
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.schema import PHASES, Call, Workflow
from harness.report.html.chart_model import (
    Bar,
    Chart,
    ChartRow,
    Key,
    RowChart,
    Scale,
    Tick,
    extremes,
    ticks,
)
from harness.report.html.columns import distribution_columns
from harness.report.tables import Column, Subject, Table, whole_number
from harness.report.plots.example_workflow import ExampleWorkflow, same_workflow_in_both
from harness.report.plots.style import PART_STYLES
from harness.report.plots.time_spent import drawn_segments
from harness.report.wording import in_seconds, number, percent, spoken, value_of
from harness.store.run_directory import Records

LEAST_WITH_TEXT = 0.06
"""Shares below this are too narrow on a small screen for a number inside."""

CALLS = {
    "call_latency": "Call latency, ready to done",
    "ttft": "Time to first token",
    "time_to_first_answer": "Time to first answer",
}
WAITS = {
    "inter_token": "Inter-token latency",
    "permit_wait": "Permit wait",
    "client_wait": "Client wait",
    "backoff": "Backoff",
}
"""The distributions of a cell that are told by call or attempt, in words."""


def phase_chart(about: Subject) -> Chart | None:
    """Draw a workflow's mean latency by cell, cut into its phases; None when none is known."""
    summary = about.summary
    means = [value_of(in_seconds(c.workflow_latency_s.mean, summary)) for c in about.cells]
    longest = max((mean for mean in means if mean is not None), default=0.0)
    if longest <= 0:
        return None
    scale = Scale(longest * 1.02)
    lines = tuple(
        ChartRow(
            about.labels[cell.id],
            f"{number(mean)} s" if mean else number(mean),
            bars=_stack([(name, part * (mean or 0)) for name, part in _phase_shares(cell)], scale),
            marked=cell.id == summary.recommendation.cell,
        )
        for cell, mean in zip(about.cells, means, strict=True)
    )
    words = extremes((line.label for line in lines), means, "s")
    return Chart(
        "phases",
        "Workflow latency by phase",
        f"Mean workflow latency by cell, cut into phases. {words}",
        ("Each bar is the mean latency of a workflow, divided as the workflows' time was.",),
        "rows",
        (RowChart("", lines, ticks(scale), "seconds", 24, "mean"),),
        tuple(Key(f"phase-{name}", name.replace("_", "-")) for name in PHASES),
        about.of_cells(
            "phases", "Share of the workflows' time by phase",
            [
                Column(
                    name.replace("_", "-"), f"{name}_share",
                    [cell.phases[name].share if name in cell.phases else None
                     for cell in about.cells],
                    percent,
                )
                for name in PHASES
            ],
        ),
    )  # fmt: skip


def _phase_shares(cell: Cell) -> list[tuple[str, float]]:
    return [
        (f"phase-{name}", share)
        for name in PHASES
        if name in cell.phases and (share := cell.phases[name].share) is not None
    ]


def _stack(
    parts: Sequence[tuple[str, float]], scale: Scale, texts: bool = False
) -> tuple[Bar, ...]:
    bars, start = [], 0.0
    for look, value in parts:
        if value > 0:
            x = scale.place(start)
            text = f"{value * 100:.0f}" if texts and value >= LEAST_WITH_TEXT else ""
            bars.append(Bar(x, round(scale.place(start + value) - x, 3), look, text))
        start += value
    return tuple(bars)


def phase_tables(about: Subject) -> list[Table]:
    """Return a table for each phase that any workflow came to: its latency, its failures."""
    return [
        _phase_table(about, name, name.replace("_", "-"))
        for name in PHASES
        if any(name in cell.phases and cell.phases[name].latency_s.n for cell in about.cells)
    ]


def _phase_table(about: Subject, name: str, words: str) -> Table:
    ran = [cell.phases.get(name) for cell in about.cells]
    nothing = Distribution(n=0, mean=None, p50=None, p95=None, p99=None)
    spread = [nothing if phase is None else phase.latency_s for phase in ran]
    failed = [None if phase is None else phase.failed for phase in ran]
    return about.of_cells(
        f"phase-{words}",
        f"Phase {words}: latency in seconds",
        (
            *distribution_columns(about, name, spread),
            Column("failed", f"{name}_failed", failed, whole_number),
        ),
    )


def call_tables(about: Subject, names: Mapping[str, str]) -> list[Table]:
    """Return a table for each of these durations, in words by name, that anything is known of."""
    spreads = {name: [getattr(cell, f"{name}_s") for cell in about.cells] for name in names}
    return [
        about.of_cells(
            name.replace("_", "-"),
            f"{names[name]}, in seconds",
            distribution_columns(about, name, spread),
        )
        for name, spread in spreads.items()
        if any(one.n for one in spread)
    ]


def time_spent_chart(about: Subject) -> Chart | None:
    """Draw the shares of the summed call latency by cell; None when no cell has any."""
    cells = [cell for cell in about.cells if cell.time_spent is not None]
    if not cells:
        return None
    scale = Scale(1.0)
    lines = []
    for cell in cells:
        mean = value_of(in_seconds(cell.call_latency_s.mean, about.summary))
        shares = [(f"part-{part}", getattr(cell.time_spent, part)) for part in PART_STYLES]
        lines.append(
            ChartRow(
                about.labels[cell.id], f"{number(mean)} s" if mean else number(mean),
                bars=_stack(shares, scale, texts=True),
                marked=cell.id == about.summary.recommendation.cell,
            )
        )  # fmt: skip
    waits = [100 * cell.time_spent.permit_wait for cell in cells if cell.time_spent]
    words = extremes((line.label for line in lines), waits, "%")
    return Chart(
        "time-spent",
        "What the calls' time was spent on",
        f"Shares of the calls' time by cell. Permit wait: {words}",
        ("Shares of the summed call latency, failed calls included.",),
        "rows",
        (RowChart("", tuple(lines), _percent_ticks(), "% of the calls' time", 26, "mean call"),),
        tuple(Key(f"part-{part}", words) for part, (words, _) in PART_STYLES.items()),
        about.of_cells(
            "time-spent", "Share of the calls' time",
            [
                Column(
                    words, part,
                    [None if cell.time_spent is None else getattr(cell.time_spent, part)
                     for cell in about.cells],
                    percent,
                )
                for part, (words, _) in PART_STYLES.items()
            ],
        ),
    )  # fmt: skip


def _percent_ticks() -> tuple[Tick, ...]:
    return tuple(Tick(at, str(at)) for at in (0, 25, 50, 75, 100))


class _Cut(NamedTuple):
    """One piece of a call of one of the workflows in the timeline."""

    seen: ExampleWorkflow
    row: str
    call: Call
    piece: CallSegment


def timeline_chart(about: Subject, records: Records) -> Chart | None:
    """Draw one workflow call by call, sync above async; None without a workflow."""
    summary = about.summary
    seen = same_workflow_in_both(summary, records)
    if not seen:
        return None
    scale = Scale(max(_seconds(one.workflow, summary) for one in seen) * 1.02)
    cuts = [
        _Cut(one, _row(call), call, piece)
        for one in seen
        for call, attempts in sorted(one.calls, key=lambda pair: _place(pair[0]))
        for piece in drawn_segments(call, attempts)
    ]
    workflow = seen[-1].workflow
    took = " and ".join(
        f"{number(_seconds(one.workflow, summary))} s in {spoken(one.cell, summary.cells)}"
        for one in seen
    )
    shown = {cut.piece.part for cut in cuts}
    return Chart(
        "timeline",
        "The same workflow, call by call" if len(seen) > 1 else "One workflow, call by call",
        f"What each call of one workflow waited for. It took {took}.",
        (
            f"Workflow {workflow.workflow} of repeat {workflow.repeat}, the median of its "
            f"{seen[-1].cell.mode} cell's workflows; topic: {_topic(workflow)}.",
        ),
        "rows",
        tuple(_panel(about, one, cuts, scale) for one in seen),
        tuple(
            Key(f"part-{part}", words) for part, (words, _) in PART_STYLES.items() if part in shown
        ),
        _cuts_table(about, cuts),
    )


def _panel(about: Subject, seen: ExampleWorkflow, cuts: Sequence[_Cut], scale: Scale) -> RowChart:
    ready, unit = seen.workflow.ready, SECOND * about.summary.time_scale
    mine = [cut for cut in cuts if cut.seen is seen]
    lines = []
    for row in dict.fromkeys(cut.row for cut in mine):
        bars, failed = [], ""
        for cut in mine:
            if cut.row == row:
                start = scale.place((cut.piece.start - ready) / unit)
                end = scale.place((cut.piece.end - ready) / unit)
                bars.append(Bar(start, round(end - start, 3), f"part-{cut.piece.part}"))
                failed = "" if cut.call.outcome == OK else cut.call.outcome.replace("_", " ")
        lines.append(ChartRow(row, failed, bars=tuple(bars)))
    took = number(_seconds(seen.workflow, about.summary))
    title = f"{about.labels[seen.cell.id]}: {took} s, {seen.workflow.outcome}"
    return RowChart(title, tuple(lines), ticks(scale), "seconds since the workflow was ready", 18)


def _cuts_table(about: Subject, cuts: Sequence[_Cut]) -> Table:
    def seconds(cut: _Cut, at: int) -> float:
        return (at - cut.seen.workflow.ready) / SECOND / about.summary.time_scale

    cells = [cut.seen.cell for cut in cuts]
    return Table(
        "timeline",
        "Every piece, in seconds since the workflow was ready",
        (
            *about.cell_columns(cells),
            Column("call", "call", [cut.row for cut in cuts]),
            Column("part", "part", [PART_STYLES[cut.piece.part][0] for cut in cuts]),
            Column("from", about.seconds("from"), [seconds(cut, cut.piece.start) for cut in cuts]),
            Column("to", about.seconds("to"), [seconds(cut, cut.piece.end) for cut in cuts]),
            Column("outcome of the call", "call_outcome", [cut.call.outcome for cut in cuts]),
        ),
    )


def _seconds(workflow: Workflow, summary: Summary) -> float:
    return (workflow.done - workflow.ready) / SECOND / summary.time_scale


def _topic(workflow: Workflow) -> str:
    topic = " ".join(workflow.topic.split())
    return topic if len(topic) <= 80 else topic[:79] + "…"


def _place(call: Call) -> tuple[int, int, int]:
    order = {name: at for at, name in enumerate(PHASES)}
    return order.get(call.phase, len(order)), call.branch or 0, call.ready


def _row(call: Call) -> str:
    return call.phase if call.branch is None else f"branch {call.branch + 1}"
