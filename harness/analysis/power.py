"""The power of the tests of `significance`: which change they would have found, and how often.

The spread is that of the runs themselves, so a power from few repeats is itself uncertain. A change
is found if its p is below the level. With a family of m tests, the level of a change that is alone
among them is `LEVEL` / m, the first step of Holm's method.
"""

from __future__ import annotations

import bisect
import functools
import math
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from scipy import special

from harness.analysis.significance import (
    LEVEL,
    ShareTest,
    SignificanceTest,
    TTest,
    WelchTest,
    fisher,
    mann_whitney,
)

USUAL_POWER = 0.8
"""The power at which a detectable change is given, by convention (Cohen, Statistical Power Analysis
for the Behavioral Sciences, 2nd edition, section 2.4)."""

_DRAWS = 4000
"""Simulated comparisons, or quantiles; the standard error of a power of 80 % is 0.6 points then."""

_AT_ONCE = 4_000_000
"""The most differences of simulated values in memory at a time."""

_QUANTILES = 21
"""The power of Fisher's test is averaged over so many results of the first run."""

MOST_REPEATS = 1000
"""The most repeats that are proposed."""

_RANKS = 3 / math.pi
"""How many values a t test needs instead of one of a rank test, if the values are normal (van der
Vaart, Asymptotic Statistics, example 14.12)."""

_FARTHEST = 20.0
"""The largest change of a logarithm that is looked for: a factor of 5e8."""


def power_of(test: SignificanceTest, change: float, level: float) -> float:
    """Return the probability that a change is found, in its direction.

    `change`: relative (-0.1 for 10 % less), of a share the difference.
    """
    match test:
        case TTest() | WelchTest():
            if test.of_logs:
                change = math.log1p(change) if change > -1 else -math.inf
            return _power_of_means(test, abs(change), level)
        case ShareTest():
            return _power_of_shares(test, change, level)
        case _:
            assert_never(test)


def detectable(
    test: SignificanceTest, sign: int, level: float, power: float = USUAL_POWER
) -> float | None:
    """Return the least change that is found with this power; None if there is none.

    `sign`: 1 for a rise, -1 for a fall.
    """

    def is_found(size: float) -> bool:
        return power_of(test, change(size), level) >= power

    def change(size: float) -> float:
        logs = not isinstance(test, ShareTest) and test.of_logs
        return math.expm1(sign * size) if logs else sign * size

    low, high = 0.0, _farthest(test, sign)
    if not is_found(high):
        return None
    while high - low > max(1e-6 * high, 1e-9):
        middle = (low + high) / 2
        low, high = (low, middle) if is_found(middle) else (middle, high)
    return change(high)


def repeats_needed(
    test: SignificanceTest,
    change: float,
    level: float,
    repeats: tuple[int, int],
    power: float = USUAL_POWER,
) -> int | None:
    """Return about how many repeats of both runs find a change with this power.

    `repeats`: those that the test has seen. None if `MOST_REPEATS` are too few.
    """

    def is_found(count: int) -> bool:
        return power_of(_with_repeats(test, count, repeats), change, level) >= power

    counts = range(2, MOST_REPEATS + 1)
    at = bisect.bisect_left(counts, True, key=is_found)
    return counts[at] if at < len(counts) else None


def _with_repeats(
    test: SignificanceTest, count: int, repeats: tuple[int, int]
) -> TTest | ShareTest:
    """Return the test of as many repeats on both sides, with the same spread."""
    match test:
        case TTest():
            factor = count / min(repeats)
            error, freedom = test.error / math.sqrt(factor), (test.freedom + 1) * factor - 1
            return test._replace(error=error, freedom=max(freedom, 1.0))
        case WelchTest():
            first, second = (spread**2 / count for spread in test.spreads)
            squares = (first**2 + second**2) / (count - 1)
            freedom = (first + second) ** 2 / squares if squares else 2.0 * count - 2
            return TTest(math.sqrt((first + second) / _RANKS), freedom, test.of_logs)
        case ShareTest():
            first, second = (
                max(1, round(tries * count / had))
                for tries, had in zip(test.tries, repeats, strict=True)
            )
            return test._replace(tries=(first, second), freedom=2.0 * count - 2)
        case _:
            assert_never(test)


def _farthest(test: SignificanceTest, sign: int) -> float:
    if isinstance(test, ShareTest):
        return 1 - test.base if sign > 0 else test.base
    return 1.0 if sign < 0 and not test.of_logs else _FARTHEST


def _power_of_means(test: TTest | WelchTest, distance: float, level: float) -> float:
    if isinstance(test, WelchTest):
        found = np.searchsorted(_least_distances(test, level), distance, side="right")
        return float(found) / _DRAWS
    if test.error < 1e-12:  # the repeats do not vary
        return 1.0 if distance > 0 else level
    return _power_of_t(distance / test.error, test.freedom, level)


def _power_of_t(distance: float, freedom: float, level: float) -> float:
    """Return the upper tail of the noncentral t distribution; `distance`: in standard errors.

    The mean over quantiles of the estimated error, because `special.nctdtr` fails if it is long.
    """
    return float(special.ndtr(distance - _critical_distances(freedom, level)).mean())


@functools.lru_cache(maxsize=256)
def _critical_distances(freedom: float, level: float) -> NDArray[np.float64]:
    """Return the critical value of a t test, in true standard errors, at quantiles of the error."""
    critical = special.stdtrit(freedom, 1 - level / 2)
    shares = (np.arange(_DRAWS) + 0.5) / _DRAWS
    found: NDArray[np.float64] = critical * np.sqrt(special.chdtri(freedom, shares) / freedom)
    return found


@functools.lru_cache(maxsize=256)
def _least_distances(test: WelchTest, level: float) -> NDArray[np.float64]:
    """Return how far apart two samples must be to be found, in ascending order.

    One number for each of `_DRAWS` simulated comparisons of normal samples: the least shift of the
    second sample that the tests call significant. The seed is constant.
    """
    (n, m), (first, second) = test.sizes, test.spreads
    random = np.random.default_rng(0)
    one, other = (
        spread * random.standard_normal((_DRAWS, size))
        for spread, size in ((first, n), (second, m))
    )
    errors = [values.var(axis=1, ddof=1) / values.shape[1] for values in (one, other)]
    whole = errors[0] + errors[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = whole**2 / (errors[0] ** 2 / (n - 1) + errors[1] ** 2 / (m - 1))
    freedom = np.where(whole > 0, freedom, n + m - 2)
    reach = special.stdtrit(freedom, 1 - level / 2) * np.sqrt(whole)
    by_t = reach - (other.mean(axis=1) - one.mean(axis=1))
    pairs = _critical_pairs(n, m)
    if pairs is None:
        alone: NDArray[np.float64] = np.sort(by_t)
        return alone
    by_ranks = np.empty(_DRAWS)
    portion = max(1, _AT_ONCE // (n * m))
    for start in range(0, _DRAWS, portion):
        part = slice(start, start + portion)
        apart = one[part, :, None] - other[part, None, :]
        ordered = np.partition(apart.reshape(-1, n * m), pairs - 1, axis=1)
        by_ranks[part] = ordered[:, pairs - 1]
    found: NDArray[np.float64] = np.sort(np.maximum(by_t, by_ranks))
    return found


@functools.cache
def _critical_pairs(n: int, m: int) -> int | None:
    """Return in how many of the n * m pairs the second value must be larger, by the rank test.

    None for samples so small that the test does not apply.
    """
    base = range(n)

    def is_called(pairs: int) -> bool:
        above, rest = divmod(pairs, n)
        between = [rest - 0.5] if above < m else []
        below = [-1.0 - at for at in range(m - above - len(between))]
        ranks = mann_whitney([*map(float, base)], [*(n + 1.0 + at for at in range(above)),
                                                   *between, *below])  # fmt: skip
        return ranks is not None and ranks < LEVEL

    if not is_called(n * m):
        return None
    return bisect.bisect_left(range(n * m + 1), True, lo=n * m // 2, key=is_called)


def _power_of_shares(test: ShareTest, change: float, level: float) -> float:
    new = min(max(test.base + change, 0.0), 1.0)
    n, m = test.tries
    # A rise of a share is a fall of the share of the others.
    base, after = (1 - test.base, 1 - new) if change > 0 else (test.base, new)
    most = _most_successes(base, n, m, level)
    found = float(np.where(most < 0, 0.0, special.bdtr(np.maximum(most, 0), m, after)).mean())
    if test.dispersion <= 1:
        return found
    both = (n * base + m * after) / (n + m)
    error = math.sqrt(test.dispersion * both * (1 - both) * (1 / n + 1 / m))
    return min(found, _power_of_t(abs(change) / error if error else math.inf, test.freedom, level))


@functools.lru_cache(maxsize=256)
def _most_successes(base: float, n: int, m: int, level: float) -> NDArray[np.float64]:
    """Return the most successes in m that are significantly less, -1 if none are.

    One number for each of `_QUANTILES` quantiles of the successes in n, whose share is `base`.
    """
    below = special.bdtr(np.arange(n + 1), n, base)
    successes = np.searchsorted(below, (np.arange(_QUANTILES) + 0.5) / _QUANTILES).tolist()

    def most(good: int) -> int:
        expected = math.ceil(m * good / n)
        counts = range(expected)
        return bisect.bisect_left(counts, True, key=lambda b: fisher(good, n, b, m) >= level) - 1

    found = {good: most(good) for good in set(successes)}
    return np.array([found[good] for good in successes], dtype=np.float64)
