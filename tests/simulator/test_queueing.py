"""The provider's model against what queueing theory proves about it.

Poisson arrivals into a model without a fixed part of the time per token (a = c = 0) are M/G/1 with
processor sharing: a request of size x stays x / (1 - rho) on average, whatever the distribution of
sizes (Kleinrock, Queueing Systems II, 1976, section 4.4). Slots alone are M/M/c: the mean wait is
Erlang's C over c mu - lambda.

Plain averages would need millions of requests: at rho = 0.9 those of 200,000 are still uncertain
by 10 %. Here control variates take out what chance did to the input: over the same arrivals and
sizes, the workload that a request finds is that of any other server that never idles, so Lindley's
recursion gives it without the model, and its mean is known (Pollaczek and Khinchine). Batches of
consecutive requests are regressed on how far their controls are from the known means; the intercept
is the estimate (Glynn and Szechtman, MCQMC 2000). The first and the last batch are left out: the
model begins and ends empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from harness.simulator.model import Model, ServedRequest
from harness.simulator.pace import Pace, Speed

Floats = NDArray[np.float64]
Sizes = Literal["exponential", "log-normal"]
TOKENS = 1000
"""Mean size of a request; sizes are whole tokens, so it must be large."""
TOKEN = 1_000_000.0
"""Nanoseconds that a token takes alone."""
MEAN = TOKENS * TOKEN
BATCHES = 50
SIGMA = 1.0


class Load(NamedTuple):
    """Arrivals in nanoseconds, sizes in tokens; `second` is the second moment of size over mean."""

    arrivals: NDArray[np.int64]
    sizes: NDArray[np.int64]
    second: float
    rate: float


def load(sizes: Sizes, rate: float, count: int, seed: int) -> Load:
    """Return `count` requests, `rate` of them in the mean service time."""
    chance = np.random.default_rng(seed)
    if sizes == "exponential":
        drawn, second = chance.exponential(1, count), 2.0
    else:
        drawn, second = chance.lognormal(-(SIGMA**2) / 2, SIGMA, count), math.exp(SIGMA**2)
    gaps = chance.exponential(MEAN / rate, count)
    tokens = np.maximum(1, np.rint(drawn * TOKENS)).astype(np.int64)
    return Load(np.cumsum(gaps).astype(np.int64), tokens, second, rate)


def play(given: Load, pace: Pace, slots: int | None = None) -> tuple[Floats, Floats]:
    """Return how long each request waited for its slot and how long it stayed, in mean sizes."""
    model, numbers = Model(pace, slots), dict[ServedRequest, int]()
    wait, stay = np.zeros(len(given.sizes)), np.zeros(len(given.sizes))
    arrivals, sizes = given.arrivals.tolist(), given.sizes.tolist()

    def take(now: int) -> None:
        for job, moments in model.pop_due(now).items():
            number = numbers.pop(job)
            assert job.first_at is not None
            wait[number] = job.first_at - arrivals[number]
            stay[number] = moments[-1] - arrivals[number]

    for number, (at, size) in enumerate(zip(arrivals, sizes, strict=True)):
        numbers[model.arrive(at, 0, [size])] = number
        if number % 100 == 0:
            take(at)
    while (due := model.next_due()) is not None:
        take(due)
    assert not numbers
    return wait / MEAN, stay / MEAN


def workload_found(given: Load, servers: int) -> Floats:
    """Return the work that each request finds at a server as fast as all of them (Lindley)."""
    work = given.sizes * TOKEN / servers
    steps = np.concatenate([[0.0], work[:-1]]) - np.diff(given.arrivals, prepend=given.arrivals[0])
    total = np.cumsum(steps)
    found: Floats = (total - np.minimum.accumulate(np.minimum(total, 0))) / MEAN
    return found


def estimate(values: Floats, controls: Sequence[Floats]) -> tuple[float, float]:
    """Return the mean of `values` and half the width of its 95 % interval.

    The mean of each control is known to be 0.
    """
    columns = [_batches(control) for control in controls]
    y, x = _batches(values), np.column_stack([np.ones(BATCHES - 2), *columns])
    coefficients = np.linalg.lstsq(x, y, rcond=None)[0]
    rest, freedom = y - x @ coefficients, len(y) - x.shape[1]
    variance = rest @ rest / freedom * np.linalg.inv(x.T @ x)[0, 0]
    return float(coefficients[0]), float(stats.t.ppf(0.975, freedom) * math.sqrt(variance))


def _batches(values: Floats) -> Floats:
    size = len(values) // BATCHES
    means: Floats = values[: size * BATCHES].reshape(BATCHES, size).mean(1)[1:-1]
    return means


def controls(given: Load, servers: int) -> list[Floats]:
    """Return what chance did to the input, each less its mean."""
    rho, sizes = given.rate / servers, given.sizes / TOKENS
    gaps = np.diff(given.arrivals, prepend=0) / MEAN * given.rate
    mean_work = rho * given.second / 2 / (1 - rho) / servers
    return [workload_found(given, servers) - mean_work, sizes - 1, gaps - 1]


def assert_matches(found: tuple[float, float], theory: float) -> None:
    """Within 3 %, by an interval that is at most 2 % to each side."""
    value, half = found[0] / theory, found[1] / theory
    assert half <= 0.02, half
    assert abs(value - 1) <= 0.03, (value, half)


@pytest.mark.parametrize(
    ("rho", "count"),
    [(0.3, 40_000), (0.6, 80_000), pytest.param(0.9, 200_000, marks=pytest.mark.more)],
)
@pytest.mark.parametrize("sizes", ["exponential", "log-normal"])
def test_a_shared_processor_keeps_requests_for_their_size_over_one_minus_the_load(
    sizes: Sizes, rho: float, count: int
) -> None:
    given = load(sizes, rho, count, seed=1)
    _, stay = play(given, Speed(0, TOKEN, 0, 0))
    squares = (given.sizes / TOKENS) ** 2 - given.second
    assert_matches(estimate(stay, [*controls(given, 1), squares]), 1 / (1 - rho))


@pytest.mark.parametrize("half", ["short", "long"])
def test_short_and_long_requests_are_slowed_down_alike(half: str) -> None:
    """Here first come first served would fail, which exponential sizes cannot tell apart."""
    given, rho = load("log-normal", 0.6, 100_000, seed=2), 0.6
    _, stay = play(given, Speed(0, TOKEN, 0, 0))
    sizes = given.sizes / TOKENS
    median = math.exp(-(SIGMA**2) / 2)
    ours = (sizes < median) == (half == "short")
    share = stats.norm.cdf(-SIGMA) if half == "short" else stats.norm.cdf(SIGMA)
    own_sizes = np.where(ours, sizes, 0) - share
    found = estimate(np.where(ours, stay, 0), [*controls(given, 1), own_sizes, ours - 0.5])
    assert_matches(found, float(share) / (1 - rho))


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that a request has to wait in M/M/c."""
    idle = sum(load**k / math.factorial(k) for k in range(servers))
    busy = load**servers / math.factorial(servers) * servers / (servers - load)
    return busy / (idle + busy)


@pytest.mark.parametrize(
    ("slots", "rho", "count"), [(1, 0.7, 50_000), (4, 0.7, 100_000), (4, 0.9, 100_000)]
)
def test_slots_alone_make_requests_wait_as_erlang_says(slots: int, rho: float, count: int) -> None:
    given = load("exponential", rho * slots, count, seed=3)
    wait, _ = play(given, Speed(TOKEN, 0, 0, 0), slots)
    theory = erlang_c(slots, rho * slots) / (slots - rho * slots)
    assert_matches(estimate(wait, controls(given, slots)), theory)
