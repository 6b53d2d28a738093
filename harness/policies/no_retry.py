"""No second attempt: every failure is final."""

from __future__ import annotations

from random import Random
from typing import ClassVar, Literal, NamedTuple

from harness.policies.retry import Failure
from harness.policies.section import BackoffSection, PolicyContext
from harness.records.schema import Decision, PolicyCode, give_up


class NoRetry(BackoffSection):
    """Makes no retry.

    Example::

        [retry.example]
        kind = "none"
    """

    jitters: ClassVar[bool] = False
    kind: Literal["none"] = "none"
    """The kind of policy."""

    def retry(self, context: PolicyContext) -> NoRetryRule:
        """Return the rule."""
        return NoRetryRule()

    def code(self) -> PolicyCode:
        """Return code that sends a call once."""
        return PolicyCode()


class NoRetryRule(NamedTuple):
    """Every failure is final."""

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Give up."""
        return give_up("policy")
