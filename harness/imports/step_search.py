"""The tree of one step of a program, from its runs: which call is which, and who waited for whom.

The tree is sought from one run after another. The other runs are matched to it, the tree of all is
found from what they have in common, and they are matched again, as long as that explains more.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.imports.alignment import KnownFlow, TimedItem, Traits, aligned, unlike_places
from harness.imports.prompt_flow import NO_FLOWS, PromptFlows, prompt_flows
from harness.imports.series_parallel import CallFork, CallTree, ProgramCall, tree_of_order
from harness.imports.tree_search import EARLY_BY, GapCosts, best_near

MOST_RUNS = 12
"""How many runs of a program show its structure; the others follow it."""
_STARTS = 4
_MOST_STARTS = 10
"""From how many runs the structure is sought: more, where some prompts are explained, not all."""
_ROUNDS = 4
_FEW_TOLD = 0.5
_TRIGGER = 3.0
"""The weight of one run in which a call began right after another."""
_READ = 30.0
"""The weight of an answer that a prompt contains."""
_MOST_OF_RUNS = 0.7
"""The share of the runs in which a call ends before another one that reads its answer.

Not all, since single runs may be matched wrongly.
"""
_SHARE_OF_CHANCE = 0.3
"""In how many runs another call than those that it waits for may end right before a call."""


class StepRuns(NamedTuple):
    """The items of one step in each run, in the order of their starts.

    `begins`: when the step began, in nanoseconds. `given`: tokens that were known before it, see
    `prompt_flows`. `scale`: a usual gap, in nanoseconds.
    """

    timed: Sequence[Sequence[TimedItem]]
    traits: Sequence[Sequence[Traits]]
    begins: Sequence[int]
    given: Sequence[Sequence[float]]
    scale: float


class _Matched(NamedTuple):
    """A tree, and the place in it of each item of the runs that show the structure."""

    cost: float
    tree: CallTree
    orders: list[list[int]]
    labels: list[str]
    flows: PromptFlows


def step_tree(step: StepRuns) -> tuple[CallTree, list[list[int]]]:
    """Return the tree of one step, and the place of each of its items in each run."""
    count = len(step.timed[0])
    if count == 1:
        return ProgramCall(0), [[0] for _ in step.timed]
    labels = [item.label for item in step.timed[0]]
    if len(set(labels)) == count:
        return _labelled(step, labels)
    best = _best_match(_sample(step))
    if best is None:
        fork = CallFork(tuple(ProgramCall(at) for at in range(count)))
        return fork, [list(range(count)) for _ in step.timed]
    return best.tree, [*best.orders, *_followers(step, best)]


def _sample(step: StepRuns) -> StepRuns:
    """Return the runs that show the structure."""
    few = slice(MOST_RUNS)
    return StepRuns(
        step.timed[few], step.traits[few], step.begins[few], step.given[few], step.scale
    )


def _labelled(step: StepRuns, labels: Sequence[str]) -> tuple[CallTree, list[list[int]]]:
    """Return the tree, where labels tell all items of a run apart."""
    orders = [[labels.index(item.label) for item in run] for run in step.timed]
    few = _sample(step)
    placed = _placed(few.timed, orders[: len(few.timed)])
    return _explained(placed, few.begins, _flows(placed, few.given), few.scale), orders


def _best_match(step: StepRuns) -> _Matched | None:
    """Return the best of the trees that are found from one run after another."""
    best: _Matched | None = None
    for start in range(min(_MOST_STARTS, len(step.timed))):
        best = _cheaper(best, _from_run(step, start))
        told = 0.0 if best is None else best.flows.told
        if len(step.timed) == 1 or (start + 1 >= _STARTS and not _FEW_TOLD < told < 1.0):
            break
    return best


def _cheaper(one: _Matched | None, other: _Matched | None) -> _Matched | None:
    if one is None or other is None:
        return one or other
    return other if other.cost < one.cost - 1e-9 else one


def _from_run(step: StepRuns, start: int) -> _Matched | None:
    """Return the best tree that is found from one run on; None if no run fits it."""
    labels = [item.label for item in step.timed[start]]
    orders: list[list[int] | None] = [None] * len(step.timed)
    orders[start] = list(range(len(labels)))
    flows = NO_FLOWS
    tree = _explained([step.timed[start]], [step.begins[start]], flows, step.scale)
    best: _Matched | None = None
    cost = math.inf
    for _ in range(_ROUNDS):
        found = _orders(step, tree, labels, flows, orders)
        if found is None:
            break
        orders = [*found]
        placed = _placed(step.timed, found)
        flows = _flows(placed, step.given)
        costs = _gap_costs(placed, step.begins, step.scale, flows)
        anew = _explained(placed, step.begins, flows, step.scale)
        if _seen_order(placed, step.scale).free:
            tree = anew
        else:
            tree = min(anew, best_near(tree, costs), key=costs.of_tree)
        before, cost = cost, costs.of_tree(tree) + flows.misfit
        best = _cheaper(best, _Matched(cost, tree, found, labels, flows))
        if cost >= before - 1e-9:
            break
    return best


def _orders(
    step: StepRuns, tree: CallTree, labels: Sequence[str], flows: PromptFlows,
    orders: Sequence[list[int] | None],
) -> list[list[int]] | None:  # fmt: skip
    """Return the place of each item of each run; None if a run does not fit the tree.

    `orders`: the places that were found before, None while they are unknown.
    """
    found = []
    for at, run in enumerate(step.timed):
        unlike = unlike_places(step.traits, orders, at)
        flow = KnownFlow(flows, step.given[at])
        match = aligned(tree, labels, run, step.begins[at], step.scale, unlike, flow)
        if match is None:
            return None
        found.append(match[1])
    return found


def _followers(step: StepRuns, best: _Matched) -> list[list[int]]:
    """Return the places of the items of the other runs; in the order of starts if none fit."""
    few = len(best.orders)
    found = []
    for at in range(few, len(step.timed)):
        unlike = unlike_places([*step.traits[:few], step.traits[at]], [*best.orders, None], few)
        flow = KnownFlow(best.flows, step.given[at])
        run, begin = step.timed[at], step.begins[at]
        match = aligned(best.tree, best.labels, run, begin, step.scale, unlike, flow)
        found.append(list(range(len(run))) if match is None else match[1])
    return found


def improved_tree(
    tree: CallTree, placed: Sequence[Sequence[TimedItem]], begins: Sequence[int], scale: float
) -> CallTree:
    """Return a tree that explains aligned runs better, from `tree` on."""
    if _seen_order(placed, scale).free:
        return tree
    return best_near(tree, _gap_costs(placed, begins, scale, _flows(placed, [[] for _ in placed])))


def _placed(
    runs: Sequence[Sequence[TimedItem]], orders: Sequence[Sequence[int]]
) -> list[list[TimedItem]]:
    """Return the items of each run in the order of their places."""
    placed = []
    for run, places in zip(runs, orders, strict=True):
        by_place = dict(zip(places, run, strict=True))
        placed.append([by_place[place] for place in range(len(run))])
    return placed


def _flows(placed: Sequence[Sequence[TimedItem]], given: Sequence[Sequence[float]]) -> PromptFlows:
    """Return what the prompts at each place contain."""
    starts = np.array([[item.start for item in run] for run in placed])
    ends = np.array([[item.end for item in run] for run in placed])
    read = np.array([[item.read for item in run] for run in placed])
    written = np.array([[item.written for item in run] for run in placed])
    is_before = (ends[:, :, None] <= starts[:, None, :] + EARLY_BY).mean(axis=0) >= _MOST_OF_RUNS
    known = np.array(given[: len(placed)])
    return prompt_flows(read, written, known if known.size else read[:, :1], is_before)


def _gap_costs(
    placed: Sequence[Sequence[TimedItem]], begins: Sequence[int], scale: float,
    flows: PromptFlows,
) -> GapCosts:  # fmt: skip
    zero = np.array(begins[: len(placed)], dtype=np.float64)[:, None]
    starts = np.array([[item.start for item in run] for run in placed], dtype=np.float64) - zero
    ends = np.array([[item.end for item in run] for run in placed], dtype=np.float64) - zero
    return GapCosts(starts, ends, scale, flows)


def _explained(
    placed: Sequence[Sequence[TimedItem]], begins: Sequence[int], flows: PromptFlows, scale: float
) -> CallTree:
    """Return the tree of aligned runs: of what ended before what in all of them."""
    seen = _seen_order(placed, scale)
    read = {(a, b) for b, flow in enumerate(flows.at) if flow is not None for a in flow.reads}
    order = {(a, b) for a, b in seen.order if b not in seen.free or (a, b) in read}
    weights = {
        (a, b): _TRIGGER * seen.triggers[a, b]
        + _surprise(placed, begins, a, b)
        + _READ * ((a, b) in read)
        for a, b in order
    }
    members = range(len(placed[0]))
    tree = tree_of_order(members, order, weights)
    if seen.free:
        return tree
    costs = _gap_costs(placed, begins, scale, flows)
    found = best_near(tree, costs)
    if read:
        shown = _closed({pair for pair in order if pair in read or seen.triggers[pair]}) & order
        found = min(
            found, best_near(tree_of_order(members, shown, weights), costs), key=costs.of_tree
        )
    return found


def _closed(pairs: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return a relation with all that follows from it: a before b and b before c is a before c."""
    after: dict[int, set[int]] = defaultdict(set)
    for a, b in pairs:
        after[a].add(b)
    while True:
        grown = {(a, c) for a in after for b in after[a] for c in after.get(b, ()) if c != a}
        new = [(a, c) for a, c in grown if c not in after[a]]
        if not new:
            return {(a, b) for a, those in after.items() for b in those}
        for a, c in new:
            after[a].add(c)


class _SeenOrder(NamedTuple):
    """What ended before what in all runs, what began right after what, and in how many of them.

    `free`: calls that began right after another one that does not always end before them: they
    waited for a permit, not for a call.
    """

    order: set[tuple[int, int]]
    triggers: Counter[tuple[int, int]]
    free: set[int]


def _seen_order(placed: Sequence[Sequence[TimedItem]], scale: float) -> _SeenOrder:
    count = len(placed[0])
    order = {
        (a, b)
        for a in range(count)
        for b in range(count)
        if a != b and all(run[a].end <= run[b].start + EARLY_BY for run in placed)
    }
    order -= {(b, a) for a, b in order if (b, a) in order and a < b}
    triggers: Counter[tuple[int, int]] = Counter()
    strange: Counter[int] = Counter()
    for run in placed:
        for b in range(count):
            before = [a for a in range(count) if a != b and run[a].end <= run[b].start + EARLY_BY]
            if not before:
                continue
            last = max(before, key=lambda a: run[a].end)
            if run[b].start - run[last].end > 10 * scale:
                continue
            if (last, b) in order:
                triggers[last, b] += 1
            else:
                strange[b] += 1
    free = {b for b in strange if strange[b] > _SHARE_OF_CHANCE * len(placed)}
    return _SeenOrder(order, triggers, free)


def _surprise(
    placed: Sequence[Sequence[TimedItem]], begins: Sequence[int], a: int, b: int
) -> float:
    """Return how little chance explains that `a` ended before `b` began in all runs."""
    ends = [run[a].end - begin for run, begin in zip(placed, begins, strict=False)]
    starts = [run[b].start - begin for run, begin in zip(placed, begins, strict=False)]
    hits = sum(end <= start for end in ends for start in starts)
    share = (hits + 0.5) / (len(ends) * len(starts) + 1)
    return 0.1 - len(ends) * math.log(share) if len(ends) > 1 else 0.1
