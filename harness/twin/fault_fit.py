"""Fits the faults of the provider: which failures, how often, and whether they come in bursts.

Refusals that a limit explains, cancelled attempts and timeouts of the client are no faults. A share
is that of the requests that a fault could strike. The simulated provider draws a fault before it
asks the limits, so a request that a limit refused was not struck by a fault that fails at once, and
says nothing of the others. An attempt that the client broke off counts as far as the fault would
have shown by then.

A kind of failure comes in bursts if attempts close in time fail together; a two-state chain is then
fitted by its likelihood, as the simulated provider has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.config.faults import KINDS, FaultKind
from harness.records.failures import CANCELLED, OK
from harness.twin.length_fit import cut_by_limit
from harness.twin.observations import CLIENT_TIMEOUTS, Flags, Floats, Integers, Observations

_LEAST_FOR_BURSTS = 12
_MOST_EVENTS = 6000
_CLOSE_BY = 5.0
"""Seconds between the ends of connections and attempts to connect that one fault explains."""
_TOGETHER = 0.05
"""Seconds within which connections are broken off by one fault."""
_AT_ONCE = 0.05
"""The median seconds up to which a failure counts as one at once."""
_LONGEST = 86_400.0
"""The longest duration in a profile, in seconds."""
_MOSTLY = 0.5
"""The chance of being seen above which an attempt counts in the search for bursts."""
_CLUSTERED = 4.0
"""Standard errors by which the share of failures right after a failure exceeds that of all."""


@dataclass(frozen=True)
class BurstFit:
    """The mean durations in seconds of a fault that comes and goes."""

    on: float
    off: float


@dataclass(frozen=True)
class FaultFit:
    """`share` of the requests that no earlier fault struck; within a burst if there is one.

    `count` of `of` attempts that could fail so did. `after`: the median seconds until a response in
    its place.
    """

    kind: str
    count: int
    of: int
    share: float
    burst: BurstFit | None
    retry_after: float | None
    after: float

    @property
    def has_share(self) -> bool:
        """Whether the fault can strike a share of the requests: connections are all prevented."""
        return KINDS[self.kind].place != "connection"


@dataclass(frozen=True)
class FaultsFit:
    """The faults in the order of their tables; `other`: failures that no fault stands for."""

    faults: tuple[FaultFit, ...]
    timeouts: int
    other: dict[str, int]
    attempts: int


def fit_faults(seen: Observations, by_limits: Flags) -> FaultsFit:
    """Return the faults. `by_limits`: the refusals that a limit explains."""
    cut = cut_by_limit(seen)
    spared = np.ones(len(seen), np.bool_)
    faults: list[FaultFit] = []
    other: dict[str, int] = {}
    timeouts = int(seen.has_outcome(*CLIENT_TIMEOUTS).sum())
    known: list[tuple[bool, FaultKind, Flags, Floats]] = []
    for name, failed in _failures(seen, by_limits, cut):
        kind = _kind_of(name)
        if kind is None:
            other[name] = int(failed.sum())
        else:
            exposed = _exposed(seen, kind, failed, by_limits)
            rows = exposed > _MOSTLY
            together = clustered(failed[rows], seen.trial[rows], seen.prompt[rows])
            known.append((kind.place == "connection" or together, kind, failed, exposed))
    for bursts, kind, failed, exposed in sorted(known, key=lambda each: each[0]):
        faults.append(_fault(seen, kind, failed, np.where(spared, exposed, 0.0), bursts))
        spared &= ~failed
    return FaultsFit(tuple(faults), timeouts, other, len(seen))


def _exposed(seen: Observations, kind: FaultKind, failed: Flags, by_limits: Flags) -> Floats:
    """Return the chance that a fault of this kind would have been seen in each attempt."""
    broken_off = seen.has_outcome(CANCELLED, *CLIENT_TIMEOUTS)
    if kind.place == "connection":
        return np.where(by_limits | broken_off & ~failed, 0.0, 1.0)
    since = seen.first_text if kind.place == "text" else seen.sent
    took = seen.done - since
    until = np.sort(np.nan_to_num(took[failed]))
    exposed = np.ones(len(seen))
    shown = np.searchsorted(until, np.nan_to_num(took, nan=-1.0), "right") / len(until)
    exposed[broken_off] = shown[broken_off]
    is_at_once = kind.place == "instead" and float(np.median(until)) <= _AT_ONCE
    exposed[by_limits] = float(is_at_once)
    exposed[~seen.was_sent] = 0.0
    exposed[failed] = 1.0
    return exposed


def _failures(seen: Observations, by_limits: Flags, cut: Flags) -> list[tuple[str, Flags]]:
    """Return the failures by name, the most frequent first."""
    found = []
    for name in seen.outcomes:
        if name in (OK, CANCELLED, *CLIENT_TIMEOUTS):
            continue
        failed = seen.has_outcome(name) & ~by_limits & ~cut
        if name == "connection_lost":
            failed = failed & ~_broken_off(seen)
            early = failed & np.isnan(seen.headers)
            found += [("reset_before_head", early), ("reset_in_body", failed & ~early)]
        else:
            found.append((name, failed))
    return sorted(
        ((name, failed) for name, failed in found if failed.any()),
        key=lambda each: -int(each[1].sum()),
    )


def _broken_off(seen: Observations) -> Flags:
    """Return which lost connections the fault ended that also prevented new ones.

    They ended close to an attempt that could not connect, or together with others.
    """
    lost, at = seen.has_outcome("connection_lost"), seen.sent[seen.has_outcome("connect_failed")]
    if not len(at):
        return np.zeros(len(seen), np.bool_)
    ends = np.sort(seen.done[lost])
    from_refused = _distance(seen.done, at, 1)
    from_lost = _distance(seen.done, ends, 2) if len(ends) > 1 else np.full(len(seen), np.inf)
    broken: Flags = lost & ((from_refused <= _CLOSE_BY) | (from_lost <= _TOGETHER))
    return broken


def _distance(moments: Floats, others: Floats, number: int) -> Floats:
    """Return the distance of each moment to the nearest, or to the second nearest, of others."""
    place = np.searchsorted(others, moments)
    near = [
        np.abs(others[np.clip(place + step, 0, len(others) - 1)] - moments)
        for step in (-2, -1, 0, 1)
    ]
    # At the ends of `others`, clipping counts one of them twice.
    for step, distance in zip((-2, -1, 0, 1), near, strict=True):
        distance[(place + step < 0) | (place + step >= len(others))] = np.inf
    distances: Floats = np.sort(np.stack(near), axis=0)[number - 1]
    return distances


def _kind_of(name: str) -> FaultKind | None:
    """Return the fault that causes an outcome, or that has this name."""
    if name in KINDS:
        return KINDS[name]
    return next((kind for kind in KINDS.values() if kind.outcome == name), None)


def _fault(
    seen: Observations, kind: FaultKind, failed: Flags, exposed: Floats, bursts: bool
) -> FaultFit:
    failed = failed & (exposed > 0)
    count, of = int(failed.sum()), max(float(exposed.sum()), 1.0)
    rows = np.flatnonzero(exposed > _MOSTLY)
    share, burst = count / of, None
    if bursts:
        share, burst = fit_burst(failed[rows], seen.sent[rows], seen.trial[rows])
    said = seen.retry_after[failed]
    said = said[said > 0]
    took = (seen.done - seen.sent)[failed]
    after = float(np.median(took)) if kind.place == "instead" else 0.0
    return FaultFit(
        kind.name, count, round(of), share, burst,
        float(np.median(said)) if len(said) and kind.status is not None else None,
        after if after > _AT_ONCE else 0.0,
    )  # fmt: skip


def clustered(failed: Flags, trial: Integers, prompt: Integers) -> bool:
    """Return whether failures follow each other more often than chance has it.

    The same prompt may fail in every cell, and the next one, too. So what follows the failures of
    one prompt counts together.
    """
    after = np.flatnonzero((trial[1:] == trial[:-1]) & failed[:-1])
    if failed.sum() < _LEAST_FOR_BURSTS or not len(after):
        return False
    share = float(failed.mean())
    next_failed = failed[after + 1]
    follows = float(next_failed.mean())
    together = np.bincount(prompt[after], next_failed - follows)
    variance = max(share * (1 - share) / len(after), float((together**2).sum()) / len(after) ** 2)
    error = float(np.sqrt(variance))
    return bool(follows > 1.5 * share and follows - share > _CLUSTERED * error)


def fit_burst(failed: Flags, at: Floats, trial: Integers) -> tuple[float, BurstFit]:
    """Return the share of the attempts in a burst that fail, and the burst's mean durations."""
    from scipy.optimize import minimize  # slow import

    failed, at, trial = failed[:_MOST_EVENTS], at[:_MOST_EVENTS], trial[:_MOST_EVENTS]
    gaps = np.where(np.diff(trial, prepend=-1) == 0, np.diff(at, prepend=at[0]), np.inf)
    share = float(np.clip(failed.mean(), 1e-4, 0.999))
    length = max(float(at[-1] - at[0]), 1.0)

    def values(point: Floats) -> tuple[float, float, float]:
        on, off = np.exp(np.clip(point[:2], -7, np.log(10 * length)))
        return float(on), float(off), float(1 / (1 + np.exp(-np.clip(point[2], -6, 9))))

    def loss(point: Floats) -> float:
        return -_likelihood(failed, gaps, *values(point))

    results = []
    typical = float(np.median(gaps[np.isfinite(gaps) & (gaps > 0)])) if len(gaps) > 1 else 1.0
    for on in (typical * 5, typical * 50):
        begin = np.array([np.log(on), np.log(on * (1 - share) / share), 2.0])
        results.append(
            minimize(loss, begin, method="Nelder-Mead", options={"maxfev": 220, "xatol": 0.02})
        )
    on, off, chance = values(min(results, key=lambda result: float(result.fun)).x)
    return chance, BurstFit(*(min(max(each, 0.001), _LONGEST) for each in (on, off)))


def _likelihood(failed: Flags, gaps: Floats, on: float, off: float, chance: float) -> float:
    """Return the logarithm of the likelihood of a two-state chain that is seen at each attempt."""
    settled = on / (on + off)
    kept = np.exp(-gaps * (1 / on + 1 / off)).tolist()
    total, state = 0.0, settled
    hit, miss = chance, 1 - chance
    scale = 1.0
    for is_failed, keeps in zip(failed.tolist(), kept, strict=True):
        state = settled + (state - settled) * keeps
        if is_failed:
            scale *= max(state * hit, 1e-12)
            state = 1.0
        else:
            good = state * miss + (1 - state)
            scale *= max(good, 1e-12)
            state = state * miss / max(good, 1e-12)
        if scale < 1e-200:
            total += float(np.log(scale))
            scale = 1.0
    return total + float(np.log(scale))
