"""Charts with a row for each cell: latency, throughput, repeats, phases and time spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from harness.analysis.cells import makespan
from harness.analysis.model import Cell, Figure, Summary
from harness.analysis.selection import Dataset
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED
from harness.records.schema import Workflow
from harness.report.charts.model import (
    MODE_LOOKS,
    PART_LOOKS,
    Axis,
    Bar,
    Chart,
    ChartRow,
    Dot,
    Key,
    RowPanel,
    Tick,
    axis_end,
    axis_from_zero,
    extremes,
    log_axis,
    runs_out,
    scattered,
    stacked,
)
from harness.report.columns import distribution_columns, rate_columns
from harness.report.tables import Column, Subject, Table
from harness.report.wording import (
    headline,
    in_seconds,
    losses,
    number,
    percent,
    rate_unit,
    scaled,
    sentence,
    spoken,
    value_of,
)

MOST_DOTS = 60
"""With more workflows in a cell than this, histograms are drawn: dots would hide each other."""

LATENCY_BINS = 48

LEAST_WITH_TEXT = 0.06
"""Shares below this are too narrow on a small screen for a number inside."""

PHASE_LOOKS = ("pink", "sky", "orange", "green", "blue", "dark")

RECOMMENDED = "recommended"


class _Took(NamedTuple):
    """One workflow and its latency in scenario seconds."""

    workflow: Workflow
    seconds: float


def sync_async(about: Subject, data: Dataset) -> Chart | None:
    """Return workflow latency beside throughput, by cell; None without a workflow."""
    took = _latencies(about, data)
    longest = max((one.seconds for ones in took.values() for one in ones), default=0.0)
    if longest <= 0:
        return None
    many = any(len(ones) > MOST_DOTS for ones in took.values())
    marks = (
        "Height: how many workflows; red: degraded or failed"
        if many
        else "Dots: workflows; hollow: degraded, cross: failed"
    )
    latency = _latency_panel(about, took, longest * 1.02, many=many)
    throughput, known = _throughput_panel(about)
    medians = [value_of(in_seconds(c.workflow_latency_s.p50, about.summary)) for c in about.cells]
    words = extremes((row.label for row in latency.rows), medians, "s")
    warm_up = any(cell.warm_up for cell in about.cells)
    return Chart(
        "Workflow latency and throughput",
        _fastest(about.summary),
        f"Workflow latency by cell, medians. {words} Beside it throughput.",
        (
            f"{marks}. Tall stroke: the median, with its 95\u00a0% interval where it has one.",
            *["The median leaves the warm-up out."] * warm_up,
            *[
                "Throughput counts every workflow that ended; solid: goodput, those that "
                "succeeded. Strokes: its 95\u00a0% interval over repeats."
            ] * bool(known),
            *runs_out(known),
        ),
        (latency, throughput) if known else (latency,),
        (),
        about.of_cells(
            "workflow-latency", "Workflow latency, ready to done, in seconds",
            [
                *distribution_columns(
                    about, "workflow_latency", [cell.workflow_latency_s for cell in about.cells]
                ),
                *rate_columns(about),
            ],
        ),
        across=2,
        more=(_bins_table(about, took, latency.axis) if many else _workflow_table(about, took),),
    )  # fmt: skip


def _fastest(summary: Summary) -> str:
    compared = [
        cell
        for cell in summary.cells
        if cell.mode != "sync" and cell.speedup_over_sync and cell.workflows.ok
    ]
    if not compared:
        if not any(cell.workflows.ok for cell in summary.cells):
            return "Workflow latency and throughput by cell (no workflow ended ok)"
        return "Workflow latency and throughput by cell (sync beside async was not run)"
    best = headline(compared, summary)
    return (
        f"{sentence(spoken(best, summary.cells))} ran the workflows "
        f"{number(value_of(best.speedup_over_sync))} times as fast as sync{losses(best)}"
    )


def _latencies(about: Subject, data: Dataset) -> dict[str, list[_Took]]:
    scale = SECOND * about.summary.time_scale
    return {
        name: [_Took(one, (one.done - one.ready) / scale) for one in cell.workflows]
        for name, cell in data.cells.items()
    }


def _mark(about: Subject, cell: Cell) -> str:
    return RECOMMENDED if cell.id == about.summary.recommendation.cell else ""


def _latency_panel(
    about: Subject, took: dict[str, list[_Took]], end: float, *, many: bool
) -> RowPanel:
    axis = axis_from_zero("seconds from ready to done", end)
    rows = []
    for cell in about.cells:
        median = in_seconds(cell.workflow_latency_s.p50, about.summary)
        dots = tuple(_dot(at, one, cell.mode) for at, one in enumerate(took[cell.id]))
        rows.append(
            ChartRow(
                about.labels[cell.id],
                number(value_of(median)) if took[cell.id] else "no workflow",
                bars=_histogram(took[cell.id], cell.mode, axis) if many else (),
                dots=() if many else dots,
                interval=median,
                mark=_mark(about, cell),
            )
        )
    return RowPanel("workflow latency", tuple(rows), axis, 48 if many else 30, "median")


def _dot(at: int, took: _Took, mode: str) -> Dot:
    match took.workflow.outcome:
        case "ok":
            return Dot(took.seconds, MODE_LOOKS[mode], "filled", scattered(at))
        case "degraded":
            return Dot(took.seconds, MODE_LOOKS[mode], "hollow", scattered(at))
        case _:
            return Dot(took.seconds, "vermillion", "cross", scattered(at))


def _bin(seconds: float, axis: Axis) -> int:
    return min(int(seconds / axis.end * LATENCY_BINS), LATENCY_BINS - 1)


def _histogram(took: Sequence[_Took], mode: str, axis: Axis) -> tuple[Bar, ...]:
    every = Counter(_bin(one.seconds, axis) for one in took)
    lossy = Counter(_bin(one.seconds, axis) for one in took if one.workflow.outcome != "ok")
    most, width = max(every.values(), default=1), axis.end / LATENCY_BINS
    bars = []
    for at, count in sorted(every.items()):
        failed = lossy[at] / most
        for look, low, high in (
            ("vermillion", 0.0, failed),
            (MODE_LOOKS[mode], failed, count / most),
        ):
            if high > low:
                bars.append(Bar(at * width, (at + 1) * width, look, low=low, high=high))
    return tuple(bars)


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


def _bins_table(about: Subject, took: dict[str, list[_Took]], axis: Axis) -> Table:
    counts = Counter(
        (place, _bin(one.seconds, axis), one.workflow.outcome)
        for place, cell in enumerate(about.cells)
        for one in took[cell.id]
    )
    rows = sorted(counts.items())
    width = axis.end / LATENCY_BINS
    return Table(
        "workflow-latency-histogram",
        "Workflows by latency",
        (
            *about.cell_columns([about.cells[place] for (place, _, _), _ in rows]),
            Column("from", about.seconds("from"), [at * width for (_, at, _), _ in rows]),
            Column("to", about.seconds("to"), [(at + 1) * width for (_, at, _), _ in rows]),
            Column("outcome", "outcome", [outcome for (_, _, outcome), _ in rows]),
            Column("workflows", "workflows", [count for _, count in rows]),
        ),
    )


def _throughput_panel(about: Subject) -> tuple[RowPanel, list[Figure]]:
    """Return the panel, and the rates that are known."""
    unit, factor = rate_unit(about.summary)
    rates = [scaled(cell.throughput.workflows_per_s, factor) for cell in about.cells]
    rows = []
    for cell, rate in zip(about.cells, rates, strict=True):
        good = (value_of(cell.goodput_workflows_per_s) or 0.0) * factor
        look, every = MODE_LOOKS[cell.mode], value_of(rate) or 0.0
        bars = (Bar(0, min(good, every), look), Bar(min(good, every), every, look, pale=True))
        rows.append(
            ChartRow(
                about.labels[cell.id],
                number(value_of(rate)),
                bars=tuple(bar for bar in bars if bar.end > bar.start),
                interval=rate,
                mark=_mark(about, cell),
            )
        )
    known = [rate for rate in rates if rate is not None]
    axis = axis_from_zero(f"workflows {unit}", axis_end(known) * 1.02)
    return RowPanel("throughput", tuple(rows), axis, 30, "mean"), known


def repeats(about: Subject, data: Dataset) -> Chart | None:
    """Return every whole trial's makespan by cell; None when no cell has two."""
    summary = about.summary
    taken = {
        name: {
            trial.repeat: seconds
            for trial in cell.whole_trials()
            if (seconds := makespan(trial) / summary.time_scale) > 0
        }
        for name, cell in data.cells.items()
    }
    if not any(len(taken[cell.id]) > 1 for cell in about.cells):
        return None
    means = [in_seconds(cell.makespan_s, summary) for cell in about.cells]
    rows = tuple(
        ChartRow(
            about.labels[cell.id],
            number(value_of(mean)),
            dots=tuple(
                Dot(seconds, MODE_LOOKS[cell.mode], "filled", scattered(repeat))
                for repeat, seconds in taken[cell.id].items()
            ),
            interval=mean,
            mark=_mark(about, cell),
        )
        for cell, mean in zip(about.cells, means, strict=True)
    )
    shown = [seconds for cell in about.cells for seconds in taken[cell.id].values()]
    words = extremes((row.label for row in rows), map(value_of, means), "s")
    bounds = [bound for mean in means if mean for bound in (mean.low, mean.high) if bound]
    low, high = min([*shown, *bounds]), max([*shown, *bounds])
    trials = [(cell, *one) for cell in about.cells for one in taken[cell.id].items()]
    return Chart(
        "How much repeats differ",
        _widest(about, taken),
        f"Makespan of every repeat by cell, means. {words}",
        (
            "Dots: the repeats, each on the same topics in every cell. Tall stroke: the geometric "
            "mean and its 95\u00a0% interval, Student's t on the logs. The same distance is the "
            "same ratio.",
        ),
        (RowPanel("", rows, log_axis("makespan in seconds, logarithmic", low, high), 30, "mean"),),
        (),
        Table(
            "repeats",
            "Makespan of every repeat, in seconds",
            (
                *about.cell_columns([cell for cell, _, _ in trials]),
                Column("repeat", "repeat", [repeat for _, repeat, _ in trials]),
                Column("makespan", about.seconds("makespan"), [value for *_, value in trials]),
            ),
        ),
    )


def _widest(about: Subject, taken: dict[str, dict[int, float]]) -> str:
    spreads = [
        (max(taken[cell.id].values()) / min(taken[cell.id].values()), about.labels[cell.id])
        for cell in about.cells
        if len(taken[cell.id]) > 1
    ]
    widest, name = max(spreads, key=lambda spread: spread[0])
    return f"Repeats of one cell differ by a factor of {number(widest)} at most ({name})"


def phases(about: Subject, data: Dataset) -> Chart | None:
    """Return a workflow's mean latency by cell, cut into its phases; None when none is known."""
    del data
    means = [value_of(in_seconds(c.workflow_latency_s.mean, about.summary)) for c in about.cells]
    longest = max((mean for mean in means if mean is not None), default=0.0)
    names = list(dict.fromkeys(name for cell in about.cells for name in cell.phases))
    if longest <= 0 or not names:
        return None
    looks = {name: PHASE_LOOKS[at % len(PHASE_LOOKS)] for at, name in enumerate(names)}

    def share(cell: Cell, name: str) -> float | None:
        return cell.phases[name].share if name in cell.phases else None

    rows = tuple(
        ChartRow(
            about.labels[cell.id],
            f"{number(mean)} s" if mean else number(mean),
            bars=stacked(
                (looks[name], (share(cell, name) or 0) * (mean or 0), "") for name in names
            ),
            mark=_mark(about, cell),
        )
        for cell, mean in zip(about.cells, means, strict=True)
    )
    words = {name: name.replace("_", "-") for name in names}
    return Chart(
        "Workflow latency by phase",
        "",
        "Mean workflow latency by cell, cut into phases. "
        + extremes((row.label for row in rows), means, "s"),
        ("Each bar is the mean latency of a workflow, divided as the workflows' time was.",),
        (RowPanel("", rows, axis_from_zero("seconds", longest * 1.02), 24, "mean"),),
        tuple(Key(look, words[name]) for name, look in looks.items()),
        about.of_cells(
            "phases", "Share of the workflows' time by phase",
            [
                Column(
                    words[name], f"{name}_share", [share(cell, name) for cell in about.cells],
                    percent,
                )
                for name in names
            ],
        ),
    )  # fmt: skip


def time_spent(about: Subject, data: Dataset) -> Chart | None:
    """Return the shares of the summed call latency by cell; None when no cell has any."""
    del data
    cells = [cell for cell in about.cells if cell.time_spent is not None]
    if not cells:
        return None

    def share(cell: Cell, part: str) -> float:
        return float(getattr(cell.time_spent, part))

    rows = []
    for cell in cells:
        mean = value_of(in_seconds(cell.call_latency_s.mean, about.summary))
        parts = [(look, share(cell, part)) for part, (_, look) in PART_LOOKS.items()]
        rows.append(
            ChartRow(
                about.labels[cell.id],
                f"{number(mean)} s" if mean else number(mean),
                bars=stacked(
                    (look, 100 * value, f"{value * 100:.0f}" if value >= LEAST_WITH_TEXT else "")
                    for look, value in parts
                ),
                mark=_mark(about, cell),
            )
        )
    notes = ["Shares of the summed call latency, failed calls included."]
    if any(CANCELLED in cell.attempts.by_outcome for cell in cells):
        notes.append("Failed attempts: also those broken off because a hedge was faster.")
    waits = extremes(
        (row.label for row in rows), (100 * share(c, "permit_wait") for c in cells), "%"
    )
    ticks = tuple(Tick(value, str(value)) for value in (0, 25, 50, 75, 100))
    axis = Axis("% of the calls' time", 0, 100, ticks)
    return Chart(
        "What the calls' time was spent on",
        _most_lost(about.summary),
        f"Shares of the calls' time by cell. Permit wait: {waits}",
        tuple(notes),
        (RowPanel("", tuple(rows), axis, 26, "mean call"),),
        tuple(Key(look, words) for words, look in PART_LOOKS.values()),
        about.of_cells(
            "time-spent", "Share of the calls' time",
            [
                Column(
                    words, part, [share(cell, part) if cell.time_spent else None
                                  for cell in about.cells],
                    percent,
                )
                for part, (words, _) in PART_LOOKS.items()
            ],
        ),
    )  # fmt: skip


def _most_lost(summary: Summary) -> str:
    """Say which waiting or failing costs most where."""
    lost = [
        (getattr(cell.time_spent, part), PART_LOOKS[part][0], cell.id)
        for cell in summary.cells
        if cell.time_spent is not None
        for part in ("permit_wait", "backoff", "failed_attempts")
        if cell.attempts.failed or part != "failed_attempts"
    ]
    share, part, worst = max(lost)
    if share < 0.01:
        return "Hardly any of the calls' time was lost to permit wait, backoff or failed attempts"
    cell = next(cell for cell in summary.cells if cell.id == worst)
    lost_share = f"{percent(share)} of its calls' time to {part}"
    return f"{sentence(spoken(cell, summary.cells))} lost {lost_share}, the most of all cells"
