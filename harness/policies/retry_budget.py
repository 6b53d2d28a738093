"""Retries as a share of the calls."""

from __future__ import annotations

from typing import Literal, NamedTuple

from harness.config.config_base import Count
from harness.policies.budget_layer import BudgetLayer
from harness.policies.layers import Scope
from harness.policies.protocol import Ended
from harness.policies.section import PolicyContext, WrapperSection
from harness.policies.token_bucket import WHOLE, Bucket, Share, put, take, thousandths


class RetryBudget(WrapperSection):
    """Limits retries to a share of the calls; see `RetryBudgetRule`.

    Example::

        [retry.example]
        kind = "retry-budget"
        ratio = 0.1
    """

    kind: Literal["retry-budget"] = "retry-budget"
    """The kind of policy."""
    ratio: Share = 0.1
    """Retries for each call."""
    burst: Count = 10
    """The most retries at once."""
    scope: Scope = "process"
    """The budget. `process`: all phases share it. `phase`: each phase has its own."""

    def layer(self, context: PolicyContext) -> BudgetLayer:
        """Return the layer with a full budget."""
        return BudgetLayer(RetryBudgetRule(thousandths(self.ratio), self.burst), self.scope)


class RetryBudgetRule(NamedTuple):
    """Retries are at most a share of the calls: B. Beyer et al., Site Reliability Engineering, 21.

    Each call adds `ratio` thousandths of a token to a bucket that holds `burst` tokens and is full
    at first; each retry takes one token.
    """

    ratio: int
    burst: int

    def fresh(self) -> Bucket:
        """Return a full bucket."""
        return Bucket(self.burst * WHOLE, self.burst * WHOLE)

    def ended(self, bucket: Bucket, ended: Ended, again: bool) -> tuple[Bucket, bool]:
        """Add tokens for the first attempt of a call; take one for a retry."""
        if ended.attempt == 1:
            bucket = put(bucket, self.ratio)
        return take(bucket, WHOLE) if again else (bucket, True)
