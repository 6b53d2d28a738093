"""The cells side by side: how long workflows took, and how many were done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.analysis.model import Figure
from harness.analysis.selection import Dataset
from harness.records.clock import SECOND
from harness.records.schema import Workflow
from harness.report.html.chart_model import (
    Bar,
    Chart,
    ChartRow,
    Dot,
    RowChart,
    Scale,
    extremes,
    interval,
    ticks,
)
from harness.report.html.columns import distribution_columns, rate_columns
from harness.report.tables import Column, Subject, Table
from harness.report.plots.style import axis_end, runs_out
from harness.report.wording import in_seconds, number, rate_unit, scaled, value_of
from harness.store.run_directory import Records

MOST_DOTS = 60
"""With more workflows in a cell than this, histograms are drawn: dots would hide each other."""

BINS = 48
HEIGHT, HISTOGRAM_HEIGHT = 30, 48
"""Of a row, in pixels."""


class _Took(NamedTuple):
    """One workflow and its latency in scenario seconds."""

    workflow: Workflow
    seconds: float


def latency_chart(about: Subject, records: Records) -> Chart | None:
    """Draw every workflow's latency by cell, from ready to done; None without a workflow."""
    summary = about.summary
    took = _latencies(about, records)
    longest = max((one.seconds for ones in took.values() for one in ones), default=0.0)
    if longest <= 0:
        return None
    scale = Scale(longest * 1.02)
    many = any(len(ones) > MOST_DOTS for ones in took.values())
    height = HISTOGRAM_HEIGHT if many else HEIGHT
    medians = [in_seconds(cell.workflow_latency_s.p50, summary) for cell in about.cells]
    lines = tuple(
        ChartRow(
            about.labels[cell.id],
            number(value_of(median)),
            bars=_histogram(took[cell.id], cell.mode, scale) if many else (),
            dots=() if many else tuple(_dots(took[cell.id], cell.mode, scale)),
            interval=None if median is None else interval(median, scale),
            marked=cell.id == summary.recommendation.cell,
        )
        for cell, median in zip(about.cells, medians, strict=True)
    )
    marks = (
        "Height: how many workflows; red: degraded or failed"
        if many
        else "Dots: workflows; hollow: degraded, cross: failed"
    )
    words = extremes((line.label for line in lines), map(value_of, medians), "s")
    return Chart(
        "workflow-latency",
        "Workflow latency",
        f"Workflow latency by cell, medians. {words}",
        (f"{marks}. Tall stroke: the median, with its 95\u00a0% interval where it has one.",),
        "rows",
        (RowChart("", lines, ticks(scale), "seconds from ready to done", height, "median"),),
        (),
        about.of_cells(
            "workflow-latency", "Workflow latency, ready to done, in seconds",
            distribution_columns(
                about, "workflow_latency", [cell.workflow_latency_s for cell in about.cells]
            ),
        ),
        more=(_bins_table(about, took, scale) if many else _workflow_table(about, took),),
    )  # fmt: skip


def _latencies(about: Subject, records: Records) -> dict[str, list[_Took]]:
    scale = SECOND * about.summary.time_scale
    return {
        name: [_Took(one, (one.done - one.ready) / scale) for one in cell.workflows]
        for name, cell in Dataset.of(records).cells.items()
    }


def _dots(took: Sequence[_Took], mode: str, scale: Scale) -> Iterable[Dot]:
    for at, (workflow, seconds) in enumerate(took):
        # Steps of the golden ratio keep neighbours apart and are the same every time.
        aside = (at * 0.618034 % 1 - 0.5) * 0.55
        y = round(HEIGHT * (0.5 + aside), 1)
        yield Dot(scale.place(seconds), y, mode, workflow.outcome)


def _bin(seconds: float, scale: Scale) -> int:
    return min(int(seconds / scale.end * BINS), BINS - 1)


def _histogram(took: Sequence[_Took], mode: str, scale: Scale) -> tuple[Bar, ...]:
    every = Counter(_bin(one.seconds, scale) for one in took)
    lossy = Counter(_bin(one.seconds, scale) for one in took if one.workflow.outcome != "ok")
    most = max(every.values(), default=1)
    width = 100 / BINS
    return tuple(
        Bar(round(at * width, 3), round(width, 3), look, height=round(count / most, 3))
        for look, counts in ((mode, every), ("failed", lossy))
        for at, count in sorted(counts.items())
    )


def _workflow_table(about: Subject, took: dict[str, list[_Took]]) -> Table:
    rows = [(cell, *one) for cell in about.cells for one in took[cell.id]]
    return Table(
        "workflows",
        "Every workflow",
        (
            *about.cell_columns([cell for cell, _, _ in rows]),
            Column("repeat", "repeat", [workflow.repeat for _, workflow, _ in rows]),
            Column("workflow", "workflow", [workflow.workflow for _, workflow, _ in rows]),
            Column("topic", "topic", [workflow.topic for _, workflow, _ in rows]),
            Column("outcome", "outcome", [workflow.outcome for _, workflow, _ in rows]),
            Column("latency", about.seconds("latency"), [seconds for _, _, seconds in rows]),
        ),
    )


def _bins_table(about: Subject, took: dict[str, list[_Took]], scale: Scale) -> Table:
    rows = [
        (cell, at, outcome, count)
        for cell in about.cells
        for (at, outcome), count in sorted(
            Counter(
                (_bin(one.seconds, scale), one.workflow.outcome) for one in took[cell.id]
            ).items()
        )
    ]
    width = scale.end / BINS
    return Table(
        "workflow-latency-histogram",
        "Workflows by latency",
        (
            *about.cell_columns([cell for cell, *_ in rows]),
            Column("from", about.seconds("from"), [at * width for _, at, _, _ in rows]),
            Column("to", about.seconds("to"), [(at + 1) * width for _, at, _, _ in rows]),
            Column("outcome", "outcome", [outcome for _, _, outcome, _ in rows]),
            Column("workflows", "workflows", [count for *_, count in rows]),
        ),
    )


def throughput_chart(about: Subject) -> Chart | None:
    """Draw workflows ended and workflows succeeded per time, by cell; None where none is known."""
    summary = about.summary
    unit, factor = rate_unit(summary)
    rates = [scaled(cell.throughput.workflows_per_s, factor) for cell in about.cells]
    good = [scaled(cell.goodput_workflows_per_s, factor) for cell in about.cells]
    known = [rate for rate in rates if rate is not None]
    if not known:
        return None
    scale = Scale(axis_end(known) * 1.02)
    lines = tuple(
        ChartRow(
            about.labels[cell.id],
            number(value_of(rate)),
            bars=tuple(_rate_bars(rate, value_of(useful), cell.mode, scale)),
            interval=None if rate is None else interval(rate, scale),
            marked=cell.id == summary.recommendation.cell,
        )
        for cell, rate, useful in zip(about.cells, rates, good, strict=True)
    )
    words = extremes((line.label for line in lines), map(value_of, rates), f"workflows {unit}")
    return Chart(
        "throughput",
        "Throughput",
        f"Throughput by cell. {words}",
        (
            "Bar: every workflow that ended; its solid part: goodput, those that succeeded. "
            "Strokes: the 95\u00a0% interval of throughput over repeats.",
            *runs_out(known),
        ),
        "rows",
        (RowChart("", lines, ticks(scale), f"workflows {unit}", HEIGHT, "throughput"),),
        (),
        about.of_cells("throughput", f"Workflows {unit}", rate_columns(about)),
    )


def _rate_bars(rate: Figure | None, good: float | None, mode: str, scale: Scale) -> Iterable[Bar]:
    if rate is not None:
        yield Bar(0, scale.place(rate.value), f"{mode} pale")
    if good:
        yield Bar(0, scale.place(good), mode)
