"""Throughput and speed-up over permits, one line a retry policy, with the critical-path bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from harness.analysis.model import Cell, Summary
from harness.analysis.model import Figure as Estimate
from harness.analysis.settings import identity, policy_of, varying
from harness.report.plots.style import (
    MARKERS,
    MUTED,
    SERIES,
    axis_end,
    error_lengths,
    label_line_ends,
    new_figure,
    runs_out,
)
from harness.report.wording import (
    headline,
    in_reading_order,
    in_seconds,
    losses,
    number,
    other_differences,
    rate_unit,
    scaled,
    sentence,
    spoken,
    value_of,
)

ASIDE = 0.07
"""How far apart lines stand at one permit count, in powers of two, so that bars stay apart."""


class PermitCurve(NamedTuple):
    """Cells that differ in permits only, upwards, and their sync cell when there is one."""

    name: str
    cells: tuple[Cell, ...]
    sync: Cell | None


def lines_of(summary: Summary) -> list[PermitCurve]:
    """Group the cells that are not sync into lines, named by what tells them apart."""
    syncs = {policy_of(cell): cell for cell in summary.cells if cell.mode == "sync"}
    drawn = [cell for cell in in_reading_order(summary.cells) if cell.mode != "sync"]
    groups: dict[str, list[Cell]] = {}
    for cell in drawn:
        groups.setdefault(identity(cell, ("permits",)), []).append(cell)
    differences = other_differences(drawn, 18)
    several_modes = "mode" in varying(drawn)
    lines = []
    for cells in groups.values():
        first = cells[0]
        names = [first.mode] if several_modes else []
        names += differences[first.id]
        name = " · ".join(names) or first.retry
        lines.append(PermitCurve(name, tuple(cells), syncs.get(policy_of(first))))
    return lines


class Point(NamedTuple):
    """One cell of a line: where it stands, its value, and whether it lost workflows."""

    x: float
    value: Estimate
    lossy: bool
    permits: int


KNEE = 0.95
"""The knee of a line: the fewest permits with this share of the line's highest throughput."""


def knee(line: PermitCurve) -> Cell | None:
    """Return the cell from which more permits bring next to nothing; None for a single cell."""
    rates = [(cell, value_of(cell.throughput.workflows_per_s)) for cell in line.cells]
    known = [(cell, rate) for cell, rate in rates if rate]
    if len(known) < 2:
        return None
    most = max(rate for _, rate in known)
    return next(cell for cell, rate in known if rate >= KNEE * most)


class Panel(NamedTuple):
    """One quantity over permits: how a cell's value and sync's are had.

    `bounded`: the quantity has a bound by the critical path.
    """

    title: str
    axis: str
    value: Callable[[Cell], Estimate | None]
    reference: Callable[[PermitCurve], float | None]
    bounded: bool = True

    def bound(self, cell: Cell) -> float | None:
        """Return what the value would be if the makespan were its critical-path bound."""
        value, makespan = self.value(cell), cell.makespan_s
        if not self.bounded or value is None or makespan is None or not cell.critical_path_bound_s:
            return None
        return value.value * makespan.value / cell.critical_path_bound_s


def permits(summary: Summary) -> Figure | None:
    """Draw throughput, speed-up where sync was run, and workflow latency over permits.

    None without a cell that has permits and a makespan.
    """
    lines = lines_of(summary)
    if not any(cell.throughput.workflows_per_s for line in lines for cell in line.cells):
        return None
    panels = _panels(summary, lines)
    drawn = [
        estimate
        for panel in panels
        for line in lines
        for cell in line.cells
        if (estimate := panel.value(cell)) is not None
    ]
    notes = [
        "Bars: 95\u00a0% intervals, of latencies over workflows, else over repeats. Dashed: the "
        "bound set by the critical path, decompose + longest branch + synthesize as measured, with "
        "a permit always at hand. "
        f"Ringed: the knee, the fewest permits with {KNEE * 100:.0f}\u00a0% of the line's highest "
        "throughput.",
        *_note_of_losses(lines),
        *runs_out(drawn),
    ]
    rows = -(-len(panels) // 2)
    figure = new_figure(3.4 * rows, _title(summary, lines), summary, notes)
    grid = figure.add_gridspec(rows, 2)
    for at, panel in enumerate(panels):
        alone = at == len(panels) - 1 and at % 2 == 0
        axes = figure.add_subplot(grid[at // 2, :] if alone else grid[at // 2, at % 2])
        _draw(axes, panel, lines)
    return figure


def _note_of_losses(lines: Sequence[PermitCurve]) -> list[str]:
    lossy = any(_loses(cell) for line in lines for cell in line.cells)
    said = "Hollow: not every workflow ended ok; throughput counts all that ended, failed ones too."
    return [said] if lossy else []


def _loses(cell: Cell) -> bool:
    return cell.workflows.ok < cell.workflows.started


def _panels(summary: Summary, lines: Sequence[PermitCurve]) -> list[Panel]:
    unit, factor = rate_unit(summary)

    def throughput(cell: Cell) -> Estimate | None:
        return scaled(cell.throughput.workflows_per_s, factor)

    def of_sync(line: PermitCurve) -> float | None:
        return value_of(throughput(line.sync)) if line.sync else None

    def speedup(cell: Cell) -> Estimate | None:
        return cell.speedup_over_sync

    def one(line: PermitCurve) -> float | None:
        return 1.0 if line.sync else None

    every = [
        Panel("throughput", f"workflows {unit}", throughput, of_sync),
        Panel("speed-up over sync", "times as fast as sync", speedup, one),
        *_latency_panels(summary),
    ]
    cells = [cell for line in lines for cell in line.cells]
    return [panel for panel in every if any(panel.value(cell) for cell in cells)]


def _latency_panels(summary: Summary) -> Iterator[Panel]:
    for name, words in (("p50", "median"), ("p95", "95th percentile")):

        def latency(cell: Cell, name: str = name) -> Estimate | None:
            return in_seconds(getattr(cell.workflow_latency_s, name), summary)

        def of_sync(
            line: PermitCurve, latency: Callable[[Cell], Estimate | None] = latency
        ) -> float | None:
            return value_of(latency(line.sync)) if line.sync else None

        yield Panel(f"workflow latency, {words}", "seconds", latency, of_sync, bounded=False)


def _title(summary: Summary, lines: Sequence[PermitCurve]) -> str:
    unit, factor = rate_unit(summary)
    rated = [cell for line in lines for cell in line.cells if cell.throughput.workflows_per_s]
    cell = headline(rated, summary)
    if cell.workflows.ok == 0:
        return "Throughput and speed-up over permits: no workflow ended ok"
    rate = scaled(cell.throughput.workflows_per_s, factor)
    speedup = value_of(cell.speedup_over_sync)
    times = "" if speedup is None else f", {number(speedup)} times as fast as sync"
    return (
        f"{sentence(spoken(cell, summary.cells))}: {number(value_of(rate))} workflows {unit}"
        f"{times}{losses(cell)}"
    )


def _draw(axes: Axes, panel: Panel, lines: Sequence[PermitCurve]) -> None:
    labels: list[tuple[float, str, str]] = []
    drawn: list[Estimate] = []
    bounds: list[float] = []
    for at, line in enumerate(lines):
        points = [
            Point(
                cell.permits * 2 ** (ASIDE * (at - (len(lines) - 1) / 2)),
                estimate,
                _loses(cell),
                cell.permits,
            )
            for cell in line.cells
            if (estimate := panel.value(cell)) is not None
        ]
        if points:
            colour = SERIES[at % len(SERIES)]
            _draw_line(axes, points, line.name, at, faint=len(lines) > 3)
            _draw_knee(axes, points, knee(line), colour)
            labels.append((points[-1].value.value, line.name, colour))
            drawn += [point.value for point in points]
        bounds += _draw_bound(axes, panel, line, SERIES[at % len(SERIES)])
    references = [value for line in lines if (value := panel.reference(line)) is not None]
    for value in dict.fromkeys(references):
        axes.axhline(value, color=MUTED, linestyle=":", linewidth=1.3, label="sync")
    if references:
        labels.append((sum(references) / len(references), "sync", MUTED))
    if bounds:
        labels.append((max(bounds), "bound", MUTED))
    axes.set_ylim(0, max([axis_end(drawn), *bounds, *references]) * 1.06)
    _permit_axis(axes, sorted({cell.permits for line in lines for cell in line.cells}))
    axes.set_title(panel.title)
    axes.set_ylabel(panel.axis)
    label_line_ends(axes, labels, inches=2.7)


def _draw_line(axes: Axes, points: Sequence[Point], name: str, at: int, *, faint: bool) -> None:
    colour, marker = SERIES[at % len(SERIES)], MARKERS[at % len(MARKERS)]
    axes.plot(
        [point.x for point in points], [point.value.value for point in points],
        color=colour, linewidth=1.8, label=name,
    )  # fmt: skip
    for x, estimate, lossy, _ in points:
        axes.plot(
            x, estimate.value, color=colour, marker=marker, markersize=6,
            markerfacecolor="white" if lossy else colour, label=f"{name} at {x:.0f}",
        )  # fmt: skip
        if (lengths := error_lengths(estimate)) is not None:
            axes.errorbar(
                x, estimate.value, yerr=lengths, color=colour, capsize=3,
                elinewidth=0.9 if faint else 1.3, alpha=0.6 if faint else 1.0, zorder=1.5,
            )  # fmt: skip


def _draw_knee(axes: Axes, points: Sequence[Point], found: Cell | None, colour: str) -> None:
    for point in points:
        if found is not None and point.permits == found.permits:
            axes.plot(
                point.x, point.value.value, "o", markersize=13, markerfacecolor="none",
                markeredgecolor=colour, markeredgewidth=1.2, label=f"knee {found.id}",
            )  # fmt: skip


def _draw_bound(axes: Axes, panel: Panel, line: PermitCurve, colour: str) -> list[float]:
    found = [(cell.permits, panel.bound(cell)) for cell in line.cells]
    bound = [(count, value) for count, value in found if value is not None]
    if bound:
        # Drawn a little beyond the outermost cells, so that a single cell has a line too.
        ends = [(bound[0][0] / 1.15, bound[0][1]), *bound, (bound[-1][0] * 1.15, bound[-1][1])]
        xs, ys = [x for x, _ in ends], [y for _, y in ends]
        axes.plot(xs, ys, "--", color=colour, linewidth=1.2, label=f"bound {line.name}")
    return [value for _, value in bound]


def _permit_axis(axes: Axes, counts: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    beyond = 1.3 if len(counts) > 1 else 2
    axes.set_xlim(counts[0] / beyond, counts[-1] * beyond)
    step = -(-len(counts) // 9)
    shown = list(counts[::-1][::step])[::-1]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("permits: calls at once")
