"""Programs as trees of sequences and fan-outs, and the tree that explains an order of calls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class ProgramCall:
    """A call, by its number."""

    number: int


@dataclass(frozen=True)
class Steps:
    """Parts that follow one another; each waits for all of the part before."""

    parts: tuple[CallTree, ...]


@dataclass(frozen=True)
class CallFork:
    """Parts that run at the same time and are joined."""

    parts: tuple[CallTree, ...]


CallTree: TypeAlias = ProgramCall | Steps | CallFork
Order: TypeAlias = Collection[tuple[int, int]]
"""Pairs of calls of which the first ended before the second began."""


def in_steps(parts: Sequence[CallTree]) -> CallTree:
    """Return parts in sequence; a sequence within them is taken apart."""
    flat: list[CallTree] = []
    for part in parts:
        flat += part.parts if isinstance(part, Steps) else [part]
    return flat[0] if len(flat) == 1 else Steps(tuple(flat))


def fork_of(parts: Sequence[CallTree]) -> CallTree:
    """Return parts in parallel; a fan-out within them is taken apart."""
    flat: list[CallTree] = []
    for part in parts:
        flat += part.parts if isinstance(part, CallFork) else [part]
    return flat[0] if len(flat) == 1 else CallFork(tuple(flat))


def numbers_in(tree: CallTree) -> list[int]:
    """Return the numbers of all calls of a tree, in its order."""
    if isinstance(tree, ProgramCall):
        return [tree.number]
    return [number for part in tree.parts for number in numbers_in(part)]


def with_parts(tree: CallTree, parts: Callable[[int], CallTree]) -> CallTree:
    """Return the tree with `parts(number)` in the place of each call."""
    if isinstance(tree, ProgramCall):
        return parts(tree.number)
    inner = [with_parts(part, parts) for part in tree.parts]
    return in_steps(inner) if isinstance(tree, Steps) else fork_of(inner)


def dependencies(tree: CallTree) -> dict[int, frozenset[int]]:
    """Return for each call the calls that it directly waited for."""
    found: dict[int, frozenset[int]] = {}

    def walk(node: CallTree, before: frozenset[int]) -> frozenset[int]:
        if isinstance(node, ProgramCall):
            found[node.number] = before
            return frozenset([node.number])
        if isinstance(node, Steps):
            for part in node.parts:
                before = walk(part, before)
            return before
        return frozenset().union(*(walk(part, before) for part in node.parts))

    walk(tree, frozenset())
    return found


def tree_of_order(
    members: Sequence[int], order: Order, weights: Mapping[tuple[int, int], float]
) -> CallTree:
    """Return a tree in which every wait is one of `order`.

    `order`: a partial order. Where it is no order of sequences and fan-outs, the members are parted
    into two branches, so that the relations between them, which are dropped, have the least weight.
    """
    return _within(list(members), set(order), weights)


def _decomposed(
    members: list[int], order: set[tuple[int, int]], weights: Mapping[tuple[int, int], float]
) -> CallTree:
    if len(members) == 1:
        return ProgramCall(members[0])
    related = {one: set[int]() for one in members}
    for a, b in order:
        related[a].add(b)
        related[b].add(a)
    parts = _connected(members, lambda one: related[one])
    if len(parts) > 1:
        return fork_of([_within(part, order, weights) for part in parts])
    every = set(members)
    steps = _connected(members, lambda one: every - related[one] - {one})
    if len(steps) > 1:
        steps.sort(key=lambda step: sum((other, step[0]) in order for other in members))
        return in_steps([_within(step, order, weights) for step in steps])
    strength = {pair: weights.get(pair, 0.0) for pair in order}
    side = set(_least_cut(members, strength))
    halves = [[one for one in members if (one in side) == inside] for inside in (True, False)]
    return fork_of([_within(half, order, weights) for half in halves])


def _within(
    members: list[int], order: set[tuple[int, int]], weights: Mapping[tuple[int, int], float]
) -> CallTree:
    inside = set(members)
    return _decomposed(members, {(a, b) for a, b in order if {a, b} <= inside}, weights)


def _connected(members: list[int], near: Callable[[int], set[int]]) -> list[list[int]]:
    left, parts = dict.fromkeys(members), list[list[int]]()
    while left:
        first = next(iter(left))
        found, stack = {first}, [first]
        while stack:
            for other in near(stack.pop()) - found:
                found.add(other)
                stack.append(other)
        parts.append([one for one in left if one in found])
        for one in found:
            del left[one]
    return parts


def _least_cut(members: list[int], strength: Mapping[tuple[int, int], float]) -> list[int]:
    """Return one side of the least cut (Stoer and Wagner, Journal of the ACM 44, 1997)."""
    weight = {one: dict[int, float]() for one in members}
    for (a, b), value in strength.items():
        weight[a][b] = weight[a].get(b, 0.0) + value
        weight[b][a] = weight[b].get(a, 0.0) + value
    merged = {one: [one] for one in members}
    best, side = float("inf"), [members[0]]
    while len(weight) > 1:
        joined = dict.fromkeys(weight, 0.0)
        before = last = next(iter(weight))
        cut = 0.0
        while joined:
            before, last = last, max(joined, key=lambda one: joined[one])
            cut = joined.pop(last)
            for other, value in weight[last].items():
                if other in joined:
                    joined[other] += value
        if cut < best:
            best, side = cut, list(merged[last])
        merged[before] += merged.pop(last)
        for other, value in weight.pop(last).items():
            weight[other].pop(last, None)
            if other != before:
                weight[before][other] = weight[before].get(other, 0.0) + value
                weight[other][before] = weight[before][other]
    return side
