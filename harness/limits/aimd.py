"""Additive increase, multiplicative decrease, as NVIDIA's NeMo Data Designer does it.

Rule: NVIDIA-NeMo/DataDesigner, ThrottleConfig, https://github.com/NVIDIA-NeMo/DataDesigner.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from harness.config.config_base import Count
from harness.config.tables import Duration
from harness.limits.protocol import Observation
from harness.limits.section import LimitSection, limit_nanoseconds


class Aimd(LimitSection):
    """Falls by a share after a 429, and rises by 1 after so many successes; see `AimdRule`.

    Example::

        [permits.example]
        kind = "aimd"
        max = 64
    """

    kind: Literal["aimd"] = "aimd"
    """The kind of limit."""
    decrease: float = Field(default=0.75, gt=0, lt=1)
    """What a 429 multiplies the limit by."""
    successes: Count = 25
    """The successes after which the limit rises by 1."""
    cooldown: Duration = 2.0
    """How long further 429s change nothing after one that has no Retry-After."""

    def limiter(self, time_scale: float) -> AimdRule:
        """Return the rule."""
        return AimdRule(
            self.min, self.max, self.begin, self.decrease, self.successes,
            limit_nanoseconds(self.cooldown, time_scale),
        )  # fmt: skip


class AimdState(NamedTuple):
    """The limit, the successes since it last changed, and the end of the cooldown."""

    limit: int
    successes: int = 0
    cools_until: int | None = None


class AimdRule(NamedTuple):
    """On a 429, the limit becomes floor(decrease * limit), and a cooldown begins.

    The cooldown lasts for the Retry-After, or `cooldown` nanoseconds without one; 429s in it change
    nothing. `successes` in a row outside of it add 1 to the limit. Other failures change nothing.
    """

    lowest: int
    highest: int
    start: int
    decrease: float
    successes: int
    cooldown: int

    def first(self) -> AimdState:
        """Return the state at the start."""
        return AimdState(self.start)

    def observed(self, state: AimdState, seen: Observation) -> AimdState:
        """Return the state after an attempt has ended."""
        cools = state.cools_until is not None and seen.now < state.cools_until
        if cools or seen.result == "failed":
            return state
        if seen.result == "rate_limited":
            limit = max(self.lowest, int(self.decrease * state.limit))
            return AimdState(limit, 0, seen.now + (seen.retry_after or self.cooldown))
        if state.successes + 1 < self.successes:
            return state._replace(successes=state.successes + 1)
        return AimdState(min(self.highest, state.limit + 1))
