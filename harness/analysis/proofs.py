"""Proofs at looks (see `looks`): bounds that hold although the data are looked at several times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from harness.analysis.looks import FEWEST_REPEATS, TAIL

Proof = Literal["proven", "open", "broken"]
"""Whether a requirement is met: `open` if the interval contains the limit."""

BEHIND = 0.05
"""The probability that a cell that is better by more than the margin is overlooked, because its
objective is judged to be worse. One-sided: a test of equivalence has this level on each side."""

EXCLUDED = 0.10
"""The probability that a cell whose success rate is exactly at the limit is excluded. Such a cell
cannot be proven to meet the limit, so little is lost: a cell that is one standard error above the
limit is excluded with a probability of about 0.01."""


class ShareBounds(NamedTuple):
    """The bounds of a share of successes, each one-sided.

    They are wrong with the probabilities TAIL (`low`), BEHIND (`high`) and EXCLUDED (`most`), each
    times the level of the look. `most` is an upper bound too; it excludes a cell.
    """

    low: float
    high: float
    most: float


def share_bounds(good: float, tried: float, effect: float, level: float) -> ShareBounds:
    """Return the bounds of a share at a look.

    Clopper and Pearson's bounds, with both counts divided by the design effect. A divided count is
    not a whole number, so the upper bounds count half of the probability of the observed count
    (mid-p; Brown, Cai and DasGupta, Interval Estimation for a Binomial Proportion, Statistical
    Science 16, 2001). The lower one counts all of it, because clusters of failures that did not
    occur are not known.
    """
    if tried <= 0:
        return ShareBounds(0.0, 1.0, 1.0)
    yes, no = good / effect, (tried - good) / effect
    more = 0.5 if effect > 1 else 1.0
    low = 0.0 if yes <= 0 else float(special.betaincinv(yes, no + 1, TAIL * level))
    if no <= 0:
        return ShareBounds(low, 1.0, 1.0)
    high, most = special.betaincinv(
        yes + more, no + 1 - more, 1 - np.array([BEHIND, EXCLUDED]) * level
    )
    return ShareBounds(low, float(high), float(most))


def share_proof(bounds: ShareBounds, asked: float) -> Proof:
    """Return whether a share is proven to reach `asked`, or not to."""
    if bounds.low >= asked:
        return "proven"
    return "broken" if bounds.most < asked else "open"


def shortfall_proof(
    mine: float, bounds: ShareBounds, best: float, other: ShareBounds, margin: float
) -> Proof:
    """Return whether a share is proven to be at most `margin` below another, or not to be.

    Newcombe's bounds of a difference (Interval Estimation for the Difference Between Independent
    Proportions, Statistics in Medicine 17, 1998, method 10).
    """
    apart = best - mine
    high = apart + math.hypot(other.high - best, mine - bounds.low)
    low = apart - math.hypot(best - other.low, bounds.most - mine)
    if high <= margin:
        return "proven"
    return "broken" if low > margin else "open"


def upper_bounds(logs: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Return upper bounds of the means of rows, each wrong with the probability BEHIND * `level`.

    Student's t over the values that are not NaN; infinite with fewer than `FEWEST_REPEATS`.
    """
    known = np.isfinite(logs)
    counts = known.sum(axis=1)
    values = np.where(known, logs, 0.0)
    means = values.sum(axis=1) / np.maximum(counts, 1)
    spread = np.where(known, values - means[:, None], 0.0)
    freedom = np.maximum(counts - 1, 1)
    errors = np.sqrt((spread**2).sum(axis=1) / freedom / np.maximum(counts, 1))
    reach = special.stdtrit(freedom, 1 - BEHIND * level)
    bounds: NDArray[np.float64] = np.where(counts >= FEWEST_REPEATS, means + reach * errors, np.inf)
    return bounds


def significant_mean(values: Sequence[float]) -> float:
    """Return the mean of values if it differs from 0 by Student's t at 5 %, else 0."""
    if len(values) < FEWEST_REPEATS:
        return 0.0
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(special.stdtrit(len(values) - 1, 1 - TAIL)) * error
    return mean if abs(mean) > reach else 0.0


def design_effect(good: Sequence[float], tried: Sequence[float]) -> float:
    """Return the variance of the successes across repeats over that of independent workflows.

    At least 1; 1 if all or none succeeded, as nothing is known then.
    """
    x, n = np.asarray(good, np.float64), np.asarray(tried, np.float64)
    whole = float(n.sum())
    share = float(x.sum()) / whole if whole else 0.0
    if len(n) < 2 or not 0 < share < 1:
        return 1.0
    spread = float(((x - share * n) ** 2).sum())
    return max(1.0, len(n) / (len(n) - 1) * spread / (whole * share * (1 - share)))


def leads(advantages: Sequence[float], repeats: int, margin: float, level: float) -> bool:
    """Return whether so many repeats prove that another cell is not better by more than a margin.

    `advantages`: the logarithm of its advantage in each repeat, at least two; their mean and spread
    are those of all repeats.
    """
    mean, spread = float(np.mean(advantages)), float(np.std(advantages, ddof=1))
    reach = float(special.stdtrit(repeats - 1, 1 - BEHIND * level))
    return mean + reach * spread / math.sqrt(repeats) <= math.log1p(margin)
