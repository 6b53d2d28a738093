"""Rules for fan-outs in which branches fail: whether to continue. Pure decisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Partial(NamedTuple):
    """How many branches must succeed, and whether to stop as soon as that is decided.

    It is decided when `needed` branches have succeeded, or when that has become impossible.
    """

    needed: int
    stops: bool

    def is_enough(self, succeeded: Sequence[bool | None]) -> bool:
        """Return whether the branches that still run (None) can be cancelled."""
        good = sum(branch is True for branch in succeeded)
        bad = sum(branch is False for branch in succeeded)
        return self.stops and (good >= self.needed or len(succeeded) - bad < self.needed)

    def suffices(self, good: int) -> bool:
        """Return whether `good` successful branches are enough."""
        return good >= self.needed


SYNTHESIZE_WITH_GAPS = Partial(needed=1, stops=False)
"""Wait for all branches; the report names the missing ones."""


def fail_fast(branches: int) -> Partial:
    """Return the rule by which the first failure ends the fan-out."""
    return Partial(needed=branches, stops=True)


def quorum(branches: int, share: int | float) -> Partial:
    """Return the rule by which a number or a fraction (rounded up) of the branches is enough."""
    needed = share if isinstance(share, int) else math.ceil(round(share * branches, 9))
    return Partial(needed=max(needed, 1), stops=True)
