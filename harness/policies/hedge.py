"""A second attempt when the first token is late."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.config.config_base import Count
from harness.config.tables import Duration
from harness.policies.layers import Inside, Scope, States
from harness.policies.protocol import GO, Admission, Asking, Ended, HedgeRule, RetryVerdict
from harness.policies.section import PolicyContext, WrapperSection
from harness.policies.token_bucket import WHOLE, Bucket, Share, put, take, thousandths


class Hedge(WrapperSection):
    """Sends a second request when the first text is late; see `HedgeLayer`.

    Two hedges in a stack would not see each other's attempts.

    Example::

        [retry.example]
        kind = "hedge"
        after = "4s"
    """

    once: ClassVar[bool] = True
    hedges: ClassVar[bool] = True
    kind: Literal["hedge"] = "hedge"
    """The kind of policy."""
    after: Duration
    """The time without text after which the second request is sent."""
    ratio: Share = 0.05
    """Hedges for each call."""
    burst: Count = 5
    """The most hedges at once."""
    scope: Scope = "process"
    """The budget of hedges. `process`: all phases share it. `phase`: each phase has its own."""

    def layer(self, context: PolicyContext) -> HedgeLayer:
        """Return the layer with a full budget."""
        after = context.nanoseconds(self.after)
        return HedgeLayer(after, thousandths(self.ratio), self.burst, self.scope)


class HedgeLayer:
    """Allows second attempts as long as their budget lasts.

    `after`: nanoseconds without a first token. Each call adds `ratio` thousandths of a token to a
    bucket that holds `burst` tokens and is full at first; each hedge takes one token.
    J. Dean, L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013: hedged requests.
    """

    def __init__(self, after: int, ratio: int, burst: int, scope: Scope = "process") -> None:
        self.hedge = HedgeRule(after, self.may)
        self._ratio = ratio
        full = Bucket(burst * WHOLE, burst * WHOLE)
        self.states = States(lambda: full, scope)

    def may(self, asking: Asking) -> bool:
        """Take a token for a hedge; return False if there is none."""
        bucket, there = take(self.states.get(asking.phase), WHOLE)
        self.states.put(asking.phase, bucket)
        return there

    def admit(self, asking: Asking) -> Admission:
        """Admit every attempt."""
        return GO

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        """Add tokens for the first attempt of a call."""
        if ended.attempt == 1:
            self.states.put(ended.phase, put(self.states.get(ended.phase), self._ratio))
        return inside()
