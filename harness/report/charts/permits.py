"""What more permits bring: curves over permits, and permits crossed with policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness.analysis.model import Cell, Figure, Summary
from harness.analysis.selection import Dataset
from harness.analysis.settings import identity, policy_of, varying
from harness.report.charts.model import (
    SERIES,
    Axis,
    Chart,
    CurvePanel,
    HeatCell,
    HeatPanel,
    Key,
    Point,
    Reference,
    Series,
    Tick,
    axis_end,
    axis_from_zero,
    extremes,
    legible,
    runs_out,
)
from harness.report.tables import Column, Subject, Table, whole_number
from harness.report.wording import (
    NONE,
    headline,
    in_reading_order,
    in_seconds,
    losses,
    number,
    other_differences,
    percent,
    rate_unit,
    scaled,
    sentence,
    spoken,
    value_of,
)

KNEE = 0.95
"""The knee of a line: the fewest permits with this share of the line's highest throughput."""

ASIDE = 0.07
"""How far apart lines stand at one permit count, in powers of two, so that bars stay apart."""


class PermitCurve(NamedTuple):
    """Cells that differ in permits only, upwards, and their sync cell when there is one."""

    name: str
    cells: tuple[Cell, ...]
    sync: Cell | None


def curves_of(summary: Summary) -> list[PermitCurve]:
    """Group the cells that are not sync into curves, named by what tells them apart."""
    syncs = {policy_of(cell): cell for cell in summary.cells if cell.mode == "sync"}
    drawn = [cell for cell in in_reading_order(summary.cells) if cell.mode != "sync"]
    groups: dict[str, list[Cell]] = {}
    for cell in drawn:
        groups.setdefault(identity(cell, ("permits",)), []).append(cell)
    differences = other_differences(drawn, 18)
    several_modes = "mode" in varying(drawn)
    curves = []
    for cells in groups.values():
        first = cells[0]
        names = [first.mode] if several_modes else []
        names += differences[first.id]
        name = " · ".join(names) or first.retry
        curves.append(PermitCurve(name, tuple(cells), syncs.get(policy_of(first))))
    return curves


def knee(curve: PermitCurve) -> Cell | None:
    """Return the cell from which more permits bring next to nothing; None for a single cell."""
    rates = [(cell, value_of(cell.throughput.workflows_per_s)) for cell in curve.cells]
    known = [(cell, rate) for cell, rate in rates if rate]
    if len(known) < 2:
        return None
    most = max(rate for _, rate in known)
    return next(cell for cell, rate in known if rate >= KNEE * most)


class _Quantity(NamedTuple):
    title: str
    axis: str
    of: Callable[[Cell], Figure | None]
    bounded: bool = True

    def bound(self, cell: Cell) -> float | None:
        """Return what the value would be if the makespan were its critical-path bound."""
        value, makespan = self.of(cell), cell.makespan_s
        if not self.bounded or value is None or makespan is None or not cell.critical_path_bound_s:
            return None
        return value.value * makespan.value / cell.critical_path_bound_s


def permits(about: Subject, data: Dataset) -> Chart | None:
    """Return throughput, speed-up and latency over permits; None without a rate to show."""
    del data
    summary = about.summary
    curves = curves_of(summary)
    cells = [cell for curve in curves for cell in curve.cells]
    if not any(cell.throughput.workflows_per_s for cell in cells):
        return None
    every = _quantities(summary)
    shown = [one for one in every if any(one.of(cell) for cell in cells)]
    drawn = [figure for one in shown for cell in cells if (figure := one.of(cell))]
    first = shown[min(1, len(shown) - 1)]
    words = extremes(
        (about.labels[cell.id] for cell in cells),
        [value_of(first.of(c)) for c in cells],
        first.axis,
    )
    lossy = (
        "Hollow: not every workflow ended ok; throughput counts all that ended, failed ones too."
    )
    return Chart(
        "What more permits bring",
        _best(summary, cells),
        f"{' and '.join(one.title for one in shown)} over permits. {words}",
        (
            "Bars: 95\u00a0% intervals, of latencies over workflows, else over repeats. Dotted: "
            "sync. Dashed: the bound set by the critical path as measured, with a permit always "
            "at hand.",
            *_note_of_knees(curves),
            *[lossy] * any(map(_loses, cells)),
            *runs_out(drawn),
        ),
        tuple(_curve_panel(one, curves) for one in shown),
        tuple(
            Key(SERIES[at % len(SERIES)], curve.name, marker=True)
            for at, curve in enumerate(curves)
        ),
        _curve_table(about, every[0]),
        across=2,
    )


def _quantities(summary: Summary) -> tuple[_Quantity, ...]:
    unit, factor = rate_unit(summary)
    return (
        _Quantity("throughput", f"workflows {unit}",
                  lambda cell: scaled(cell.throughput.workflows_per_s, factor)),
        _Quantity("speed-up over sync", "times as fast as sync", lambda c: c.speedup_over_sync),
        _Quantity("workflow latency, median", "seconds",
                  lambda c: in_seconds(c.workflow_latency_s.p50, summary), bounded=False),
        _Quantity("workflow latency, 95th percentile", "seconds",
                  lambda c: in_seconds(c.workflow_latency_s.p95, summary), bounded=False),
    )  # fmt: skip


def _note_of_knees(curves: Sequence[PermitCurve]) -> list[str]:
    found = [(curve.name, cell) for curve in curves if (cell := knee(curve)) is not None]
    if not found:
        return []
    where = ", ".join(f"{name} {cell.permits}" for name, cell in found)
    share = f"{KNEE * 100:.0f}\u00a0%"
    return [f"Ringed: the knee, the fewest permits with {share} of a line's highest throughput: "
            f"{where}."]  # fmt: skip


def _loses(cell: Cell) -> bool:
    return cell.workflows.ok < cell.workflows.started


def _best(summary: Summary, cells: Sequence[Cell]) -> str:
    unit, factor = rate_unit(summary)
    cell = headline([cell for cell in cells if cell.throughput.workflows_per_s], summary)
    if cell.workflows.ok == 0:
        return "Throughput and speed-up over permits: no workflow ended ok"
    rate = scaled(cell.throughput.workflows_per_s, factor)
    speedup = value_of(cell.speedup_over_sync)
    times = "" if speedup is None else f", {number(speedup)} times as fast as sync"
    return (
        f"{sentence(spoken(cell, summary.cells))}: {number(value_of(rate))} workflows {unit}"
        f"{times}{losses(cell)}"
    )


def _curve_table(about: Subject, rate: _Quantity) -> Table:
    unit, _ = rate_unit(about.summary)
    per = unit.split()[1]
    cells = about.cells
    return about.of_cells(
        "permits",
        f"Throughput in workflows {unit}, and speed-up over sync",
        (
            Column("permits", "", [cell.permits for cell in cells], whole_number),
            Column("throughput", f"throughput_workflows_per_{per}", [rate.of(c) for c in cells]),
            Column("speed-up", "speedup_over_sync", [c.speedup_over_sync for c in cells]),
            Column(
                "throughput at the bound",
                f"bound_workflows_per_{per}",
                [rate.bound(c) for c in cells],
            ),
        ),
    )


def _curve_panel(quantity: _Quantity, curves: Sequence[PermitCurve]) -> CurvePanel:
    cells = [cell for curve in curves for cell in curve.cells]
    series: list[Series] = []
    for at, curve in enumerate(curves):
        look, aside = SERIES[at % len(SERIES)], 2 ** (ASIDE * (at - (len(curves) - 1) / 2))
        bound = [(cell.permits, most) for cell in curve.cells if (most := quantity.bound(cell))]
        if bound:
            # Drawn a little beyond the outermost cells, so that a single cell has a line too.
            ends = [(bound[0][0] / 1.15, bound[0][1]), *bound, (bound[-1][0] * 1.15, bound[-1][1])]
            points = tuple(Point(x, y) for x, y in ends)
            series.append(Series("bound", look, points, "dashed"))
        top = knee(curve)
        points = tuple(
            Point(
                cell.permits * aside, figure.value, figure.low, figure.high, _loses(cell),
                ringed=cell is top,
            )
            for cell in curve.cells
            if (figure := quantity.of(cell)) is not None
        )  # fmt: skip
        if points:
            series.append(Series(curve.name, look, points))
    syncs = [
        figure.value
        for curve in curves
        if curve.sync is not None and (figure := quantity.of(curve.sync)) is not None
    ]
    known = [figure for cell in cells if (figure := quantity.of(cell)) is not None]
    bounds = [point.y for one in series if one.shape == "dashed" for point in one.points]
    counts = sorted({cell.permits for cell in cells})
    beyond = 1.3 if len(counts) > 1 else 2
    x = Axis("permits: calls at once", counts[0] / beyond, counts[-1] * beyond, (), log=True)
    ticks = legible([Tick(count, str(count)) for count in counts], x)
    return CurvePanel(
        quantity.title,
        x._replace(ticks=ticks),
        axis_from_zero(quantity.axis, max([axis_end(known), *bounds, *syncs]) * 1.06),
        tuple(series),
        tuple(Reference("sync", value) for value in dict.fromkeys(syncs)),
    )


class _Measure(NamedTuple):
    """One number of the heat map: its names in words and in a CSV, how it is written and shaded."""

    title: str
    key: str
    of: Callable[[Cell], float | None]
    text: Callable[[float], str]
    look: str


def heat_map(about: Subject, data: Dataset) -> Chart | None:
    """Return goodput and lost calls, permits across and policies down; None if nothing crosses."""
    del data
    summary = about.summary
    curves = curves_of(summary)
    cells = [cell for curve in curves for cell in curve.cells]
    counts = sorted({cell.permits for cell in cells})
    policies = {policy_of(cell) for cell in cells}
    ran = any(cell.goodput_workflows_per_s for cell in cells)
    if not ran or len(policies) < 2 or len(counts) < 2:
        return None
    unit, factor = rate_unit(summary)

    def goodput(cell: Cell) -> float | None:
        rate = value_of(cell.goodput_workflows_per_s)
        return None if rate is None else rate * factor

    measures = (
        _Measure(f"goodput, workflows {unit}", f"goodput_workflows_per_{unit.split()[1]}",
                 goodput, number, "blue"),
        _Measure("calls lost", "calls_lost",
                 lambda cell: value_of(cell.calls_lost), percent, "vermillion"),
    )  # fmt: skip
    most, name, at_most = max(
        (goodput(cell) or 0.0, curve.name, cell.permits) for curve in curves for cell in curve.cells
    )
    framed = ["Framed: the recommended cell."] if summary.recommendation.cell else []
    return Chart(
        "Permits and policies",
        f"Most good work: {name} at {at_most} permits, {number(most)} workflows {unit}",
        f"{' and '.join(one.title for one in measures)}, permits across and policies down.",
        ("Goodput: workflows that succeeded within the SLO, per time of makespan.", *framed),
        tuple(_heat(one, curves, counts, summary.recommendation.cell) for one in measures),
        (),
        Table(
            "heat-map",
            "Goodput and lost calls by permits and policy",
            (
                *about.cell_columns(cells),
                *(
                    Column(one.title, one.key, [one.of(cell) for cell in cells], one.text)
                    for one in measures
                ),
            ),
        ),
        across=2,
    )


def _heat(
    measure: _Measure, curves: Sequence[PermitCurve], counts: Sequence[int], best: str | None
) -> HeatPanel:
    top = max([measure.of(cell) or 0.0 for curve in curves for cell in curve.cells] + [1e-12])

    def shade(curve: PermitCurve, count: int) -> HeatCell:
        cell = next((cell for cell in curve.cells if cell.permits == count), None)
        value = None if cell is None else measure.of(cell)
        if cell is None or value is None:
            return HeatCell(NONE)
        return HeatCell(measure.text(value), value / top, framed=cell.id == best)

    rows = tuple((curve.name, tuple(shade(curve, count) for count in counts)) for curve in curves)
    return HeatPanel(measure.title, measure.look, tuple(map(str, counts)), rows, "permits")
