"""Lines over permits: which settings make a line, and the axis of permits that they share."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from harness.analysis.settings import identity, policy_of, varying
from harness.records.schema import CellInfo
from harness.records.settings import one_at_a_time
from harness.report.charts.model import Axis, Reference, Tick, legible
from harness.report.wording import other_differences, shortened

TICK_GAP = 8.0
"""Percent of an axis between the texts of ticks, also on a narrow screen."""
LIMITS_NOTE = "Right of the dotted line: limits that adapt, each with a short line for each policy."
"""What is said of `PermitPlaces.limits` under a chart."""
_ASIDE = 0.07
"""The distance between lines at one permit count, in powers of two, so that bars do not overlap."""
_LIMIT_SHARE, _LIMITS_SHARE = 0.17, 0.5
"""The width of the column of a limit, and of the columns of all limits at most: shares of the axis.
"""
_ACROSS = 0.3
"""The length of a line on each side of the middle of a column, as a share of its width."""
_LIMIT_NAME = 12
"""The most characters of the name of a limit below its column."""


class PermitPlaces(NamedTuple):
    """An axis of permits. A limit that adapts has a column of its own, right of the numbers.

    `limits`: the middle of the column of each limit, by its name, and `width`: the factor from the
    begin of a column to its end. `edge`: where the columns begin, as a line to draw; empty without
    numbers or limits.
    """

    axis: Axis
    limits: Mapping[str, float]
    width: float
    edge: tuple[Reference, ...]

    def of(self, info: CellInfo) -> float:
        """Return the place of a setting on the axis."""
        return self.limits[info.limiter] if info.limiter else float(info.permits)

    def across(self, info: CellInfo) -> tuple[float, float]:
        """Return the ends of a line across the most part of the column of a limit."""
        middle, half = self.limits[info.limiter], self.width**_ACROSS
        return middle / half, middle * half


def permit_places(cells: Iterable[CellInfo]) -> PermitPlaces:
    """Return the axis of the permits of some settings, at least one."""
    every = list(cells)
    counts = sorted({info.permits for info in every if not info.limiter})
    names = sorted({info.limiter for info in every if info.limiter})
    if not names:
        return PermitPlaces(permits_axis(counts), {}, 1.0, ())
    numbers = permits_axis(counts or [1])
    share = min(_LIMIT_SHARE, _LIMITS_SHARE / len(names)) if counts else 1 / (len(names) + 0.2)
    # Each column has this share of the whole axis, which is logarithmic.
    factor = (numbers.end / numbers.start) ** (share / (1 - share * len(names)))
    limits = {name: numbers.end * factor ** (at + 0.5) for at, name in enumerate(names)}
    short = shortened(names, _LIMIT_NAME)
    axis = Axis(
        "permits: calls at once; right: limits that adapt" if counts else "limits that adapt",
        numbers.start if counts else numbers.end, numbers.end * factor ** len(names), (), log=True,
        names_from=numbers.end,
    )  # fmt: skip
    ticks = [*(Tick(count, str(count)) for count in counts)]
    ticks += [Tick(place, short[name]) for name, place in limits.items()]
    edge = (Reference("limits that adapt", numbers.end),) if counts else ()
    return PermitPlaces(axis._replace(ticks=legible(ticks, axis, TICK_GAP)), limits, factor, edge)


def aside_of(line: int, lines: int) -> float:
    """Return the factor that moves a line, one of `lines`, away from the others."""
    return float(2 ** (_ASIDE * (line - (lines - 1) / 2)))


def permits_axis(counts: Sequence[int], gap: float = TICK_GAP) -> Axis:
    """Return the axis of some permits, in order. `gap`: percent between the texts of ticks."""
    beyond = 1.3 if len(counts) > 1 else 2
    axis = Axis("permits: calls at once", counts[0] / beyond, counts[-1] * beyond, (), log=True)
    ticks = legible([Tick(count, str(count)) for count in counts], axis, gap)
    return axis._replace(ticks=ticks)


def lines_by_permits(
    every: Iterable[CellInfo], asked: Container[str]
) -> list[tuple[str, list[CellInfo]]]:
    """Group settings that differ only in permits, in their order, and name each group.

    The names are the settings that vary. `asked`: the ids of which each group has one at least.
    One call at a time is at 1 permit of the line with the same policy, unless modes differ.
    """
    infos = list(every)
    at_once = [info for info in infos if not one_at_a_time(info.mode)]
    several = "mode" in varying(at_once) or not at_once
    groups: dict[str, list[CellInfo]] = {}
    for info in infos:
        key = identity(info, ("permits",)) if several else policy_of(info)
        groups.setdefault(key, []).append(info)
    chosen = [group for group in groups.values() if any(info.id in asked for info in group)]
    differences = other_differences([info for group in chosen for info in group], 18)
    lines = []
    for group in chosen:
        first, *_ = ordered = sorted(group, key=lambda info: info.permits)
        names = [*([first.mode] if several else []), *differences[first.id]]
        lines.append((" · ".join(names) or first.retry, ordered))
    return lines
