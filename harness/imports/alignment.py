"""Which call of one run of a program is which call of another run.

A run is a list of intervals in the order of their starts. A tree is followed call by call: each
call takes a place of the tree that was due, at the cost of the time since then. A beam keeps the
cheapest ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from harness.imports.series_parallel import CallTree, dependencies

_BEAM = 24
_UNDUE = 12.0
"""The cost of a call that began before any that it waits for had ended."""
_UNFINISHED = 2.0
"""The cost of each other one that had not ended."""


class TimedItem(NamedTuple):
    """What is placed in a tree: a call, or calls within one span. Times: nanoseconds.

    `label`: equal for items that can have the same place.
    """

    start: int
    end: int
    label: str


def gap_cost(gap: float, scale: float) -> float:
    """Return the cost of a time between a place being due and its call; 0 for no time."""
    return 2.0 * math.log1p(max(gap, 0.0) / scale)


class _Way(NamedTuple):
    cost: float
    taken: tuple[int, ...]  # the place of each item so far
    ends: dict[int, int]


def aligned(
    tree: CallTree, labels: Sequence[str], run: Sequence[TimedItem], begin: int, scale: float
) -> tuple[float, list[int]] | None:
    """Return the cost, and the place in the tree of each item of a run; None if none fits.

    `labels`: of the places. `begin`: when the first places were due. `scale`: a usual gap.
    """
    needs = dependencies(tree)
    alike = _alike(needs, labels)
    ways = [_Way(0.0, (), {})]
    for item in run:
        grown: list[_Way] = []
        for way in ways:
            tried: set[object] = set()
            for place, before in needs.items():
                if place in way.ends or labels[place] != item.label or alike[place] in tried:
                    continue
                tried.add(alike[place])
                ended = [
                    way.ends[one]
                    for one in before
                    if way.ends.get(one, item.start + 1) <= item.start
                ]
                cost = way.cost + _UNFINISHED * (len(before) - len(ended))
                if before and not ended:
                    cost += _UNDUE
                else:
                    cost += gap_cost(item.start - max(ended, default=begin), scale)
                grown.append(_Way(cost, (*way.taken, place), {**way.ends, place: item.end}))
        grown.sort(key=lambda way: way.cost)
        ways = grown[:_BEAM]
    return (ways[0].cost, list(ways[0].taken)) if ways else None


def _alike(needs: dict[int, frozenset[int]], labels: Sequence[str]) -> dict[int, object]:
    """Return for each place a value that is equal for places that can be exchanged.

    Such places wait for the same calls, and what follows them is alike; the latter is compared by
    depth and labels where nothing else waits for them alone.
    """
    after: dict[int, set[int]] = {place: set() for place in needs}
    for place, before in needs.items():
        for one in before:
            after[one].add(place)
    return {
        place: (before, labels[place], frozenset(after[place])) for place, before in needs.items()
    }
