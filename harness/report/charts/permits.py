"""Charts of permits: curves over permits, and permits crossed with policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from harness.analysis.model import Cell, Figure, Summary
from harness.analysis.settings import (
    identity,
    permits_setting,
    policy_of,
    varying,
    with_permits,
)
from harness.records.settings import one_at_a_time
from harness.report.charts.model import (
    SERIES,
    Chart,
    CurvePanel,
    HeatCell,
    HeatPanel,
    Key,
    Point,
    Reference,
    Series,
    axis_end,
    axis_from_zero,
    cut_off_note,
    extremes,
)
from harness.report.charts.permit_lines import aside_of, permits_axis
from harness.report.tables import Column, Subject, Table
from harness.report.wording import (
    NONE,
    baseline,
    dropped_note,
    headline,
    in_reading_order,
    keeps_enough,
    left_out_note,
    losses,
    number,
    other_differences,
    percent,
    speedup,
    times_as,
    value_of,
    whole_number,
)

KNEE = 0.95
"""The knee of a line: the fewest permits with this share of the line's highest goodput."""

MOST_LOST = 1.8
"""An axis has room for lost work up to this many times the highest goodput."""


class PermitCurve(NamedTuple):
    """Cells that differ only in permits, in their order, and their sync cell if there is one.

    `adaptive`: those whose permits adapt; they have no place on an axis of permits.
    """

    name: str
    cells: tuple[Cell, ...]
    sync: Cell | None
    adaptive: tuple[Cell, ...] = ()


def curves_of(summary: Summary) -> list[PermitCurve]:
    """Group the cells that are not sync into curves, named by the settings that vary."""
    syncs = {policy_of(cell): cell for cell in summary.cells if one_at_a_time(cell.mode)}
    drawn = [cell for cell in in_reading_order(summary.cells) if not one_at_a_time(cell.mode)]
    groups: dict[str, list[Cell]] = {}
    for cell in drawn:
        groups.setdefault(identity(cell, ("permits",)), []).append(cell)
    differences = other_differences(drawn, 18)
    several_modes = "mode" in varying(drawn)
    curves = []
    for cells in groups.values():
        first = cells[0]
        names = [*([first.mode] if several_modes else []), *differences[first.id]]
        name = " · ".join(names) or first.retry
        fixed = tuple(cell for cell in cells if not cell.limiter)
        adaptive = tuple(cell for cell in cells if cell.limiter)
        curves.append(PermitCurve(name, fixed, syncs.get(policy_of(first)), adaptive))
    return curves


def knee(curve: PermitCurve) -> Cell | None:
    """Return the cell beyond which more permits add almost nothing; None for a single cell."""
    rates = [value_of(cell.goodput_workflows_per_s) or 0.0 for cell in curve.cells]
    if sum(rate > 0 for rate in rates) < 2:
        return None
    pairs = zip(curve.cells, rates, strict=True)
    return next(cell for cell, rate in pairs if rate >= KNEE * max(rates))


class _Quantity(NamedTuple):
    """A quantity over permits. `bounded`: the critical path sets a bound to it.

    `ended`: the same quantity with lost work, which is drawn lighter above it.
    """

    title: str
    axis: str
    of: Callable[[Cell], Figure | None]
    bounded: bool = True
    ended: Callable[[Cell], Figure | None] | None = None

    def bound(self, cell: Cell) -> float | None:
        """Return the value with the critical-path bound as makespan."""
        value, makespan = self.of(cell), cell.makespan_s
        if (
            not self.bounded
            or not keeps_enough(cell)
            or value is None
            or makespan is None
            or not cell.critical_path_bound_s
        ):
            return None
        return value.value * makespan.value / cell.critical_path_bound_s


def _quantities(about: Subject) -> tuple[_Quantity, ...]:
    def good(cell: Cell) -> Figure | None:
        return about.rate(cell.goodput_workflows_per_s)

    def every(cell: Cell) -> Figure | None:
        return about.rate(cell.throughput.workflows_per_s)

    def faster(cell: Cell) -> Figure | None:
        return speedup(cell, about.summary.cells)

    def median(cell: Cell) -> Figure | None:
        return about.duration(cell.success_latency_p50_s) if keeps_enough(cell) else None

    def tail(cell: Cell) -> Figure | None:
        return about.duration(cell.workflow_latency_s.p95) if keeps_enough(cell) else None

    rate, base = f"workflows {about.rate_unit}", baseline(about.summary.cells)
    return (
        _Quantity("throughput of workflows that succeeded (goodput)", rate, good, ended=every),
        _Quantity(f"speed-up over {base}", f"times as fast as {base}", faster),
        _Quantity("median latency of workflows that succeeded", "seconds", median, bounded=False),
        _Quantity("95th percentile of latency, all workflows", "seconds", tail, bounded=False),
    )


def permits(about: Subject) -> Chart | None:
    """Return throughput, speed-up and latency over permits; None without a rate to show.

    A limit that adapts is a horizontal line.
    """
    curves = [curve for curve in curves_of(about.summary) if curve.cells]
    cells = [cell for curve in curves for cell in curve.cells]
    if not any(cell.throughput.workflows_per_s for cell in cells):
        return None
    every = _quantities(about)
    shown = [one for one in every if any(one.of(cell) for cell in cells)]
    first = shown[min(1, len(shown) - 1)]
    words = extremes(
        (about.labels[cell.id] for cell in cells),
        [value_of(first.of(cell)) for cell in cells],
        first.axis,
    )
    panels = tuple(_curve_panel(one, curves, about.labels) for one in shown)
    notes = _line_notes(panels, baseline(about.summary.cells), curves)
    knees = ", ".join(f"{one.name} {top.permits}" for one in curves if (top := knee(one)))
    if knees:
        share = f"{KNEE * 100:.0f}\u00a0%"
        notes.append(
            f"Ringed: the knee, the fewest permits with {share} of a line's highest goodput: "
            f"{knees}."
        )
    if any(map(losses, cells)):
        notes.append(
            "Hollow: some workflows did not end ok. Light bar: lost work, from goodput to all "
            "workflows that ended; one that reaches the edge continues beyond it."
        )
    what = "latency and no speed-up" if any(map(_has_speedup, cells)) else "latency"
    notes += [
        *left_out_note(cells, about.labels, what),
        *dropped_note(cells, about.labels, about.summary),
    ]
    return Chart(
        "Effect of the number of permits",
        _best(about, [*cells, *(cell for curve in curves for cell in curve.adaptive)]),
        f"{' and '.join(one.title for one in shown)} over permits. {words}",
        (*notes, *cut_off_note([value for one in shown for c in cells if (value := one.of(c))])),
        panels,
        tuple(
            Key(SERIES[at % len(SERIES)], curve.name, marker=True)
            for at, curve in enumerate(curves)
        ),
        _curve_table(about, every[0]),
        across=2,
    )


def _has_speedup(cell: Cell) -> bool:
    return cell.speedup_over_sync is not None


def _line_notes(
    panels: Sequence[CurvePanel], base: str, curves: Sequence[PermitCurve]
) -> list[str]:
    """Return a note that explains the bars and lines that are drawn."""
    every = [one for panel in panels for one in panel.series]
    said = []
    if any(point.low is not None for one in every for point in one.points):
        said.append("Bars: 95\u00a0% intervals over repeats.")
    if any(panel.references for panel in panels):
        dotted = [base] if any(curve.sync for curve in curves) else []
        if any(curve.adaptive for curve in curves):
            dotted.append("limits that adapt")
        said.append(f"Dotted: {', and '.join(dotted)}.")
    if any(one.shape == "dashed" for one in every):
        said.append("Dashed: the bound that the measured critical paths set, with no permit wait.")
    return [" ".join(said)] if said else []


def _best(about: Subject, cells: Sequence[Cell]) -> str:
    cell = headline([c for c in cells if c.throughput.workflows_per_s], about.summary)
    if cell.workflows.ok == 0:
        return "Goodput over permits: no workflow ended ok"
    base = baseline(about.summary.cells)
    rate, faster = about.rate(cell.goodput_workflows_per_s), speedup(cell, about.summary.cells)
    times = "" if faster is None else f", {times_as(faster, 'fast')} as {base}"
    return f"{about.name(cell)}: {number(rate)} workflows {about.rate_unit}{times}{losses(cell)}"


def _curve_table(about: Subject, rate: _Quantity) -> Table:
    cells, unit = about.cells, about.rate_unit
    per = unit.split()[1]
    bounds = [rate.bound(cell) for cell in cells]
    return about.of_cells(
        "permits",
        "Goodput and throughput of workflows",
        (
            Column("permits", "", list(map(permits_setting, cells)), whole_number),
            Column(f"goodput\n{unit}", f"goodput_workflows_per_{per}", [rate.of(c) for c in cells]),
            Column(
                f"with lost work\n{unit}",
                f"throughput_workflows_per_{per}",
                [about.rate(c.throughput.workflows_per_s) for c in cells],
            ),
            Column("speed-up", "speedup_over_sync", [speedup(c, cells) for c in cells]),
            Column(f"goodput {unit}\nat the bound", f"bound_workflows_per_{per}", bounds),
        ),
    )


def _curve_panel(
    quantity: _Quantity, curves: Sequence[PermitCurve], labels: Mapping[str, str]
) -> CurvePanel:
    cells = [cell for curve in curves for cell in curve.cells]
    series: list[Series] = []
    for at, curve in enumerate(curves):
        look, aside = SERIES[at % len(SERIES)], aside_of(at, len(curves))
        bound = [(cell.permits, most) for cell in curve.cells if (most := quantity.bound(cell))]
        if bound:
            # Drawn a little beyond the outermost cells, so that a single cell has a line too.
            ends = [(bound[0][0] / 1.15, bound[0][1]), *bound, (bound[-1][0] * 1.15, bound[-1][1])]
            series.append(Series("bound", look, tuple(Point(x, y) for x, y in ends), "dashed"))
        top = knee(curve)
        points = tuple(
            Point(
                cell.permits * aside, figure.value, figure.low, figure.high, bool(losses(cell)),
                ringed=cell is top, lost=_lost(quantity, cell),
            )
            for cell in curve.cells
            if (figure := quantity.of(cell)) is not None
        )  # fmt: skip
        if points:
            series.append(Series(curve.name, look, points))
    syncs = {
        figure.value: curve.sync.mode
        for curve in curves
        if curve.sync and (figure := quantity.of(curve.sync))
    }
    adaptive = [
        Reference(labels[cell.id].removeprefix(f"{cell.mode} "), figure.value)
        for curve in curves
        for cell in curve.adaptive
        if (figure := quantity.of(cell)) is not None
    ]
    known = [figure for cell in cells if (figure := quantity.of(cell)) is not None]
    bounds = [point.y for one in series if one.shape == "dashed" for point in one.points]
    counts = sorted({cell.permits for cell in cells})
    lost = [point.lost for one in series for point in one.points if point.lost is not None]
    highest = max((figure.value for figure in known), default=0.0)
    lost = [min(value, MOST_LOST * highest) if highest else value for value in lost]
    return CurvePanel(
        quantity.title,
        permits_axis(counts, gap=6.0),
        axis_from_zero(
            quantity.axis,
            max([axis_end(known), *bounds, *syncs, *lost, *(one.value for one in adaptive)]) * 1.06,
        ),
        tuple(series),
        (*(Reference(mode, value) for value, mode in syncs.items()), *adaptive),
    )


def _lost(quantity: _Quantity, cell: Cell) -> float | None:
    """Return the quantity with lost work; None where nothing was lost."""
    value, every = value_of(quantity.of(cell)), quantity.ended and value_of(quantity.ended(cell))
    return every if value is not None and every and every > value * 1.001 else None


def heat_map(about: Subject) -> Chart | None:
    """Return goodput and lost calls by permits and policy; None unless both vary.

    Limits that adapt are the last columns.
    """
    curves = curves_of(about.summary)
    cells = [cell for curve in curves for cell in (*curve.cells, *curve.adaptive)]
    numbers = {cell.permits for cell in cells if not cell.limiter}
    names = {cell.limiter: None for cell in cells if cell.limiter}
    counts: list[int | str] = [*sorted(numbers), *names]
    ran = any(value_of(cell.goodput_workflows_per_s) for cell in cells)
    if not ran or len(set(map(policy_of, cells))) < 2 or len(counts) < 2:
        return None
    unit = about.rate_unit

    def goodput(cell: Cell) -> float | None:
        return value_of(about.rate(cell.goodput_workflows_per_s))

    def lost_share(cell: Cell) -> float | None:
        return value_of(cell.calls_lost)

    def panel(
        title: str, look: str, of: Callable[[Cell], float | None], text: Callable[[float], str]
    ) -> HeatPanel:
        top = max([of(cell) or 0.0 for cell in cells] + [1e-12])

        def shade(curve: PermitCurve, count: int | str) -> HeatCell:
            every = (*curve.cells, *curve.adaptive)
            cell = next((cell for cell in every if permits_setting(cell) == count), None)
            value = None if cell is None else of(cell)
            if cell is None or value is None:
                return HeatCell(NONE)
            return HeatCell(text(value), value / top, framed=about.is_recommended(cell))

        rows = tuple((curve.name, tuple(shade(curve, n) for n in counts)) for curve in curves)
        return HeatPanel(title, look, tuple(map(str, counts)), rows, "permits")

    good, lost = f"goodput, workflows {unit}", "calls lost"
    most, name, _, best = max(
        (goodput(cell) or 0.0, curve.name, cell.permits, with_permits(cell))
        for curve in curves
        for cell in (*curve.cells, *curve.adaptive)
    )
    key = f"goodput_workflows_per_{unit.split()[1]}"
    return Chart(
        "Permits and policies",
        f"Highest goodput: {name} with {best}, {number(most)} workflows {unit}",
        f"{good} and {lost}, by permits (columns) and policies (rows).",
        (
            "Goodput: workflows that succeeded within the SLO, per unit of makespan.",
            *["Framed: the recommended setting."] * any(map(about.is_recommended, cells)),
        ),
        (panel(good, "blue", goodput, number), panel(lost, "vermillion", lost_share, percent)),
        (),
        Table(
            "heat-map",
            "Goodput and lost calls by permits and policy",
            (
                *about.cell_columns(cells),
                Column(good, key, list(map(goodput, cells))),
                Column(lost, "calls_lost", list(map(lost_share, cells)), percent),
            ),
        ),
        across=2,
    )
