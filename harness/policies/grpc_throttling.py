"""Retry throttling of gRPC."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from harness.policies.budget_layer import BudgetLayer
from harness.policies.layers import Scope
from harness.policies.protocol import Ended
from harness.policies.section import PolicyContext, WrapperSection
from harness.policies.token_bucket import WHOLE, Bucket, Share, put, thousandths
from harness.records.failures import OK, is_retryable


class GrpcThrottling(WrapperSection):
    """Stops retries while many attempts fail; see `GrpcThrottlingRule`.

    Example::

        [retry.example]
        kind = "grpc-throttling"
        tokens = 10
    """

    kind: Literal["grpc-throttling"] = "grpc-throttling"
    """The kind of policy."""
    tokens: int = Field(default=10, ge=1, le=1000)
    """The size of the bucket; each failure takes one token."""
    ratio: Share = 0.1
    """Tokens for each success."""
    scope: Scope = "process"
    """The bucket. `process`: all phases share it. `phase`: each phase has its own."""

    def layer(self, context: PolicyContext) -> BudgetLayer:
        """Return the layer with a full bucket."""
        return BudgetLayer(GrpcThrottlingRule(self.tokens, thousandths(self.ratio)), self.scope)


class GrpcThrottlingRule(NamedTuple):
    """Retry throttling of gRPC: proposal A6, "Throttling Retry Attempts and Hedged RPCs".

    A bucket of `tokens` tokens is full at first. Every retryable failure takes one token, every
    success adds `ratio` thousandths, and retries are allowed while it is more than half full.
    """

    tokens: int
    ratio: int

    def fresh(self) -> Bucket:
        """Return a full bucket."""
        return Bucket(self.tokens * WHOLE, self.tokens * WHOLE)

    def ended(self, bucket: Bucket, ended: Ended, again: bool) -> tuple[Bucket, bool]:
        """Count the outcome; refuse a retry if at most half of the tokens are left."""
        if ended.outcome == OK:
            return put(bucket, self.ratio), True
        if is_retryable(ended.outcome):
            bucket = bucket._replace(tokens=max(0, bucket.tokens - WHOLE))
        return bucket, 2 * bucket.tokens > bucket.most
