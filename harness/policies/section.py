"""The base classes of kinds of retry policy: the keys of a `[retry.NAME]` table, and its rule.

A backoff policy decides whether and when to retry a failed attempt. A wrapper, such as a budget or
a circuit breaker, surrounds another policy and sees the attempts of all calls. A stack combines
policies. To add a kind, derive a class from `BackoffSection` or `WrapperSection` and name it in
`policies.registry`, or in another package in an entry point of the group `harness.policies`.
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
    """The circumstances in which a policy is used.

    `name`: in the scenario. `time_scale`: how many real seconds a scenario second lasts.
    `streamed`: whether answers are streamed.
    """

    name: str
    time_scale: float
    streamed: bool

    def nanoseconds(self, seconds: float) -> int:
        """Return scenario seconds as nanoseconds of the records' clock, at least one."""
        return max(1, round(seconds * self.time_scale * SECOND))


class BackoffSection(Section):
    """The keys of a policy that decides about retries, alone or as the last one of a stack.

    `jitters`: its waits are drawn at random, so that calls that failed together do not retry
    together.
    """

    kind: str
    jitters: ClassVar[bool] = True

    @property
    def most_attempts(self) -> int:
        """The most attempts of a call: by default, those of its code."""
        code = self.code()
        return code.attempts * (1 + code.max_retries)

    @abstractmethod
    def retry(self, context: PolicyContext) -> Retry:
        """Return the rule that decides about a failed attempt."""

    def layers(self, context: PolicyContext) -> Sequence[Layer]:
        """Return new layers around the rule, for state that all calls of a trial share."""
        return ()

    @abstractmethod
    def code(self) -> PolicyCode:
        """Return Python code with the same rule."""


class WrapperSection(Section):
    """The keys of a policy around others, in a stack.

    `once`: a stack can contain only one of this kind. `hedges`: it sends second attempts.
    """

    kind: str
    once: ClassVar[bool] = False
    hedges: ClassVar[bool] = False

    @abstractmethod
    def layer(self, context: PolicyContext) -> Layer:
        """Return a new layer."""


class StackSection(Section):
    """A stack: the last policy decides, the others wrap it.

    Example::

        [retry.ten-percent]
        kind = "retry-budget"

        [retry.thrifty]
        kind = "stack"
        layers = ["ten-percent", "openai-sdk"]
    """

    kind: Literal["stack"]
    """The kind of policy."""
    layers: Several[Name]
    """Names of policies, outermost first."""


AnyPolicy = BackoffSection | WrapperSection | StackSection
