"""Decides which limits explain the refusals: a cap, a rate, or both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.twin.cap_fit import CapFit, fit_cap, is_refusal
from harness.twin.observations import Flags, Observations
from harness.twin.rate_fit import RateFit, RetryAfterFit, fit_rate, fit_retry_after

_ALONE = 0.95
_RATE_ALONE = 0.9


@dataclass(frozen=True)
class LimitsFit:
    """The limits; `explained`: the refusals that they explain, `unexplained`: how many others."""

    cap: CapFit
    rate: RateFit | None
    retry_after: RetryAfterFit
    unexplained: int
    explained: Flags


def fit_limits(seen: Observations) -> LimitsFit:
    """Return the simplest limits that explain the refusals."""
    refused = is_refusal(seen)
    count, nothing = int(refused.sum()), np.zeros(len(seen), np.bool_)
    silent = refused & ~(seen.retry_after > 0)
    # Where refusals say different times, they are of a rate, and those of a cap say none.
    varies = fit_retry_after(seen, refused).value == "exact"
    cap = fit_cap(seen, silent if varies else refused)
    rate = None
    if varies and cap.refused >= _ALONE * max(int(silent.sum()), 1):
        rate = fit_rate(seen, cap.explains)
    elif cap.refused < _ALONE * count:
        rate = fit_rate(seen, nothing)
        if rate is not None and rate.refused >= _RATE_ALONE * count:
            cap = fit_cap(seen, nothing)
        elif cap.cap is not None:
            rate = fit_rate(seen, cap.explains)
    explained = cap.explains if rate is None else refused
    return LimitsFit(
        cap, rate, fit_retry_after(seen, explained), int((refused & ~explained).sum()),
        explained,
    )  # fmt: skip
