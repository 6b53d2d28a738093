"""Decides which limits explain the refusals: a cap, perhaps one that changes, a rate, or both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.twin.cap_fit import CapFit, fit_cap, is_refusal
from harness.twin.cap_step_fit import CapStepFit, fit_cap_step
from harness.twin.observations import Flags, Observations
from harness.twin.rate_fit import RateFit, RetryAfterFit, fit_rate, fit_retry_after

_ALONE = 0.95
_RATE_ALONE = 0.9
_MISSED = 0.05


@dataclass(frozen=True)
class LimitsFit:
    """The limits; `explained`: the refusals that they explain, `unexplained`: how many others.

    `step`: how the cap changes; `cap` is then the cap before it. `step_hints`: the trials that show
    such a change at times of their own, if neither a step nor a rate explains the refusals.
    """

    cap: CapFit
    step: CapStepFit | None
    step_hints: int
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
    capped = silent if varies else refused
    cap = fit_cap(seen, capped)
    search = fit_cap_step(seen, capped, cap)
    step = search.step
    if step is not None and not _is_simplest(seen, step, int(capped.sum()), varies):
        step = None
    rate = None
    if step is not None:
        cap = CapFit(step.before, cap.most, step.refused, step.against, step.explains)
        rate = fit_rate(seen, step.explains) if varies else None
    elif varies and cap.refused >= _ALONE * max(int(silent.sum()), 1):
        rate = fit_rate(seen, cap.explains)
    elif cap.refused < _ALONE * count:
        rate = fit_rate(seen, nothing)
        if rate is not None and rate.refused >= _RATE_ALONE * count:
            cap = fit_cap(seen, nothing)
        elif cap.cap is not None:
            rate = fit_rate(seen, cap.explains)
    is_told = rate is not None and rate.admitted_against <= _MISSED * rate.of
    explained = cap.explains if rate is None else refused
    return LimitsFit(
        cap, step, 0 if is_told else search.hints, rate, fit_retry_after(seen, explained),
        int((refused & ~explained).sum()), explained,
    )  # fmt: skip


def _is_simplest(seen: Observations, step: CapStepFit, count: int, varies: bool) -> bool:
    """Return whether a step explains `count` refusals, and no rate explains them as well.

    A bucket that is full when a trial begins looks like a cap that comes once it is empty.
    """
    if step.refused < _ALONE * count:
        return False
    rate = None if varies else fit_rate(seen, np.zeros(len(seen), np.bool_))
    if rate is None:
        return True
    return step.against + count - step.refused < rate.of - rate.refused + rate.admitted_against
