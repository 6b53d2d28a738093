"""What a kind of retry policy is: the keys of its `[retry.NAME]` table and what is built from them.

A backoff policy decides whether a failed attempt is sent again, and when. A wrapper stands around
one and sees the attempts of all calls: a budget, a circuit breaker. A stack names others. To add a
kind, derive a class from `BackoffSection` or `WrapperSection` and name it in `policies.registry`,
or in an entry point of the group `harness.policies` in another package.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

from harness.config.config_base import Name, Section, Several
from harness.policies.layers import Layer
from harness.policies.retry import Retry
from harness.records.clock import SECOND
from harness.records.schema import PolicyCode


class PolicyContext(NamedTuple):
    """What a policy is built for.

    `name`: how the scenario calls it. `time_scale`: how many real seconds a scenario second lasts.
    `streamed`: whether answers are streamed.
    """

    name: str
    time_scale: float
    streamed: bool

    def nanoseconds(self, seconds: float) -> int:
        """Return scenario seconds as nanoseconds of the records' clock, at least one."""
        return max(1, round(seconds * self.time_scale * SECOND))


class BackoffSection(Section):
    """The keys of a policy that decides: it stands alone, or innermost in a stack."""

    kind: str

    @property
    def most_attempts(self) -> int:
        """The most attempts of a call: by default, those of its code."""
        code = self.code()
        return code.attempts * (1 + code.max_retries)

    @abstractmethod
    def retry(self, context: PolicyContext) -> Retry:
        """Return the rule that decides about a failed attempt."""

    def layers(self, context: PolicyContext) -> Sequence[Layer]:
        """Return the state that all calls share, as layers around the rule; most rules have none.

        They are built anew for each trial.
        """
        return ()

    @abstractmethod
    def code(self) -> PolicyCode:
        """Return Python that retries like this."""


class WrapperSection(Section):
    """The keys of a policy around others: it stands in a stack, and not as the last.

    `once`: a stack can have only one of the kind. `hedges`: its layer sends a call a second time.
    """

    kind: str
    once: ClassVar[bool] = False
    hedges: ClassVar[bool] = False

    @abstractmethod
    def layer(self, context: PolicyContext) -> Layer:
        """Return the layer, with nothing in its memory."""

    @abstractmethod
    def note(self) -> str:
        """Return a few words on what it does, for code that cannot do the same."""


class StackSection(Section):
    """The keys of policies around one another, outermost first; the last one decides."""

    kind: Literal["stack"]
    layers: Several[Name]


AnyPolicy = BackoffSection | WrapperSection | StackSection
