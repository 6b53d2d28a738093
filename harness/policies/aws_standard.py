"""The standard retry mode of the AWS SDKs, with the rules of 2026.

Source: AWS SDKs and Tools Reference Guide, "Retry behavior" (the rules that became the default in
November 2026). It has two parts: the backoff of one call, and a quota that all calls share.
"""

from __future__ import annotations

from random import Random
from typing import Literal, NamedTuple

from pydantic import Field

from harness.policies.budget_layer import BudgetLayer
from harness.policies.layers import Scope
from harness.policies.protocol import Ended
from harness.policies.retry import Failure, refused, within
from harness.policies.section import BackoffSection, PolicyContext
from harness.policies.token_bucket import Bucket, put, take
from harness.records.clock import SECOND
from harness.records.failures import OK
from harness.records.schema import Decision, PolicyCode

THROTTLED = "rate_limited"


class AwsStandard(BackoffSection):
    """Retries as the AWS SDKs do; see `AwsBackoff` and `AwsQuota`.

    Example::

        [retry.example]
        kind = "aws-standard"
        attempts = 3
    """

    kind: Literal["aws-standard"] = "aws-standard"
    """The kind of policy."""
    attempts: int = Field(default=3, ge=2, le=1_000_000)
    """The most attempts of a call."""
    scope: Scope = "process"
    """The retry quota. `process`: all phases share it. `phase`: each phase has its own."""

    def retry(self, context: PolicyContext) -> AwsBackoff:
        """Return the backoff of one call."""
        return AwsBackoff(self.attempts, context.nanoseconds(1.0))

    def layers(self, context: PolicyContext) -> tuple[BudgetLayer]:
        """Return the quota of all calls."""
        return (BudgetLayer(AwsQuota(), self.scope),)

    def code(self) -> PolicyCode:
        """Return the most attempts; a few lines cannot contain the quota."""
        return PolicyCode(attempts=self.attempts)


class AwsBackoff(NamedTuple):
    """U(0, 1) * min(b * 2^retry, 20 s), b = 1 s after a 429 and 50 ms otherwise.

    With a drawn wait t and a Retry-After h the wait is max(t, min(h, t + 5 s)), so a retry may be
    earlier than the server asked. `second`: nanoseconds of a scenario second.
    """

    attempts: int = 3
    second: int = SECOND

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Return the decision for a failed attempt."""
        if refusal := refused(failure, self.attempts):
            return refusal
        base = self.second if failure.outcome == THROTTLED else self.second // 20
        ceiling = min(base << min(failure.attempt - 1, 62), 20 * self.second)
        drawn = round(random.random() * ceiling)
        hinted = max(drawn, min(failure.retry_after or 0, drawn + 5 * self.second))
        return within(failure, hinted, "retry_after" if hinted > drawn else "policy")


class AwsQuota(NamedTuple):
    """A bucket of 500: a retry costs 14, or 5 after a 429.

    A success returns the cost of its own retry, or 1 if it was a first attempt. A retry that the
    quota does not cover is not made.
    """

    size: int = 500

    def fresh(self) -> Bucket:
        """Return a full quota."""
        return Bucket(self.size, self.size)

    def ended(self, bucket: Bucket, ended: Ended, again: bool) -> tuple[Bucket, bool]:
        """Return tokens after a success; charge a retry, or refuse it."""
        if ended.outcome == OK:
            return put(bucket, _paid(ended)), True
        return take(bucket, _cost(ended.outcome)) if again else (bucket, True)


def _paid(ended: Ended) -> int:
    """Return the tokens that a successful attempt returns; a retry of a breaker had cost none."""
    before = ended.earlier[-1] if ended.earlier else None
    return 1 if before is None or before.decision.source == "breaker" else _cost(before.outcome)


def _cost(outcome: str) -> int:
    return 5 if outcome == THROTTLED else 14
