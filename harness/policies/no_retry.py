"""No second attempt: every failure is final."""

from __future__ import annotations

from random import Random
from typing import Literal, NamedTuple

from harness.config.config_base import Section
from harness.policies.retry import Failure
from harness.records.schema import Decision, give_up


class NoRetrySection(Section):
    """Every failure is final."""

    kind: Literal["none"]


class NoRetry(NamedTuple):
    """Every failure is final."""

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Give up."""
        return give_up("policy")
