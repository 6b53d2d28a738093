"""The likeliest tree of aligned runs: small changes of a tree, as long as one explains more.

What explains little is a call that began long after all that it waits for had ended. A tree is
also worth more if it is built as regularly as trees of programs are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from harness.imports.prompt_flow import NO_FLOWS, PromptFlow, PromptFlows
from harness.imports.series_parallel import (
    CallFork,
    CallTree,
    ProgramCall,
    Steps,
    dependencies,
    fork_of,
    in_steps,
    numbers_in,
)

AlignedTimes = npt.NDArray[np.float64]
"""One row for each run, one column for each call: nanoseconds since the step began."""

EARLY_BY = 5_000
"""Nanoseconds by which a call may begin before the end of one that it waited for."""
_MOST_MOVES = 200
_MOST_SEARCHED = 64
_IMPOSSIBLE = 100.0
"""The cost of a call that began before one that it waits for had ended, in one run."""
_UNREAD = 30.0
"""The cost of an answer that a call contains and did not wait for."""


class GapCosts:
    """The costs of the calls of aligned runs. `scale`: a usual gap, in nanoseconds."""

    def __init__(
        self, starts: AlignedTimes, ends: AlignedTimes, scale: float,
        flows: PromptFlows = NO_FLOWS,
    ) -> None:  # fmt: skip
        self._starts, self._ends, self._scale = starts, ends, scale
        self._flows = {at: flow for at, flow in enumerate(flows.at) if flow is not None}
        self.reads = {at: flow.reads for at, flow in self._flows.items()}
        self._known: dict[tuple[int, frozenset[int]], float] = {}

    def of_call(self, number: int, before: frozenset[int]) -> float:
        """Return the cost of all runs of a call that waits for others."""
        key = number, before
        if (cost := self._known.get(key)) is None:
            due = self._ends[:, list(before)].max(axis=1) if before else 0.0
            gaps = self._starts[:, number] - due
            early = int(np.count_nonzero(gaps < -EARLY_BY))
            late = np.log1p(np.maximum(gaps, 0.0) / self._scale)
            cost = self._known[key] = 2.0 * float(late.sum()) + _IMPOSSIBLE * early
        return cost

    def of_tree(self, tree: CallTree) -> float:
        """Return the cost of a tree: of its calls, of its shape and of what prompts contain."""
        needs = dependencies(tree)
        gaps = sum(self.of_call(*each) for each in needs.items())
        return gaps + shape_cost(tree) + flow_cost(needs, self._flows)


def flow_cost(needs: Mapping[int, frozenset[int]], flows: Mapping[int, PromptFlow]) -> float:
    """Return how unlikely it is that prompts contain what they do, as a negative logarithm.

    How often a call reads what it directly waited for, and what was further back, is counted in
    the tree itself. A call that reads what it did not wait for is nearly impossible.
    """
    if not flows:
        return 0.0
    before: dict[int, frozenset[int]] = {}
    for number, direct in needs.items():  # in an order in which calls follow what they wait for
        before[number] = direct.union(*(before[one] for one in direct))
    direct_read = direct_unread = far_read = far_unread = unknown = 0
    for number, flow in flows.items():
        read, every = flow.reads, before[number] - flow.untold
        direct = needs[number] - flow.untold
        direct_read += len(direct & read)
        direct_unread += len(direct - read)
        far_read += len((every - direct) & read)
        far_unread += len(every - direct - read)
        unknown += len(read - every)
    if not direct_read + far_read + unknown:
        return 0.0  # nothing is passed on, so nothing tells
    return (
        _code_length(direct_read, direct_unread)
        + _code_length(far_read, far_unread)
        + _UNREAD * unknown
    )


def shape_cost(tree: CallTree) -> float:
    """Return how unlikely a shape is, as a negative logarithm.

    How often a sequence goes on, a step is a fan-out and a fan-out has one more branch is counted
    in the tree itself, with the estimator of Krichevsky and Trofimov.
    """
    counts = [0] * 6

    def of_steps(node: CallTree) -> None:
        parts = node.parts if isinstance(node, Steps) else (node,)
        counts[0] += len(parts) - 1
        counts[1] += 1
        for part in parts:
            if isinstance(part, CallFork):
                counts[2] += 1
                counts[4] += len(part.parts) - 2
                counts[5] += 1
                for branch in part.parts:
                    of_steps(branch)
            else:
                counts[3] += 1

    of_steps(tree)
    return sum(_code_length(*counts[at : at + 2]) for at in (0, 2, 4))


def _code_length(yes: int, no: int) -> float:
    return -(
        math.lgamma(yes + 0.5)
        + math.lgamma(no + 0.5)
        - math.lgamma(yes + no + 1)
        - math.log(math.pi)
    )


def best_near(tree: CallTree, costs: GapCosts) -> CallTree:
    """Return a tree of which no small change has a lower cost, from `tree` on.

    A tree of more than 64 calls is returned as it is: the time grows with the fourth power.
    """
    if len(numbers_in(tree)) > _MOST_SEARCHED:
        return tree
    cost = costs.of_tree(tree)
    for _ in range(_MOST_MOVES):
        better = ((costs.of_tree(one), one) for one in changed_trees(tree, costs.reads))
        found = next((pair for pair in better if pair[0] < cost - 1e-9), None)
        if found is None:
            break
        cost, tree = found
    return tree


def changed_trees(
    tree: CallTree, reads: Mapping[int, frozenset[int]] = MappingProxyType({})
) -> Iterator[CallTree]:
    """Yield the trees that differ from one in what one branch waits for, or is waited for by.

    `reads`: the calls whose answers a call contains, where that is known.
    """
    if isinstance(tree, ProgramCall):
        return
    make = in_steps if isinstance(tree, Steps) else fork_of
    for at, part in enumerate(tree.parts):
        for other in changed_trees(part, reads):
            yield make([*tree.parts[:at], other, *tree.parts[at + 1 :]])
    is_sequence = isinstance(tree, Steps)
    yield from _of_steps(tree.parts, reads) if is_sequence else _of_fork(tree.parts)


def _of_steps(parts: Sequence[CallTree], reads: Mapping[int, frozenset[int]]) -> Iterator[CallTree]:
    for at in range(len(parts) - 1):
        one, other = parts[at : at + 2]
        head, tail = parts[:at], parts[at + 2 :]
        yield in_steps([*head, fork_of([one, other]), *tail])
        for branch, rest in _apart(one):
            yield in_steps([*head, fork_of([branch, in_steps([rest, other])]), *tail])
        for branch, rest in _apart(other):
            yield in_steps([*head, fork_of([branch, in_steps([one, rest])]), *tail])
        if isinstance(one, CallFork):
            wanted = frozenset[int]().union(*(reads.get(call, ()) for call in numbers_in(other)))
            read = [branch for branch in one.parts if wanted & {*numbers_in(branch)}]
            if 0 < len(read) < len(one.parts):
                rest = fork_of([branch for branch in one.parts if branch not in read])
                yield in_steps([*head, fork_of([rest, in_steps([fork_of(read), other])]), *tail])
        if isinstance(other, CallFork):
            own = {*numbers_in(one)}
            reading = [
                branch
                for branch in other.parts
                if any(own & reads.get(call, frozenset()) for call in numbers_in(branch))
            ]
            if 0 < len(reading) < len(other.parts):
                rest = fork_of([branch for branch in other.parts if branch not in reading])
                yield in_steps([*head, fork_of([rest, in_steps([one, fork_of(reading)])]), *tail])


def _apart(node: CallTree) -> Iterator[tuple[CallTree, CallTree]]:
    if isinstance(node, CallFork):
        for at, branch in enumerate(node.parts):
            yield branch, fork_of([*node.parts[:at], *node.parts[at + 1 :]])


def _of_fork(parts: Sequence[CallTree]) -> Iterator[CallTree]:
    for at, chain in enumerate(parts):
        others = [*parts[:at], *parts[at + 1 :]]
        for number, other in enumerate(others):
            left = [*others[:number], *others[number + 1 :]]
            yield fork_of([*left, in_steps([chain, other])])
            if isinstance(chain, Steps):
                for changed in _with(other, chain):
                    yield fork_of([*left, changed])
        if isinstance(chain, Steps) and len(others) > 1:
            yield from _with(fork_of(others), chain)


def _with(branch: CallTree, chain: Steps) -> Iterator[CallTree]:
    """Yield a branch and a chain of which the first or the last step is not in parallel to it."""
    first, *rest = chain.parts
    yield in_steps([first, fork_of([branch, in_steps(rest)])])
    *most, last = chain.parts
    yield in_steps([fork_of([branch, in_steps(most)]), last])
