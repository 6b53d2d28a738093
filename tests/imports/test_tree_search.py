"""A tree is changed until it explains the runs best; calls are told apart by what they are like."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.imports import CASES, measured
from harness.imports.alignment import unlike_places
from harness.imports.series_parallel import CallFork, CallTree, ProgramCall, Steps, dependencies
from harness.imports.tree_search import GapCosts, best_near, shape_cost

A, B, C, D = (ProgramCall(number) for number in range(4))
SECOND = 1_000_000_000


def costs(*runs: tuple[tuple[float, float], ...]) -> GapCosts:
    """Return the costs of runs, each with start and end of its calls in seconds."""
    times = np.array(runs) * SECOND
    return GapCosts(times[:, :, 0], times[:, :, 1], 0.01 * SECOND)


@pytest.mark.parametrize(
    "start",
    [
        Steps((A, B, C, D)),
        CallFork((A, B, C, D)),
        Steps((CallFork((A, B)), C, D)),
        Steps((A, CallFork((B, C)), D)),
    ],
)
def test_the_tree_is_found_from_others(start: CallTree) -> None:
    """A, then B in parallel to C, then D; the last of B and C differs."""
    one = ((0.0, 1.0), (1.01, 3.0), (1.01, 2.0), (3.01, 4.0))
    other = ((0.0, 1.0), (1.01, 2.0), (1.01, 4.0), (4.01, 5.0))
    found = best_near(start, costs(one, other))
    assert dependencies(found) == {0: frozenset(), 1: {0}, 2: {0}, 3: {1, 2}}


def test_a_call_that_outlasts_the_next_step_is_no_part_of_the_one_before() -> None:
    """A in parallel to B and C, joined by D; in the first run, A ends before B."""
    one = ((0.0, 1.0), (0.0, 2.0), (2.01, 3.0), (3.01, 4.0))
    other = ((0.0, 5.0), (0.0, 2.0), (2.01, 3.0), (5.01, 6.0))
    found = best_near(Steps((CallFork((A, B)), C, D)), costs(one, other))
    assert dependencies(found)[2] == {1}
    assert dependencies(found)[3] == {0, 2}


def test_a_regular_shape_costs_less() -> None:
    regular = Steps((CallFork((A, B)), CallFork((C, D))))
    assert shape_cost(regular) < shape_cost(Steps((A, CallFork((B, Steps((C, CallFork((D, A)))))))))


def test_a_trait_that_tells_calls_apart_counts_and_noise_does_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(8, 4)).tolist()
    told = [[(float(place), noise[run][place]) for place in range(4)] for run in range(8)]
    places = list(range(4))
    unlike = np.array(unlike_places(told, [places] * 8, 0))
    assert unlike.argmin(axis=1).tolist() == places
    blind = np.array(
        unlike_places([[(0.0, each[1]) for each in run] for run in told], [places] * 8, 0)
    )
    assert (unlike - unlike.diagonal()[:, None]).max() > 5 * np.ptp(blind)


@pytest.mark.parametrize("at", [0, 1])
def test_fan_outs_of_single_calls_are_found(at: int) -> None:
    every = [measured(CASES[at], seed) for seed in range(6)]
    right = sum(one.right for one in every)
    assert sum(one.wrong for one in every) <= 0.05 * right
    assert sum(one.missed for one in every) <= 0.05 * right
