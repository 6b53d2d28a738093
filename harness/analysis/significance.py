"""Tests of the changes between two runs for significance. Pure functions of numbers.

Every interval is two-sided at 95 % (`at_level` makes one at another level), every p two-sided.
Changes of positive quantities are ratios, new over base; changes of shares are differences.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from harness.analysis.looks import TAIL
from harness.analysis.model import Figure
from harness.analysis.statistics import share

_K = TypeVar("_K", bound=Hashable)

RESAMPLES = 1000
_AT_ONCE = 4_000_000
"""The most numbers of resamples in memory at a time."""

_MOST_EXACT = 60
"""The most values for which the rank test is exact."""

FEWEST_PAIRS = 3
"""With fewer repeats than this on both sides, percentiles are compared by their workflows."""

LEVEL = 0.05
"""A change is significant if its p is below this."""


def is_called(p: float | None, ranks: float | None) -> bool:
    """Return whether a change is significant by its (adjusted) p and, if known, by its ranks.

    A t test alone errs in one case of twenty if nothing changed, and one outlier can move it. Ranks
    alone show no change among many cells: p of five against five repeats is at least 0.008.
    """
    return p is not None and p < LEVEL and (ranks is None or ranks < LEVEL)


class TTest(NamedTuple):
    """A t test of a change with this standard error; `of_logs`: of a change of the logarithm."""

    error: float
    freedom: float
    of_logs: bool


class WelchTest(NamedTuple):
    """Welch's t test, and the rank test where it applies: deviation and size of each sample."""

    spreads: tuple[float, float]
    sizes: tuple[int, int]
    of_logs: bool


class ShareTest(NamedTuple):
    """Fisher's exact test of a share that was `base`, and a t test if repeats vary by more.

    `tries`: on each side. `dispersion`: of the repeats, at most 1 if they vary by chance alone.
    """

    base: float
    tries: tuple[int, int]
    dispersion: float
    freedom: float


SignificanceTest: TypeAlias = TTest | WelchTest | ShareTest


class Difference(NamedTuple):
    """A change with its interval, and the probability of one as large by chance alone.

    `p` is None, and the figure has no bounds, with too few values. `method`: the name of the
    method. `ranks`: p of the rank test on the same values, None where it does not apply. `test`:
    what the power of the method depends on.
    """

    change: Figure
    p: float | None
    method: str
    ranks: float | None = None
    test: SignificanceTest | None = None


def at_level(found: Difference, level: float, *, called: bool) -> Figure:
    """Return a change with its interval at another level: 0.05 for 95 %.

    `called`: whether the change is significant at that level. The interval excludes no change
    exactly then. Bounds of t tests scale with the quantile, so they agree with p by themselves,
    except where ranks do not confirm it: then the interval is extended to no change. The bounds of
    a share are those of another method than its p. Where they disagree about no change, the
    interval is extended to it, or has the bound of a normal test with the same p (Miettinen,
    Estimability and Estimation in Case-Referent Studies, American Journal of Epidemiology 103,
    1976).
    """
    change, test = found.change, found.test
    value, low, high = change.value, change.low, change.high
    if low is None or high is None or test is None or found.p is None:
        return change
    if isinstance(test, ShareTest):
        far = _normal(level)
        scale = far / _normal(LEVEL)
        low, high = (max(-1.0, min(1.0, value + (at - value) * scale)) for at in (low, high))
        none, bound = 0.0, value * (1 - far / _normal(found.p)) if called else 0.0
    else:
        tails = (special.stdtrit(_freedom(test), 1 - at / 2) for at in (level, LEVEL))
        scale = float(next(tails)) / float(next(tails))
        low, high = (value * (at / value) ** scale for at in (low, high))
        none, bound = 1.0, 1.0
    if not called:
        low, high = min(low, none), max(high, none)
    elif low <= none <= high:
        low, high = (bound, high) if value > none else (low, bound)
    return Figure(value=value, low=low, high=high)


def _normal(p: float) -> float:
    """Return the distance in standard errors that has this two-sided p."""
    return float(-special.ndtri(p / 2))


def _freedom(test: TTest | WelchTest) -> float:
    if isinstance(test, TTest):
        return test.freedom
    squares = [spread**2 / size for spread, size in zip(test.spreads, test.sizes, strict=True)]
    parts = [one**2 / (size - 1) for one, size in zip(squares, test.sizes, strict=True)]
    return sum(squares) ** 2 / sum(parts) if any(parts) else sum(test.sizes) - 2.0


def by_repeats(
    base: Mapping[int, float], new: Mapping[int, float], *, paired: bool
) -> Difference | None:
    """Return the ratio of two quantities with one value a repeat, none of them negative.

    Student's t on the logs: of the paired ratios, or of two independent samples (Welch, The
    Generalization of Student's Problem, Biometrika 34, 1947), together with a rank test. A zero,
    such as goodput without a success, has no logarithm: then the test uses the values themselves,
    without bounds. None without a value on each side, or if the base has only zeros.
    """
    if paired:
        common = sorted(base.keys() & new.keys())
        base, new = ({repeat: side[repeat] for repeat in common} for side in (base, new))
    if not base or not new:
        return None
    one, other = np.array(list(base.values())), np.array(list(new.values()))
    if min(one.min(), other.min()) > 0:
        return _of_samples(np.log(one), np.log(other), paired=paired)
    typical = float(one.mean())
    if typical <= 0:
        return None
    found = _of_samples(one / typical, other / typical, paired=paired, of_logs=False)
    change = Figure(value=float(other.mean()) / typical)
    return found._replace(change=change, method=f"{found.method}, zeros among them")


def _of_samples(
    one: NDArray[np.float64], other: NDArray[np.float64], *, paired: bool, of_logs: bool = True
) -> Difference:
    """Return how the means of two samples of logarithms differ."""
    if paired:
        apart = other - one
        method = f"paired t over {len(apart)} repeats"
        paired_t = TTest(_error(apart), len(apart) - 1, of_logs)
        return _of_t(float(apart.mean()), paired_t, method)
    change = float(other.mean() - one.mean())
    if min(len(one), len(other)) < 2:
        return Difference(Figure(value=math.exp(change)), None, "too few repeats")
    errors = _error(one) ** 2, _error(other) ** 2
    whole = sum(errors)
    ranks = mann_whitney(one.tolist(), other.tolist())
    how = "Welch's t" if ranks is None else "Welch's t and ranks"
    method = f"{how} over {len(one)} and {len(other)} repeats"
    spreads = float(one.std(ddof=1)), float(other.std(ddof=1))
    test = WelchTest(spreads, (len(one), len(other)), of_logs)
    by_t = _of_t(change, TTest(math.sqrt(whole), _freedom(test), of_logs), method)
    return by_t._replace(ranks=ranks, test=test)


def _error(logs: NDArray[np.float64]) -> float:
    return float(logs.std(ddof=1)) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf


def _of_t(change: float, test: TTest, method: str) -> Difference:
    error, freedom = test.error, test.freedom
    if freedom < 1:
        return Difference(Figure(value=math.exp(change)), None, "too few repeats")
    if error < 1e-12:  # the same values
        value = math.exp(change)
        p = 1.0 if abs(change) < 1e-12 else 0.0
        return Difference(Figure(value=value, low=value, high=value), p, method, test=test)
    reach = float(special.stdtrit(freedom, 1 - TAIL)) * error
    p = 2 * float(special.stdtr(freedom, -abs(change) / error))
    figure = Figure(
        value=math.exp(change), low=math.exp(change - reach), high=math.exp(change + reach)
    )
    return Difference(figure, p, method, test=test)


def by_workflows(
    base: Mapping[_K, Sequence[float]], new: Mapping[_K, Sequence[float]], p: float, *, paired: bool
) -> Difference | None:
    """Return the ratio of two p-quantiles of clustered values, by resampling the clusters.

    A cluster has the workflows on one topic in one repeat, which resemble each other. Bootstrap of
    the log ratio (Efron and Tibshirani, An Introduction to the Bootstrap, chapters 6 and 16): its
    standard error with Student's t. Paired: a cluster that both runs have is drawn for both. The
    seed is constant, so the same values give the same result.
    """
    if paired:
        common = sorted(base.keys() & new.keys(), key=repr)
        base, new = ({key: side[key] for key in common} for side in (base, new))
    if not base or not new:
        return None
    one, other = _Clustered.of(base.values()), _Clustered.of(new.values())
    if min(one.values[0], other.values[0]) <= 0:
        return None
    change = math.log(other.quantile(p) / one.quantile(p))
    fewest = min(one.size, other.size)
    if fewest < 2:
        return Difference(Figure(value=math.exp(change)), None, "too few topics and repeats")
    random = np.random.default_rng(0)
    drawn = _draw(random, one.size)
    again = drawn if paired else _draw(random, other.size)
    ratios = np.log(other.quantiles(again, p) / one.quantiles(drawn, p))
    how = f"{'paired ' if paired else ''}bootstrap over {fewest} topics and repeats"
    return _of_t(change, TTest(float(ratios.std(ddof=1)), fewest - 1, of_logs=True), how)


def _draw(random: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return how often each of `count` clusters is drawn, in each of the resamples."""
    return random.multinomial(count, np.full(count, 1 / count), RESAMPLES)


class _Clustered(NamedTuple):
    """Values in ascending order, the cluster of each, and how many clusters there are."""

    values: NDArray[np.float64]
    clusters: NDArray[np.int64]
    size: int

    @classmethod
    def of(cls, parts: Iterable[Sequence[float]]) -> _Clustered:
        listed = list(parts)
        values = np.concatenate([np.asarray(part, np.float64) for part in listed])
        owners = np.repeat(np.arange(len(listed)), [len(part) for part in listed])
        order = np.argsort(values, kind="stable")
        return cls(values[order], owners[order], len(listed))

    def quantile(self, p: float) -> float:
        """Return the p-quantile: the least value with a share of at least p at or below it."""
        return float(self.values[math.ceil(p * len(self.values)) - 1])

    def quantiles(self, drawn: NDArray[np.int64], p: float) -> NDArray[np.float64]:
        """Return the p-quantile of each resample; `drawn` says how often it has each cluster."""
        found = np.empty(len(drawn))
        portion = max(1, _AT_ONCE // len(self.values))
        for start in range(0, len(drawn), portion):
            seen = np.cumsum(drawn[start : start + portion][:, self.clusters], axis=1)
            at = (seen >= np.ceil(p * seen[:, -1:])).argmax(axis=1)
            found[start : start + portion] = self.values[at]
        return found


class Successes(NamedTuple):
    """The numbers of successes and of tries, by repeat."""

    good: Sequence[int]
    tried: Sequence[int]


def of_shares(base: Successes, new: Successes) -> Difference | None:
    """Return the difference of two shares, new minus base; None if a side has no tries.

    Newcombe's hybrid of the two intervals (Interval Estimation for the Difference between
    Independent Proportions, Statistics in Medicine 17, 1998, method 10, here on Clopper and
    Pearson's). p is that of Fisher's exact test, which assumes independence, or that of
    `_with_extra_spread` if it is larger: failures in bursts make repeats differ.
    """
    one, other = share(base.good, base.tried), share(new.good, new.tried)
    if one is None or other is None:
        return None
    assert None not in (one.low, one.high, other.low, other.high), "a share has its bounds"
    change = other.value - one.value
    below = math.hypot(other.value - (other.low or 0.0), (one.high or 0.0) - one.value)
    above = math.hypot((other.high or 0.0) - other.value, one.value - (one.low or 0.0))
    p = fisher(sum(base.good), sum(base.tried), sum(new.good), sum(new.tried))
    freedom = len(base.tried) + len(new.tried) - 2
    dispersion = (_between(base) + _between(new)) / max(freedom, 1)
    spread = _with_extra_spread(base, new, dispersion, freedom)
    how = "Fisher's exact test" if p >= spread else "t of shares that vary by repeat"
    return Difference(
        Figure(value=change, low=change - below, high=change + above),
        max(p, spread),
        f"{how} over {sum(base.tried)} and {sum(new.tried)}",
        test=ShareTest(one.value, (sum(base.tried), sum(new.tried)), dispersion, freedom),
    )


def _with_extra_spread(base: Successes, new: Successes, dispersion: float, freedom: int) -> float:
    """Return the two-sided p of two equal shares, 0 if the repeats differ by chance alone.

    The normal test of two shares with its variance multiplied by the dispersion, which is Pearson's
    chi-squared between the repeats over its degrees of freedom, and so Student's t (McCullagh and
    Nelder, Generalized Linear Models, 2nd edition, section 4.5.2).
    """
    if dispersion <= 1:
        return 0.0
    n, m = sum(base.tried), sum(new.tried)
    both = (sum(base.good) + sum(new.good)) / (n + m)
    error = math.sqrt(dispersion * both * (1 - both) * (1 / n + 1 / m))
    change = abs(sum(new.good) / m - sum(base.good) / n)
    return 2 * float(special.stdtr(freedom, -change / error))


def _between(side: Successes) -> float:
    """Return Pearson's chi-squared of a side's repeats having one share in common."""
    whole = sum(side.tried)
    typical = sum(side.good) / whole
    if not 0 < typical < 1:
        return 0.0
    apart = ((good - typical * n) ** 2 / n for good, n in zip(side.good, side.tried, strict=True))
    return sum(apart) / (typical * (1 - typical))


def fisher(good: int, tried: int, others_good: int, others_tried: int) -> float:
    """Return the two-sided p of Fisher's exact test for two equal shares.

    The sum of the hypergeometric probabilities not larger than that of the observed table.
    """
    successes, whole = good + others_good, tried + others_tried
    least, most = max(0, successes - others_tried), min(successes, tried)
    counts = np.arange(least, most + 1)
    logs = (
        _log_choose(tried, counts)
        + _log_choose(others_tried, successes - counts)
        - _log_choose(whole, np.array(successes))
    )
    seen = logs[good - least]
    return min(1.0, float(np.exp(logs[logs <= seen + 1e-9]).sum()))


def _log_choose(n: int, k: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (
        special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    )
    return found


def mann_whitney(base: Sequence[float], new: Sequence[float]) -> float | None:
    """Return the two-sided p of Mann and Whitney's rank test; None if no order is significant.

    On a Test of Whether One of Two Random Variables is Stochastically Larger than the Other, Annals
    of Mathematical Statistics 18, 1947. Up to 60 values exact, whatever their ties; for more the
    normal approximation with its correction for ties.
    """
    n, m = len(base), len(new)
    if 2 / math.comb(n + m, n) >= LEVEL:
        return None
    values = np.concatenate([np.asarray(base), np.asarray(new)])
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    twice = (2 * np.cumsum(counts) - (counts - 1))[place]  # the ranks, doubled: whole numbers
    if n + m <= _MOST_EXACT:
        return _exact_ranks(twice, m)
    u = float(twice[n:].sum()) / 2 - m * (m + 1) / 2
    ties = float((counts**3 - counts).sum())
    whole = n + m
    variance = n * m / 12 * ((whole + 1) - ties / (whole * (whole - 1)))
    if variance <= 0:
        return 1.0
    distance = max(abs(u - n * m / 2) - 0.5, 0.0)
    return float(min(1.0, 2 * special.ndtr(-distance / math.sqrt(variance))))


def _exact_ranks(twice: NDArray[np.int64], m: int) -> float:
    """Return twice the share of all choices of `m` ranks whose sum is as far out as the last's."""
    chosen = np.zeros((m + 1, int(twice.sum()) + 1))  # ways to choose so many with such a sum
    chosen[0, 0] = 1
    for rank in twice:
        chosen[1:, rank:] += chosen[:-1, : chosen.shape[1] - rank]
    ways, seen = chosen[m], int(twice[-m:].sum())
    return float(min(1.0, 2 * min(ways[: seen + 1].sum(), ways[seen:].sum()) / ways.sum()))


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for multiple tests, in the same order.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
    Statistics 6, 1979.
    """
    order = sorted(range(len(ps)), key=lambda at: ps[at])
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[at]))
        adjusted[at] = largest
    return adjusted
