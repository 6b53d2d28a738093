"""Which call of one run of a program is which call of another run.

A run is a list of intervals in the order of their starts. A tree is followed call by call: each
call takes a place of the tree that was due, at the cost of the time since then. A beam keeps the
cheapest ways.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.imports.prompt_flow import MOST_UNLIKE, NO_FLOWS, PromptFlows
from harness.imports.series_parallel import CallTree, dependencies

_BEAM = 256
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


NO_FLOW = KnownFlow(NO_FLOWS, ())


def gap_cost(gap: float, scale: float) -> float:
    """Return the cost of a time between a place being due and its call; 0 for no time."""
    return 2.0 * math.log1p(max(gap, 0.0) / scale)


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
    ways = _Ways(needs, labels, flow, begin, scale)
    twins = _twins(needs, labels, flow)
    for item, own in zip(run, unlike, strict=True):
        likeliest = np.argsort(own, kind="stable")
        can = ways.can_take(item, twins, likeliest)
        costs = np.where(can, ways.costs(item) + np.array(own), np.inf)[:, likeliest]
        best = np.argsort(costs, axis=None, kind="stable")[:_BEAM]
        best = best[np.isfinite(costs.ravel()[best])]
        if not best.size:
            return None
        way, place = np.divmod(best, len(likeliest))
        ways.take(item, way, likeliest[place], costs.ravel()[best])
    return float(ways.cost[0]), [int(place) for place in ways.order[0]]


class _Ways:
    """The ways in which the items of a run so far can have their places: one row for each way.

    `cost`: of each way. `order`: the places of its items. Other arrays have a column for each
    place: `_ends`, infinite where a place is free, and `_written`, 0 there.
    """

    def __init__(
        self, needs: Mapping[int, frozenset[int]], labels: Sequence[str], flow: KnownFlow,
        begin: int, scale: float,
    ) -> None:  # fmt: skip
        count = len(labels)
        self._labels, self._begin, self._scale = np.array(labels), begin, scale
        self._needs = _relation(count, needs)
        self._flow = flow
        flows = {at: one for at, one in enumerate(flow.flows.at) if one is not None}
        self._told = np.array([at in flows for at in range(count)])
        self._reads = _relation(count, {at: one.reads for at, one in flows.items()})
        width = max(len(flow.given), 1)
        self._given = _relation(count, {at: one.given for at, one in flows.items()}, width)
        self._own = np.array([flows[at].own if at in flows else 0.0 for at in range(count)])
        self._spread = np.array([flows[at].spread if at in flows else 1.0 for at in range(count)])
        self.cost = np.zeros(1)
        self.order = np.zeros((1, 0), dtype=np.int64)
        self._ends = np.full((1, count), np.inf)
        self._written = np.zeros((1, count))
        self._first_prompt = np.full(1, np.nan)

    def can_take(
        self, item: TimedItem, twins: Sequence[Sequence[int]], likeliest: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Return which places an item can take: of free places that are alike, the likeliest."""
        can: npt.NDArray[np.bool_] = np.isinf(self._ends) & (self._labels == item.label)
        rank = np.argsort(likeliest)
        for places in twins:
            ordered = sorted(places, key=rank.__getitem__)
            free = can[:, ordered]
            can[:, ordered] = free & (np.cumsum(free, axis=1) == 1)
        return can

    def costs(self, item: TimedItem) -> npt.NDArray[np.float64]:
        """Return the cost of each way with an item at each place."""
        ended = np.where(self._ends <= item.start, self._ends, -np.inf)
        due = np.where(self._needs, ended[:, None, :], -np.inf).max(axis=2)
        is_first = ~self._needs.any(axis=1)
        due[:, is_first] = self._begin
        missing = self._needs.sum(axis=1) - np.isfinite(ended) @ self._needs.T.astype(np.float64)
        late = 2.0 * np.log1p(np.maximum(item.start - due, 0.0) / self._scale)
        late[np.isneginf(due)] = _UNDUE
        return np.asarray(self.cost[:, None] + _UNFINISHED * missing + late + self._unread(item))

    def _unread(self, item: TimedItem) -> npt.NDArray[np.float64] | float:
        """Return how unlikely the length of the prompt of an item is at each place."""
        if not self._told.any():
            return 0.0
        given = np.array([self._flow.given]) if self._flow.given else self._first_prompt[:, None]
        known = np.where(self._given, given[:, None, :], 0.0).sum(axis=2)
        rest = item.read - self._own - known - self._written @ self._reads.T
        unlike = np.minimum(np.log1p((rest / self._spread) ** 2), MOST_UNLIKE)
        is_free = np.isinf(self._ends).astype(np.float64) @ self._reads.T > 0
        return np.where(is_free | ~self._told | np.isnan(unlike), 0.0, unlike)

    def take(
        self, item: TimedItem, way: npt.NDArray[np.int64], place: npt.NDArray[np.int64],
        cost: npt.NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Keep the given ways, each with an item at one more place."""
        rows = np.arange(len(way))
        self.cost = cost
        self.order = np.concatenate([self.order[way], place[:, None]], axis=1)
        self._ends, self._written = self._ends[way], self._written[way]
        self._ends[rows, place] = item.end
        self._written[rows, place] = item.written
        self._first_prompt = np.where(place == 0, item.read, self._first_prompt[way])


def _relation(
    count: int, members: Mapping[int, Iterable[int]], width: int | None = None
) -> npt.NDArray[np.bool_]:
    """Return a row for each place, true where a column is one of its members."""
    table = np.zeros((count, count if width is None else width), dtype=np.bool_)
    for row, columns in members.items():
        table[row, list(columns)] = True
    return table


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


def _twins(
    needs: Mapping[int, frozenset[int]], labels: Sequence[str], flow: KnownFlow
) -> list[list[int]]:
    """Return the groups of places that can be exchanged.

    Such places wait for the same calls, and the same calls wait for them.
    """
    after: dict[int, set[int]] = {place: set() for place in needs}
    for place, before in needs.items():
        for one in before:
            after[one].add(place)
    groups: dict[object, list[int]] = defaultdict(list)
    for place, before in needs.items():
        told = flow.flows.at[place] if flow.flows.at else None
        groups[before, labels[place], frozenset(after[place]), told].append(place)
    return [places for places in groups.values() if len(places) > 1]
