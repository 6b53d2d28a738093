"""When some branches of a fan-out fail: whether to go on, and with how many. Pure decisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Partial(NamedTuple):
    """How many branches must succeed for a report, and whether to stop as soon as that is settled.

    Settled: so many have succeeded, or so many cannot any more.
    """

    needed: int
    stops: bool

    def is_enough(self, succeeded: Sequence[bool | None]) -> bool:
        """Return whether the branches that still run, which are None, can be cancelled."""
        good = sum(branch is True for branch in succeeded)
        bad = sum(branch is False for branch in succeeded)
        return self.stops and (good >= self.needed or len(succeeded) - bad < self.needed)

    def suffices(self, good: int) -> bool:
        """Return whether a report can be written with so many branches."""
        return good >= self.needed


SYNTHESIZE_WITH_GAPS = Partial(needed=1, stops=False)
"""Wait for every branch; the report names what is missing."""


def fail_fast(branches: int) -> Partial:
    """Return the rule that the first failure ends the fan-out."""
    return Partial(needed=branches, stops=True)


def quorum(branches: int, share: int | float) -> Partial:
    """Return the rule that so many are enough: a number of branches, or a fraction, rounded up."""
    needed = share if isinstance(share, int) else math.ceil(round(share * branches, 9))
    return Partial(needed=max(needed, 1), stops=True)
