"""The same pause before every retry."""

from __future__ import annotations

from random import Random
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from harness.config.tables import Duration
from harness.policies.retry import Failure, asked, refused, within
from harness.policies.section import BackoffSection, PolicyContext
from harness.records.schema import Decision, PolicyCode


class Fixed(BackoffSection):
    """Retries after the same pause each time; see `FixedRule`.

    Example::

        [retry.example]
        kind = "fixed"
        attempts = 5
        delay = "2s"
    """

    jitters: ClassVar[bool] = False
    kind: Literal["fixed"] = "fixed"
    """The kind of policy."""
    attempts: int = Field(default=5, ge=2, le=1_000_000)
    """The most attempts of a call."""
    delay: Duration = 1.0
    """The pause."""

    def retry(self, context: PolicyContext) -> FixedRule:
        """Return the rule."""
        return FixedRule(self.attempts, context.nanoseconds(self.delay))

    def code(self) -> PolicyCode:
        """Return code with the same pause each time."""
        return PolicyCode(attempts=self.attempts, pause=(f"pause = {self.delay:g}",))


class FixedRule(NamedTuple):
    """The same `delay` before every retry, without jitter; at most `attempts` attempts.

    Calls that fail together are therefore retried together. Retry-After, or the reset of a
    limit, replaces the delay.
    """

    attempts: int
    delay: int

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Return the decision for a failed attempt."""
        return (
            refused(failure, self.attempts)
            or asked(failure)
            or within(failure, self.delay, "policy")
        )
