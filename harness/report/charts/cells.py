"""Charts with a row for each cell: latency, throughput, repeats, phases and time spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from harness.analysis.cells import makespan
from harness.analysis.model import Cell, Figure
from harness.records.clock import SECOND
from harness.records.failures import CANCELLED
from harness.records.schema import Workflow
from harness.records.settings import one_at_a_time
from harness.report.charts.model import (
    CANCELLED_LOOK,
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
    cut_off_note,
    extremes,
    log_axis,
    part_keys,
    scattered,
    stacked,
)
from harness.report.columns import distribution_columns, metric_columns
from harness.report.tables import Column, Subject, Table
from harness.report.wording import (
    baseline,
    dropped_text,
    headline,
    is_one,
    keeps_enough,
    left_out_note,
    losses,
    number,
    percent,
    speedup,
    times_as,
    value_of,
    whole_number,
)

MOST_DOTS = 60
"""Cells with more workflows than this are drawn as histograms: dots would hide each other."""

LATENCY_BINS = 48

LEAST_WITH_TEXT = 0.06
"""Shares below this are too narrow on a small screen for a number inside."""

PHASE_LOOKS = ("pink", "sky", "orange", "green", "blue", "dark")


_Took = tuple[Workflow, float]
"""A workflow and its latency in scenario seconds."""


def _row(about: Subject, cell: Cell, beside: str, **marks: Any) -> ChartRow:
    mark = "recommended" if about.is_recommended(cell) else ""
    dropped = dropped_text(cell, about.summary)
    name = about.labels[cell.id] + (f" (dropped {dropped})" if dropped else "")
    return ChartRow(name, beside, mark=mark, **marks)


def latency_throughput(about: Subject) -> Chart | None:
    """Return workflow latency beside throughput, by cell; None without a workflow."""
    unit = SECOND * about.summary.time_scale
    took = {
        name: [(one, (one.done - one.ready) / unit) for one in cell.workflows]
        for name, cell in about.data.cells.items()
    }
    longest = max((seconds for ones in took.values() for _, seconds in ones), default=0.0)
    if longest <= 0:
        return None
    many = any(len(ones) > MOST_DOTS for ones in took.values())
    has_lost = any(map(losses, about.cells))
    marks = "Height: number of workflows" if many else "Dots: workflows"
    if has_lost:
        marks += "; orange: degraded or failed" if many else "; hollow: degraded; cross: failed"
    latency = _latency_panel(about, took, longest * 1.02, many=many)
    throughput, known = _throughput_panel(about)
    medians = [value_of(about.duration(cell.success_latency_p50_s)) for cell in about.cells]
    words = extremes((row.label for row in latency.rows), medians, "s")
    notes = [
        f"{marks}. Vertical stroke: the median of the workflows that succeeded, with its 95\u00a0% "
        "interval where known."
    ]
    notes += left_out_note(about.cells, about.labels, "median")
    if any(cell.warm_up for cell in about.cells):
        notes.append("The median excludes the warm-up.")
    if known:
        parts = (
            "The solid part of throughput is goodput, the workflows that succeeded; the lighter "
            "part is lost work. "
        )
        notes.append(f"{parts * has_lost}Strokes: 95\u00a0% interval over repeats.")
    latencies = [cell.workflow_latency_s for cell in about.cells]
    return Chart(
        "Workflow latency and throughput",
        _fastest(about),
        f"Median latency of the workflows that succeeded, by setting. {words} "
        "Beside it throughput.",
        (*notes, *cut_off_note(known)),
        (latency, throughput) if known else (latency,),
        (),
        about.of_cells(
            "workflow-latency",
            "Latency of all workflows, from ready to done",
            [
                *distribution_columns(about, "workflow_latency", latencies),
                *metric_columns(about, "speed", about.cells, only="workflows/s"),
            ],
        ),
        across=2,
        more=(_bins_table(about, took, latency.axis) if many else _workflow_table(about, took),),
    )


def _fastest(about: Subject) -> str:
    ok = [cell for cell in about.summary.cells if cell.workflows.ok]
    every = about.summary.cells
    compared = [cell for cell in ok if not one_at_a_time(cell.mode) and speedup(cell, every)]
    if not compared:
        if not ok:
            return "Workflow latency and throughput by setting (no workflow ended ok)"
        best = headline(ok, about.summary)
        rate = number(about.rate(best.goodput_workflows_per_s))
        return f"{about.name(best)}: {rate} workflows {about.rate_unit}{losses(best)}"
    best = headline(compared, about.summary)
    assert best.speedup_over_sync is not None, "it is compared with sync"
    fast = times_as(best.speedup_over_sync, "fast")
    return f"{about.name(best)} ran the workflows {fast} as {baseline(every)}{losses(best)}"


def _latency_panel(
    about: Subject, took: dict[str, list[_Took]], end: float, *, many: bool
) -> RowPanel:
    axis = axis_from_zero("seconds from ready to done", end)
    rows = []
    for cell in about.cells:
        mine = took[cell.id]
        median = about.duration(cell.success_latency_p50_s) if keeps_enough(cell) else None
        bars = _histogram(mine, cell.mode, axis) if many else ()
        dots = () if many else tuple(_dot(at, *one, cell.mode) for at, one in enumerate(mine))
        beside = number(median) if mine else "no workflow"
        rows.append(_row(about, cell, beside, bars=bars, dots=dots, interval=median))
    return RowPanel("workflow latency", tuple(rows), axis, 48 if many else 30, "median")


def _dot(at: int, workflow: Workflow, seconds: float, mode: str) -> Dot:
    if workflow.outcome == "failed":
        return Dot(seconds, "vermillion", "cross", scattered(at))
    shape: Literal["filled", "hollow"] = "filled" if workflow.outcome == "ok" else "hollow"
    return Dot(seconds, MODE_LOOKS[mode], shape, scattered(at))


def _bin(seconds: float, axis: Axis) -> int:
    return min(int(seconds / axis.end * LATENCY_BINS), LATENCY_BINS - 1)


def _histogram(took: Sequence[_Took], mode: str, axis: Axis) -> tuple[Bar, ...]:
    every = Counter(_bin(seconds, axis) for _, seconds in took)
    lossy = Counter(_bin(seconds, axis) for one, seconds in took if one.outcome != "ok")
    most, width = max(every.values(), default=1), axis.end / LATENCY_BINS
    bars = []
    for at, count in sorted(every.items()):
        start, end, failed, top = at * width, (at + 1) * width, lossy[at] / most, count / most
        bars.append(Bar(start, end, "vermillion", low=0.0, high=failed))
        bars.append(Bar(start, end, MODE_LOOKS[mode], low=failed, high=top))
    return tuple(bar for bar in bars if bar.high > bar.low)


def _workflow_table(about: Subject, took: dict[str, list[_Took]]) -> Table:
    rows = [(cell, *one) for cell in about.cells for one in took[cell.id]]
    return Table(
        "workflows",
        "Every workflow",
        (
            *about.cell_columns([cell for cell, _, _ in rows]),
            *(
                column
                for name in ("repeat", "workflow")
                for numbers in [[getattr(workflow, name) for _, workflow, _ in rows]]
                for column in (
                    Column(name, "", [number + 1 for number in numbers]),
                    Column("", name, numbers),
                )
            ),
            Column("topic", "topic", [workflow.topic for _, workflow, _ in rows]),
            Column("outcome", "outcome", [workflow.outcome for _, workflow, _ in rows]),
            Column("latency s", about.seconds("latency"), [seconds for _, _, seconds in rows]),
        ),
    )


def _bins_table(about: Subject, took: dict[str, list[_Took]], axis: Axis) -> Table:
    counts = Counter(
        (place, _bin(seconds, axis), workflow.outcome)
        for place, cell in enumerate(about.cells)
        for workflow, seconds in took[cell.id]
    )
    rows = sorted(counts.items())
    width = axis.end / LATENCY_BINS
    return Table(
        "workflow-latency-histogram",
        "Workflows by latency",
        (
            *about.cell_columns([about.cells[place] for (place, _, _), _ in rows]),
            Column("from s", about.seconds("from"), [at * width for (_, at, _), _ in rows]),
            Column("to s", about.seconds("to"), [(at + 1) * width for (_, at, _), _ in rows]),
            Column("outcome", "outcome", [outcome for (_, _, outcome), _ in rows]),
            Column("workflows", "workflows", [count for _, count in rows]),
        ),
    )


def _throughput_panel(about: Subject) -> tuple[RowPanel, list[Figure]]:
    """Return the panel, and the rates that are known."""
    rates = [about.rate(cell.throughput.workflows_per_s) for cell in about.cells]
    rows = []
    for cell, rate in zip(about.cells, rates, strict=True):
        look, every = MODE_LOOKS[cell.mode], value_of(rate) or 0.0
        goodput = about.rate(cell.goodput_workflows_per_s)
        good = min(value_of(goodput) or 0.0, every)
        bars = (Bar(0, good, look), Bar(good, every, look, pale=True))
        visible = tuple(bar for bar in bars if bar.end > bar.start)
        rows.append(_row(about, cell, number(goodput), bars=visible, interval=goodput))
    known = [rate for rate in rates if rate is not None]
    axis = axis_from_zero(f"workflows {about.rate_unit}", axis_end(known) * 1.02)
    return RowPanel("throughput", tuple(rows), axis, 30, "goodput"), known


def repeats(about: Subject) -> Chart | None:
    """Return the makespan of every whole trial by cell; None when no cell has two."""
    taken = {
        name: {
            trial.repeat: seconds
            for trial in cell.whole_trials()
            if (seconds := makespan(trial) / about.summary.time_scale) > 0
        }
        for name, cell in about.data.cells.items()
    }
    trials = [(cell, *one) for cell in about.cells for one in taken[cell.id].items()]
    spreads = [
        (max(own.values()) / min(own.values()), about.labels[cell.id])
        for cell in about.cells
        if len(own := taken[cell.id]) > 1
    ]
    if not spreads:
        return None
    means = [about.duration(cell.makespan_s) for cell in about.cells]
    rows = []
    for cell, mean in zip(about.cells, means, strict=True):
        dots = tuple(
            Dot(seconds, MODE_LOOKS[cell.mode], "filled", scattered(repeat))
            for repeat, seconds in taken[cell.id].items()
        )
        rows.append(_row(about, cell, number(mean), dots=dots, interval=mean))
    words = extremes((row.label for row in rows), map(value_of, means), "s")
    bounds = [bound for mean in means if mean for bound in (mean.low, mean.high) if bound]
    ends = [*(seconds for *_, seconds in trials), *bounds]
    axis = log_axis("makespan in seconds, logarithmic", min(ends), max(ends))
    widest, name = max(spreads, key=lambda spread: spread[0])
    apart = percent(widest - 1) if is_one(widest) else f"a factor of {number(widest)}"
    return Chart(
        "Differences between repeats",
        f"Repeats of one setting differ by {apart} at most ({name})",
        f"Makespan of every repeat by setting, means. {words}",
        (
            "Dots: repeats; repeat n has the same topics in every setting. Vertical stroke: the "
            "geometric mean with its 95\u00a0% interval (Student's t on the logarithms). Equal "
            "distances are equal ratios.",
        ),
        (RowPanel("", tuple(rows), axis, 30, "mean"),),
        (),
        Table(
            "repeats",
            "Makespan of every repeat",
            (
                *about.cell_columns([cell for cell, _, _ in trials]),
                Column("repeat", "", [repeat + 1 for _, repeat, _ in trials], whole_number),
                Column("", "repeat", [repeat for _, repeat, _ in trials]),
                Column("makespan s", about.seconds("makespan"), [value for *_, value in trials]),
            ),
        ),
    )


def phases(about: Subject) -> Chart | None:
    """Return the mean latency of a workflow by cell, divided into phases; None if unknown."""
    means = [value_of(about.duration(cell.workflow_latency_s.mean)) for cell in about.cells]
    longest = max((mean for mean in means if mean is not None), default=0.0)
    names = list(dict.fromkeys(name for cell in about.cells for name in cell.phases))
    if longest <= 0 or not names:
        return None
    looks = {name: PHASE_LOOKS[at % len(PHASE_LOOKS)] for at, name in enumerate(names)}
    words = {name: name.replace("_", "-") for name in names}

    def share(cell: Cell, name: str) -> float | None:
        return cell.phases[name].share if name in cell.phases else None

    rows = []
    for cell, mean in zip(about.cells, means, strict=True):
        parts = ((looks[name], (share(cell, name) or 0) * (mean or 0), "") for name in names)
        rows.append(_row(about, cell, _in_s(mean), bars=stacked(parts)))
    columns = [
        Column(words[name], f"{name}_share", [share(cell, name) for cell in about.cells], percent)
        for name in names
    ]
    return Chart(
        "Workflow latency by phase",
        "",
        "Mean workflow latency by setting, divided into phases. "
        + extremes((row.label for row in rows), means, "s"),
        ("Each bar is the mean latency of a workflow, divided by the phases' shares of the time.",),
        (RowPanel("", tuple(rows), axis_from_zero("seconds", longest * 1.02), 24, "mean"),),
        tuple(Key(look, words[name]) for name, look in looks.items()),
        about.of_cells("phases", "Share of the workflows' time by phase", columns),
    )


def _in_s(mean: float | None) -> str:
    return f"{number(mean)} s" if mean else number(mean)


def time_chart(about: Subject) -> Chart | None:
    """Return the shares of the summed call latency by cell; None when no cell has any."""
    cells = [cell for cell in about.cells if cell.time_spent is not None]
    if not cells:
        return None

    def share(cell: Cell, part: str) -> float:
        return float(getattr(cell.time_spent, part))

    rows = []
    for cell in cells:
        only_hedges = not cell.attempts.failed and CANCELLED in cell.attempts.by_outcome
        looks = {"failed_attempts": CANCELLED_LOOK} if only_hedges else {}
        parts = [
            (looks.get(part, look), share(cell, part)) for part, (_, look) in PART_LOOKS.items()
        ]
        bars = stacked(
            (look, 100 * value, f"{value * 100:.0f}" if value >= LEAST_WITH_TEXT else "")
            for look, value in parts
        )
        mean = value_of(about.duration(cell.call_latency_s.mean))
        rows.append(_row(about, cell, _in_s(mean), bars=bars))
    notes = ["Shares of the summed latency of all calls, failed calls included."]
    if any(CANCELLED in cell.attempts.by_outcome for cell in cells):
        notes += ["Failed attempts include those that were cancelled because a hedge was faster."]
    waits = [100 * share(cell, "permit_wait") for cell in cells]
    words = extremes((row.label for row in rows), waits, "%")
    ticks = tuple(Tick(value, str(value)) for value in (0, 25, 50, 75, 100))
    axis = Axis("% of the calls' time", 0, 100, ticks)
    columns = [
        Column(name, part, [share(c, part) if c.time_spent else None for c in about.cells], percent)
        for part, (name, _) in PART_LOOKS.items()
    ]
    return Chart(
        "Where the calls' time went",
        _most_lost(about),
        f"Shares of the calls' time by setting. Permit wait: {words}",
        tuple(notes),
        (RowPanel("", tuple(rows), axis, 26, "mean call"),),
        part_keys(bar.look for row in rows for bar in row.bars),
        about.of_cells("time-spent", "Share of the calls' time", columns),
    )


def _most_lost(about: Subject) -> str:
    lost = [
        (getattr(cell.time_spent, part), PART_LOOKS[part][0], cell)
        for cell in about.cells
        if cell.time_spent is not None
        for part in ("permit_wait", "backoff", "failed_attempts")
        if cell.attempts.failed or part != "failed_attempts"
    ]
    share, part, cell = max(lost, key=lambda one: (*one[:2], one[2].id))
    if share < 0.01:
        return "Less than 1 % of the calls' time was permit wait, backoff or failed attempts"
    return (
        f"{about.name(cell)} spent {percent(share)} of its calls' time in {part}, the most of all"
    )
