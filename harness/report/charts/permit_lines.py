"""Lines over permits: which settings make a line, and the axis of permits that they share."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from harness.analysis.settings import identity, policy_of, varying
from harness.records.schema import CellInfo
from harness.records.settings import one_at_a_time
from harness.report.charts.model import Axis, Tick, legible
from harness.report.wording import other_differences

TICK_GAP = 8.0
"""Percent of an axis between the texts of ticks, also on a narrow screen."""
_ASIDE = 0.07
"""The distance between lines at one permit count, in powers of two, so that bars do not overlap."""


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
