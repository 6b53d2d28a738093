"""Decides which limits explain the refusals: a cap, perhaps one that changes, a rate, or both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.twin.cap_fit import CapFit, fit_cap, is_refusal
from harness.twin.cap_step_fit import CapStepFit, CapStepSearch, fit_cap_step
from harness.twin.observations import Flags, Observations
from harness.twin.rate_fit import RateFit, RetryAfterFit, fit_rate, fit_retry_after

_ALONE = 0.95
_MISSED = 0.05
_SIMPLER = 3
"""A rate has to contradict fewer requests than a cap by more than this."""
_BOTH, _BOTH_SHARE = 5, 0.01
"""The same, in number and as a share of the refusals, for a cap and a rate beside either alone."""
_STRICT = 0.01
"""The share of admissions that may contradict a cap beside a rate."""


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
    count = int(refused.sum())
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
    elif cap.contradicts(count):
        cap, rate = _cap_or_rate(seen, cap, capped, count, search)
    is_told = rate is not None and rate.admitted_against <= _MISSED * rate.of
    explained = cap.explains if rate is None else refused
    return LimitsFit(
        cap, step, 0 if is_told else search.hints, rate, fit_retry_after(seen, explained),
        int((refused & ~explained).sum()), explained,
    )  # fmt: skip


def _cap_or_rate(
    seen: Observations, cap: CapFit, capped: Flags, count: int, search: CapStepSearch
) -> tuple[CapFit, RateFit | None]:
    """Return the cap, the rate, or both, that contradict the fewest of `count` refusals.

    Both have to be clearly better than one. A change of the cap that trials show at different times
    stands for the cap, as no profile has it.
    """
    none = np.zeros(len(seen), np.bool_)
    options: list[tuple[float, CapFit, RateFit | None]] = [(cap.contradicts(count), cap, None)]
    if search.hints:
        options.append((search.hinted + _SIMPLER * search.hints, cap, None))

    def least() -> tuple[float, CapFit, RateFit | None]:
        return min(options, key=lambda option: option[0])

    if least()[0] > _SIMPLER:
        rate = fit_rate(seen, none)
        if rate is not None:
            options.append((rate.contradicts(count) + _SIMPLER, fit_cap(seen, none), rate))
    more = max(_BOTH, _BOTH_SHARE * count)
    tried = set()
    for beside in (cap, fit_cap(seen, capped, _STRICT)):
        if beside.cap is None or beside.cap in tried or least()[0] <= more:
            continue
        tried.add(beside.cap)
        rate = fit_rate(seen, beside.explains)
        if rate is not None:
            wrong = rate.contradicts(count - beside.refused) + beside.against
            options.append((wrong + more, beside, rate))
    _, cap, rate = least()
    return cap, rate


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
