"""Fits the share of the input tokens that the provider reports as read from a prompt cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.twin.observations import Observations


@dataclass(frozen=True)
class CacheFit:
    """`cached` of `input` tokens in `attempts`; `silent`: other attempts that report input only."""

    attempts: int
    silent: int
    input: int
    cached: int

    @property
    def share(self) -> float:
        """The cached share, 0 to 1."""
        return self.cached / self.input if self.input else 0.0


def fit_cache(seen: Observations) -> CacheFit:
    """Return the cached tokens of the attempts that report them."""
    has_input = seen.input > 0
    told = has_input & (seen.cached >= 0)
    cached = np.minimum(seen.cached, seen.input)[told]
    return CacheFit(
        int(told.sum()), int((has_input & ~told).sum()), int(seen.input[told].sum()),
        int(cached.sum()),
    )  # fmt: skip
