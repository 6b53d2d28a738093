"""Point estimates and two-sided 95 % intervals. Pure functions of numbers.

The repeats of a cell are independent; values within a repeat are not: workflows share a queue, a
burst of failures and their topics. So a figure is computed in each repeat, and its estimate and
interval come from these values (independent replications; Law, Simulation Modeling and Analysis,
5th edition, section 9.5). With a single repeat, the values of one topic form a cluster, which
counts for as many independent observations as its spread shows.

Coverage is measured by benchmarks/coverage.py on whole runs, and by tests/analysis/test_coverage.py
on synthetic values.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from harness.analysis.looks import TAIL
from harness.analysis.model import Distribution, Figure

LONG_ARM = 1.75
"""How much longer an arm of an interval is where few repeats do not show the tail of their values.

The upper arm where values wait for each other (`skewed`); both arms where failures come in bursts.
Repeats with a long queue are rare and far from the others, so a few repeats often have none: all
misses of a symmetric interval are on this side. Their skewness cannot be estimated from a few
repeats, so it is assumed: if the logarithms have an exponential tail (a skewness of 2), the
interval of five repeats holds in 95 % of cases with an arm of this length, that of three in 94 %
and that of ten in 97 % (tests/analysis/test_coverage.py).
"""

ZERO_ODDS, SKEWED_ZERO_ODDS, SKEWED_LEAST = 2.0, 5.0, 0.15
"""How much likelier than exceeding a percentile a value above zero has to be, as a ratio of odds.

Many waits are zero. If about p of them are, the p-quantile of a repeat is zero or not by chance.
Bounds that exist only where no repeat has a zero would be those of a selection: in an open loop at
half load, they held in 83 to 88 % of runs (benchmarks/coverage.py). Repeats of an open loop
(`skewed`) differ most, above all where few values are above zero; these have to be a share of
`SKEWED_LEAST` at least.
"""


class Sample(NamedTuple):
    """Observations of one repeat in ascending order, in clusters.

    Three arrays of one length: `values`; `counts`, how often each was seen (whole numbers, at
    least 1); `clusters`, which cluster each belongs to (from 0).
    """

    values: NDArray[np.float64]
    counts: NDArray[np.signedinteger]
    clusters: NDArray[np.signedinteger]


Samples = Mapping[int, Sample]
"""The observations of each repeat that has any."""


def sample(values: ArrayLike, clusters: ArrayLike, counts: ArrayLike | None = None) -> Sample:
    """Return observations given in any order as a Sample; `counts` is 1 each when absent."""
    unsorted = np.asarray(values, dtype=np.float64)
    order = np.argsort(unsorted, kind="stable")
    times = np.ones(len(unsorted)) if counts is None else np.asarray(counts)
    return Sample(
        unsorted[order],
        times.astype(np.int64)[order],
        np.asarray(clusters, dtype=np.int64)[order],
    )


def describe(repeats: Samples, *, skewed: bool = False, resolution: float = 0.0) -> Distribution:
    """Return mean and percentiles in the unit of the values, None if the sample is too small.

    A percentile of several repeats is `over_repeats` of that of each. The mean is that of all
    values, so that means of parts add up; its interval comes from the means of the repeats.
    `skewed`: the values wait for each other in a queue, as in an open loop; then a single repeat
    gives no bounds. `resolution`: how exact the values are. A percentile of several repeats has no
    bounds where many values are zero (`ZERO_ODDS`).
    """
    one = next(iter(repeats.values())) if len(repeats) == 1 else None
    if one is not None and not skewed:
        mean, percentile = cluster_mean(one), Percentiles(one).figure
    else:
        totals = [float(np.dot(seen.values, seen.counts)) for seen in repeats.values()]
        sizes = [int(seen.counts.sum()) for seen in repeats.values()]
        over = partial(over_repeats, skewed=skewed, resolution=resolution)
        means = over(total / size for total, size in zip(totals, sizes, strict=True))
        mean = means and _moved(means, sum(totals) / sum(sizes))

        zeros = sum(int(seen.counts[seen.values <= 0].sum()) for seen in repeats.values())
        least = SKEWED_ZERO_ODDS if skewed else ZERO_ODDS
        too_few = skewed and sum(sizes) - zeros < SKEWED_LEAST * sum(sizes)
        odds = (sum(sizes) - zeros) / zeros if zeros else math.inf

        def percentile(p: float) -> Figure | None:
            figure = over(percentile_by_repeat(repeats, p).values())
            is_certain = not too_few and odds >= least * (1 - p) / p
            return figure if figure is None or is_certain else Figure(value=figure.value)

    return Distribution(
        n=sum(int(seen.counts.sum()) for seen in repeats.values()),
        mean=mean,
        p50=percentile(0.5),
        p95=percentile(0.95),
        p99=percentile(0.99),
    )


def _moved(figure: Figure, value: float) -> Figure:
    """Return the same relative interval around another estimate of the quantity."""
    if figure.low is None or figure.high is None:
        return Figure(value=value)
    factor = value / figure.value
    return Figure(value=value, low=figure.low * factor, high=figure.high * factor)


def stretched(figure: Figure, most: float = math.inf) -> Figure:
    """Return a figure with both arms longer by `LONG_ARM`; `most`: the largest possible value."""
    value, low, high = figure.value, figure.low, figure.high
    if low is None or high is None:
        return figure
    if low <= 0:
        upper = value + LONG_ARM * (high - value)
    else:
        low, upper = (value * (at / value) ** LONG_ARM for at in (low, high))
    return Figure(value=value, low=low, high=min(upper, most))


def percentile_by_repeat(repeats: Samples, p: float) -> dict[int, float]:
    """Return the p-quantile (0 to 1) of each repeat that has enough values for it.

    That is 1, 13 and 67 for p50, p95 and p99. Nothing if there are too few values in all (see
    `Distribution`).
    """
    seen = {repeat: np.cumsum(one.counts) for repeat, one in repeats.items() if len(one.counts)}
    if order_ranks(sum(int(counts[-1]) for counts in seen.values()), p) is None:
        return {}
    return {
        repeat: _quantile(repeats[repeat].values, counts, p)
        for repeat, counts in seen.items()
        if (counts[-1] + 1 / 3) * p + 1 / 3 <= counts[-1]
    }


def _quantile(values: NDArray[np.float64], seen: NDArray[np.int64], p: float) -> float:
    """Return the p-quantile of values in ascending order; `seen`: the cumulative counts.

    Approximately median-unbiased for any distribution (Hyndman and Fan, Sample Quantiles in
    Statistical Packages, American Statistician 50, 1996, definition 8).
    """
    place = (seen[-1] + 1 / 3) * p + 1 / 3
    rank = math.floor(place)
    at = np.searchsorted(seen, np.clip([rank, rank + 1], 1, seen[-1]))
    low, high = values[at].tolist()
    return float(low + (place - rank) * (high - low))


def order_ranks(n: int, p: float) -> tuple[int, int] | None:
    """Return the ranks (from 1) of the order statistics of n that enclose the p-quantile.

    From the binomial distribution; None where n is too small for two sides. Source: David and
    Nagaraja, Order Statistics, 3rd edition, section 7.1.
    """
    low = int(_binomial_quantile(TAIL, n, p))
    high = int(_binomial_quantile(1 - TAIL, n, p)) + 1
    return (low, high) if low >= 1 and high <= n else None


class Percentiles:
    """Percentiles of a single repeat, whose sample must not be empty.

    With one observation in each cluster the intervals are exact (`scipy.stats.quantile_test`).
    Dependence shrinks the sample: n is divided by the design effect, the variance of the share of
    observations at or below the quantile across clusters over what it would be without clusters
    (Korn and Graubard, Confidence Intervals for Proportions with Small Expected Number of
    Positive Counts, Survey Methodology 24, 1998, which also gives the correction for few
    clusters). The design effect of a far percentile depends on few observations, so that of the
    median is used if it is larger.
    """

    def __init__(self, observed: Sample) -> None:
        self._values, self._counts, self._clusters = observed
        sizes = np.bincount(self._clusters, weights=self._counts)
        self._seen = np.cumsum(self._counts)
        self.n = int(self._seen[-1])
        self._sizes = sizes[sizes > 0]
        self._present = sizes > 0
        self._by_cluster = bool(self.n > len(self._sizes))

    def figure(self, p: float) -> Figure | None:
        """Return the p-quantile (0 to 1), None if the sample is too small (see `Distribution`)."""
        if order_ranks(self.n, p) is None:
            return None
        value = _quantile(self._values, self._seen, p)
        independent = self._independent(p) if self._by_cluster else self.n
        ranks = order_ranks(independent, p)
        if ranks is None:
            return Figure(value=value)
        # Rank r of a sample stands for the share (r - 1/2) / size, whatever the size.
        low, high = ((rank - 0.5) / independent * self.n + 0.5 for rank in ranks)
        return Figure(
            value=value,
            low=min(value, self._at(max(math.floor(low), 1))),
            high=max(value, self._at(min(math.ceil(high), self.n))),
        )

    def _at(self, rank: int) -> float:
        return float(self._values[np.searchsorted(self._seen, rank)])

    def _independent(self, p: float) -> int:
        clusters = len(self._sizes)
        if clusters < 2:
            return 0
        effect = max(1.0, self._design_effect(p), self._design_effect(0.5))
        few = special.stdtrit(self.n - 1, 1 - TAIL) / special.stdtrit(clusters - 1, 1 - TAIL)
        return int(self.n / effect * few**2)

    def _design_effect(self, p: float) -> float:
        below = np.searchsorted(self._values, self._at(math.ceil(p * self.n)), side="right")
        inside = np.bincount(
            self._clusters[:below], weights=self._counts[:below], minlength=len(self._present)
        )[self._present]
        share = inside.sum() / self.n
        if share >= 1:
            return 1.0
        clusters = len(self._sizes)
        spread = float(((inside - share * self._sizes) ** 2).sum())
        return clusters / (clusters - 1) * spread / float(self.n * share * (1 - share))


def cluster_mean(observed: Sample) -> Figure | None:
    """Return the mean of a single repeat with its interval; None without observations.

    Student's t on the logarithm of the mean, with the linearised standard error of a ratio of
    cluster totals (Cochran, Sampling Techniques, 3rd edition, section 6.3). Bounds are None for
    a single cluster and for a mean of zero.
    """
    values, counts, clusters = observed
    if not len(values):
        return None
    sizes = np.bincount(clusters, weights=counts)
    totals = np.bincount(clusters, weights=counts * values)[sizes > 0]
    sizes = sizes[sizes > 0]
    n, k = sizes.sum(), len(sizes)
    value = float(totals.sum() / n)
    if k < 2 or value <= 0:
        return Figure(value=value)
    spread = float(((totals - value * sizes) ** 2).sum())
    error = math.sqrt(k / (k - 1) * spread) / n
    reach = math.exp(float(special.stdtrit(k - 1, 1 - TAIL)) * error / value)
    return Figure(value=value, low=value / reach, high=value * reach)


def over_repeats(
    values: Iterable[float], *, skewed: bool = False, resolution: float = 0.0
) -> Figure | None:
    """Return the geometric mean of one value a repeat, with Student's t on the logs.

    None without a value, no bounds for a single one. If a value is zero, it has no logarithm: the
    result is the arithmetic mean without bounds. For ratios of paired values this is a paired t.
    `skewed`: see `LONG_ARM`. `resolution`: how exact each value is, as a share of it; both arms
    are longer by it.
    """
    numbers = np.fromiter(values, dtype=np.float64)
    if not len(numbers):
        return None
    if numbers.min() <= 0:
        return Figure(value=float(numbers.mean()))
    if len(numbers) < 2:
        return Figure(value=float(numbers[0]))
    logs = np.log(numbers)
    value = float(np.exp(logs.mean()))
    error = float(logs.std(ddof=1)) / math.sqrt(len(logs))
    reach = float(special.stdtrit(len(logs) - 1, 1 - TAIL)) * error
    arm = LONG_ARM * reach if skewed else reach
    return Figure(
        value=value,
        low=value / math.exp(reach + resolution),
        high=value * math.exp(arm + resolution),
    )


def share(successes: Sequence[int], totals: Sequence[int]) -> Figure | None:
    """Return the share of successes, given as counts for each repeat, with its interval.

    Clopper and Pearson's exact interval; where repeats differ by more than chance, n is divided
    by the design effect, as for percentiles. None when nothing was tried.
    """
    good, tried = np.asarray(successes, np.float64), np.asarray(totals, np.float64)
    n = float(tried.sum())
    if n == 0:
        return None
    value = float(good.sum()) / n
    effect = 1.0
    if len(tried) > 1 and 0 < value < 1:
        spread = float(((good - value * tried) ** 2).sum())
        effect = max(1.0, len(tried) / (len(tried) - 1) * spread / (n * value * (1 - value)))
    yes, no = value * n / effect, (1 - value) * n / effect
    low = 0.0 if yes == 0 else float(special.betaincinv(yes, no + 1, TAIL))
    high = 1.0 if no == 0 else float(special.betaincinv(yes + 1, no, 1 - TAIL))
    return Figure(value=value, low=low, high=high)


def _binomial_quantile(share: float, n: int, p: float) -> int:
    """Return the least k with P(X <= k) >= `share` for X binomial in `n` and `p`.

    From `scipy.special`, as all distributions here: `scipy.stats` takes seconds to import, which
    would delay the summary of an interrupted run.
    """
    return bisect_left(range(n), share, key=lambda k: float(special.bdtr(k, n, p)))
