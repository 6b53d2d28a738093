"""Which call of one run of a program is which call of another run.

A run is a list of intervals in the order of their starts. A tree is followed call by call: each
call takes a place of the tree that was due, at the cost of the time since then. A beam keeps the
cheapest ways.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from harness.imports.prompt_flow import NO_FLOWS, PromptFlows
from harness.imports.series_parallel import CallTree, dependencies

_BEAM = 48
_UNDUE = 12.0
"""The cost of a call that began before any that it waits for had ended."""
_UNFINISHED = 2.0
"""The cost of each other one that had not ended."""


Traits: TypeAlias = tuple[float, ...]
"""What tells items apart beside their starts: logarithms of time and tokens."""

_FEW = 2
"""From more runs than these, it is known how much a trait differs at one place."""
_UNKNOWN = 0.5
"""The weight of a trait before that."""
_LEAST_SPREAD = 0.02
_MOST_APART = 16.0


class TimedItem(NamedTuple):
    """What is placed in a tree: a call, or calls within one span. Times: nanoseconds.

    `label`: equal for items that can have the same place. `read`, `written`: tokens, not a number
    where they are unknown; of calls within one span, those of the first prompt and the last answer.
    """

    start: int
    end: int
    label: str
    read: float = math.nan
    written: float = math.nan


class KnownFlow(NamedTuple):
    """What the prompts at each place contain, and the tokens of a run that were known before.

    See `prompt_flows`. Nothing was known before the first step: the prompt at its first place holds
    the input of the run.
    """

    flows: PromptFlows
    given: Sequence[float]

    def unlike(self, item: TimedItem, place: int, taken: Mapping[int, TimedItem]) -> float:
        """Return how unlikely a place is for an item, by the length of its prompt."""
        flow = self.flows.at[place]
        if flow is None or not flow.reads <= taken.keys():
            return 0.0
        given = self.given or ([taken[0].read] if 0 in taken else [math.nan])
        return flow.unlike(item.read, given, [taken[one].written for one in flow.reads])


NO_FLOW = KnownFlow(NO_FLOWS, ())


def gap_cost(gap: float, scale: float) -> float:
    """Return the cost of a time between a place being due and its call; 0 for no time."""
    return 2.0 * math.log1p(max(gap, 0.0) / scale)


class _Way(NamedTuple):
    cost: float
    taken: tuple[int, ...]  # the place of each item so far
    items: dict[int, TimedItem]  # by place


def aligned(
    tree: CallTree, labels: Sequence[str], run: Sequence[TimedItem], begin: int, scale: float,
    unlike: Sequence[Sequence[float]], flow: KnownFlow = NO_FLOW,
) -> tuple[float, list[int]] | None:  # fmt: skip
    """Return the cost, and the place in the tree of each item of a run; None if none fits.

    `labels`: of the places. `begin`: when the first places were due. `scale`: a usual gap.
    `unlike`: for each item, the cost of each place, by what its calls are like in other runs.
    `flow`: what prompts contain, if that is known.
    """
    needs = dependencies(tree)
    alike = _alike(needs, labels, flow)
    ways = [_Way(0.0, (), {})]
    for at, item in enumerate(run):
        grown: list[_Way] = []
        likeliest = sorted(needs, key=unlike[at].__getitem__)
        for way in ways:
            tried: set[object] = set()
            for place in likeliest:
                if place in way.items or labels[place] != item.label or alike[place] in tried:
                    continue
                tried.add(alike[place])
                before = needs[place]
                ends = [way.items[one].end for one in before if one in way.items]
                ended = [end for end in ends if end <= item.start]
                cost = way.cost + unlike[at][place] + _UNFINISHED * (len(before) - len(ended))
                if flow.flows.at:
                    cost += flow.unlike(item, place, way.items)
                if before and not ended:
                    cost += _UNDUE
                else:
                    cost += gap_cost(item.start - max(ended, default=begin), scale)
                grown.append(_Way(cost, (*way.taken, place), {**way.items, place: item}))
        grown.sort(key=lambda way: way.cost)
        ways = grown[:_BEAM]
    return (ways[0].cost, list(ways[0].taken)) if ways else None


def unlike_places(
    traits: Sequence[Sequence[Traits]], orders: Sequence[Sequence[int] | None], own: int
) -> list[list[float]]:
    """Return for each item of the run `own` how unlike it is to the items at each place.

    `traits`: of the items of each run. `orders`: their places, None while they are unknown; those
    of the run itself are left out, if there are others. A trait that differs as much at one place
    as it does between places says nothing.
    """
    count = len(traits[own])
    known = [at for at, order in enumerate(orders) if order is not None]
    known = [at for at in known if at != own] or known
    every = np.array([traits[at] for at in known])
    placed = np.empty_like(every)
    for at, run in enumerate(known):
        order = orders[run]
        assert order is not None
        placed[at, list(order)] = every[at]
    middle = placed.mean(axis=0)
    whole = every.std(axis=(0, 1)) + _LEAST_SPREAD
    within = placed.std(axis=0).mean(axis=0) if len(known) > _FEW else whole
    spread = np.clip(within, _LEAST_SPREAD, whole)
    mine = np.array(traits[own])
    apart = (mine[:, None, :] - middle[None, :, :]) / spread
    weight = 1.0 - (spread / whole) ** 2 if len(known) > _FEW else np.full_like(whole, _UNKNOWN)
    costs = 0.5 * (np.minimum(apart**2, _MOST_APART) * weight).sum(axis=2)
    assert costs.shape == (count, count)
    return [[float(cost) for cost in row] for row in costs]


def _alike(
    needs: dict[int, frozenset[int]], labels: Sequence[str], flow: KnownFlow
) -> dict[int, object]:
    """Return for each place a value that is equal for places that can be exchanged.

    Such places wait for the same calls, and what follows them is alike; the latter is compared by
    depth and labels where nothing else waits for them alone.
    """
    after: dict[int, set[int]] = {place: set() for place in needs}
    for place, before in needs.items():
        for one in before:
            after[one].add(place)
    return {
        place: (
            before,
            labels[place],
            frozenset(after[place]),
            flow.flows.at and flow.flows.at[place],
        )
        for place, before in needs.items()
    }
