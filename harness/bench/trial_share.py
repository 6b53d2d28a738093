"""The shares of a trial: what each of the processes that run one trial together has of it.

The processes can be on one machine or on several. The shares of an amount add up to it, and differ
by at most one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from harness.engine.ledger import Amount, BudgetLimits

_T = TypeVar("_T")


class TrialShare(NamedTuple):
    """The share of the process `rank`, from 0, of the `of` processes of a trial."""

    rank: int = 0
    of: int = 1

    def part(self, amount: int) -> int:
        """Return the part of an amount; the first processes have one more if there is a rest."""
        return amount // self.of + (self.rank < amount % self.of)

    def pick(self, items: Sequence[_T]) -> Sequence[_T]:
        """Return every `of`-th item, in order."""
        return items[self.rank :: self.of]


NOTHING_SPENT = Amount()

WHOLE_TRIAL = TrialShare()
"""The share of a process that runs a trial alone."""


def shares(of: int) -> tuple[TrialShare, ...]:
    """Return the shares of all processes."""
    return tuple(TrialShare(rank, of) for rank in range(of))


def most_shares(processes: int, permits: int, workflows: int, in_flight: int | None) -> int:
    """Return how many of the `processes` can have a share of a trial, at least 1.

    Each needs a permit, a workflow, and of a closed loop a workflow in flight. `in_flight`: None
    for an open loop.
    """
    most = min(processes, permits, workflows, workflows if in_flight is None else in_flight)
    return max(1, most)


def share_of_limits(
    limits: BudgetLimits, share: TrialShare, spent: Amount = NOTHING_SPENT
) -> BudgetLimits:
    """Return a fixed share of the budget that is left after `spent`; the seconds are not divided.

    So the processes together exceed no limit, without asking each other. A limit that is exceeded
    leaves 0.
    """
    attempts, tokens, nano_usd = (
        None if most is None else share.part(max(0, most - used))
        for most, used in zip(limits[:3], spent, strict=True)
    )
    return BudgetLimits(attempts, tokens, nano_usd, limits.seconds)
