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


def step_tree(step: StepRuns) -> tuple[CallTree, list[list[int]]]:
    """Return the tree of one step, and the place of each of its items in each run."""
    timed, traits, begins, given, scale = step
    count, sampled = len(timed[0]), min(len(timed), MOST_RUNS)
    if count == 1:
        return ProgramCall(0), [[0] for _ in timed]
    best: tuple[float, CallTree, list[list[int]], list[str], PromptFlows] | None
    best = None
    for start in range(min(_MOST_STARTS, sampled)):
        labels = [item.label for item in timed[start]]
        if len(set(labels)) == count:
            known = [[labels.index(item.label) for item in run] for run in timed]
            placed = _placed(timed[:sampled], known[:sampled])
            return _explained(placed, begins, _flows(placed, given), scale), known
        orders: list[list[int] | None] = [None] * sampled
        orders[start] = list(range(count))
        flows = NO_FLOWS
        tree = _explained([timed[start]], [begins[start]], flows, scale)
        cost = math.inf
        for _ in range(_ROUNDS):
            found: list[list[int]] = []
            for at in range(sampled):
                unlike = unlike_places(traits[:sampled], orders, at)
                flow = KnownFlow(flows, given[at])
                match = aligned(tree, labels, timed[at], begins[at], scale, unlike, flow)
                if match is None:
                    break
                found.append(match[1])
            if len(found) < sampled:
                break
            orders = [*found]
            placed = _placed(timed[:sampled], found)
            flows = _flows(placed, given)
            costs = _gap_costs(placed, begins, scale, flows)
            anew = _explained(placed, begins, flows, scale)
            if _seen_order(placed, scale).free:
                tree = anew
            else:
                tree = min(anew, best_near(tree, costs), key=costs.of_tree)
            before, cost = cost, costs.of_tree(tree) + flows.misfit
            if best is None or cost < best[0] - 1e-9:
                best = (cost, tree, found, labels, flows)
            if cost >= before - 1e-9:
                break
        told = 0.0 if best is None else best[4].told
        if sampled == 1 or (start + 1 >= _STARTS and not _FEW_TOLD < told < 1.0):
            break
    if best is None:
        return CallFork(tuple(ProgramCall(at) for at in range(count))), [
            list(range(count)) for _ in timed
        ]
    _, tree, known, labels, flows = best
    for at in range(sampled, len(timed)):
        unlike = unlike_places([*traits[:sampled], traits[at]], [*known[:sampled], None], sampled)
        flow = KnownFlow(flows, given[at])
        match = aligned(tree, labels, timed[at], begins[at], scale, unlike, flow)
        known.append(list(range(count)) if match is None else match[1])
    return tree, known


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
