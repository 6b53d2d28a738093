"""Whose answers a prompt contains, from the numbers of tokens in several runs of a program.

A prompt has a part of its own, the same in each run, and what the call was given: the input of the
run, and answers of calls before it. So its length differs from run to run as the sum of theirs
does. Which sum that is can be told from a few runs, even if single ones are not matched rightly:
costs grow with the logarithm of a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

TokenTable: TypeAlias = npt.NDArray[np.float64]
"""One row for each run, one column for each call; not a number where the tokens are unknown."""

_LEAST_RUNS = 4
_BEAM = 24
_MOST_READ = 24
"""The most answers that a prompt is searched for."""
_LEAST_WEIGHT = 4.0
"""By how much a prompt must be explained better with an answer than without it."""
MOST_UNLIKE = 8.0
"""The most that the length of a prompt says against a place."""
_DIFFERENCE = 2.0
_RELATIVE_DIFFERENCE = 0.004
"""Tokens that a prompt may have more or less than its parts: fixed, and for each of its tokens."""


class PromptFlow(NamedTuple):
    """What the prompts at one place contain.

    `reads`: places whose answers they contain. `untold`: places whose answers have the same length
    in all runs, so that nothing tells. `given`: columns of what was known before the step. `own`:
    tokens of the rest. `spread`: a usual difference, in tokens.
    """

    reads: frozenset[int]
    untold: frozenset[int]
    given: tuple[int, ...]
    own: float
    spread: float


class PromptFlows(NamedTuple):
    """What the prompts at each place contain: None where the tokens do not tell.

    `misfit`: how badly that explains the lengths of all prompts; less is better.
    """

    at: tuple[PromptFlow | None, ...]
    misfit: float

    @property
    def told(self) -> float:
        """The share of the places of which it is known."""
        return sum(flow is not None for flow in self.at) / max(len(self.at), 1)


NO_FLOWS = PromptFlows((), 0.0)


def prompt_flows(
    read: TokenTable, written: TokenTable, given: TokenTable, is_before: npt.NDArray[np.bool_]
) -> PromptFlows:
    """Return what the prompts at each place contain.

    `given`: what any call of the step can contain, such as answers of earlier steps.
    `is_before[a, b]`: the call at `a` ended before that at `b` began, in most runs.
    """
    runs, count = read.shape
    if runs < _LEAST_RUNS:
        return PromptFlows((None,) * count, 0.0)
    varies = np.ptp(written, axis=0) > 2 * _DIFFERENCE
    outer = [at for at in range(given.shape[1]) if np.ptp(given[:, at]) > 2 * _DIFFERENCE]
    untold = frozenset(one for one in range(count) if not varies[one])
    flows: list[PromptFlow | None] = []
    misfit = 0.0
    for place in range(count):
        inner = [one for one in range(count) if is_before[one, place] and varies[one]]
        if np.isnan(read[:, place]).any():
            flows.append(None)
            continue
        flow, cost = _flow(read[:, place], written, inner, given, outer)
        flows.append(flow and flow._replace(untold=untold))
        misfit += cost
    return PromptFlows(tuple(flows), misfit)


def _flow(
    prompt: npt.NDArray[np.float64], written: TokenTable, inner: Sequence[int], given: TokenTable,
    outer: Sequence[int],
) -> tuple[PromptFlow | None, float]:  # fmt: skip
    spread = _DIFFERENCE + _RELATIVE_DIFFERENCE * float(np.median(prompt))
    columns = np.concatenate([given[:, list(outer)], written[:, list(inner)]], axis=1)
    misfit, chosen = _chosen(prompt, columns, spread)
    rest = prompt - columns[:, sorted(chosen)].sum(axis=1)
    if np.median(np.abs(rest - np.median(rest))) > spread:
        return None, misfit
    for one in sorted(chosen):
        without = prompt - columns[:, sorted(chosen - {one})].sum(axis=1)
        if _cost(without, spread) - _cost(rest, spread) < _LEAST_WEIGHT:
            return None, misfit
    first = len(outer)
    flow = PromptFlow(
        frozenset(inner[one - first] for one in chosen if one >= first),
        frozenset(),
        tuple(sorted(outer[one] for one in chosen if one < first)),
        float(np.median(rest)),
        spread,
    )
    return flow, misfit


def _chosen(
    prompt: npt.NDArray[np.float64], columns: TokenTable, spread: float
) -> tuple[float, frozenset[int]]:
    """Return the columns whose sum differs from run to run as the prompt does, and their cost.

    A beam search: of the sums of n columns, the best are kept and get one more.
    """
    width = columns.shape[1]
    price = math.log(width + 1) + 1.0
    members = np.zeros((1, width), dtype=np.bool_)
    rests = prompt[None, :]
    best = (float(_costs(rests, spread)[0]), frozenset[int]())
    for size in range(1, min(width, _MOST_READ) + 1):
        grown = rests[:, None, :] - columns.T[None, :, :]
        costs = np.where(members, np.inf, _costs(grown, spread))
        order = np.argsort(costs, axis=None, kind="stable")[: _BEAM * size]
        row, column = np.divmod(order, width)
        chosen = members[row]
        chosen[np.arange(len(row)), column] = True
        first = {
            line.tobytes(): at for at, line in reversed([*enumerate(np.packbits(chosen, axis=1))])
        }
        kept = sorted(first.values())[:_BEAM]
        members, rests = chosen[kept], grown[row[kept], column[kept]]
        cost = float(costs[row[kept[0]], column[kept[0]]]) + price * size
        if cost < best[0]:
            best = cost, frozenset(np.flatnonzero(members[0]).tolist())
    return best


def _cost(rest: npt.NDArray[np.float64], spread: float) -> float:
    return float(_costs(rest, spread))


def _costs(rests: npt.NDArray[np.float64], spread: float) -> npt.NDArray[np.float64]:
    """Return how much values differ; the last axis is that of the runs."""
    ordered = np.sort(rests, axis=-1)
    half = rests.shape[-1] // 2
    middle = (ordered[..., half] + ordered[..., -half - 1]) / 2
    apart = (rests - middle[..., None]) / spread
    return np.asarray(np.log1p(apart**2).sum(axis=-1))
