"""Fits a simulated provider, part by part, to the records of runs."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records.errors import InputError
from harness.twin.cache_fit import CacheFit, fit_cache
from harness.twin.connect_fit import ConnectFit, fit_connect
from harness.twin.fault_fit import FaultsFit, fit_faults
from harness.twin.length_fit import SettingLengths, fit_lengths, pooled_lengths
from harness.twin.limits_fit import LimitsFit, fit_limits
from harness.twin.observations import Observations
from harness.twin.pace_fit import PaceFit, fit_pace
from harness.twin.ttft_fit import TtftFit, fit_ttft


@dataclass(frozen=True)
class ProviderFit:
    """All parts of a fit. `attempts` and `trials`: how many it is made from."""

    attempts: int
    trials: int
    pace: PaceFit
    ttft: TtftFit
    pooled: SettingLengths
    lengths: tuple[SettingLengths, ...]
    limits: LimitsFit
    faults: FaultsFit
    cache: CacheFit
    connect: ConnectFit


def fit_observations(seen: Observations) -> ProviderFit:
    """Return the fit to attempts. Raises InputError if they are too few."""
    pace = fit_pace(seen)
    ttft = fit_ttft(seen, pace) if pace is not None else None
    if pace is None or ttft is None:
        raise InputError(
            "no successful attempt with output tokens and the times of its text, so nothing can be "
            "fitted; give a run with successful calls whose answers report their tokens"
        )
    limits = fit_limits(seen)
    return ProviderFit(
        len(seen), int(seen.trial.max()) + 1, pace, ttft, pooled_lengths(seen), fit_lengths(seen),
        limits, fit_faults(seen, limits.explained), fit_cache(seen), fit_connect(seen),
    )  # fmt: skip
