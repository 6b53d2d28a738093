"""The gradient of Netflix's concurrency-limits, on the time per output token.

Rule: Gradient2Limit of https://github.com/Netflix/concurrency-limits.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from harness.config.config_base import Count
from harness.config.tables import Duration
from harness.limits.protocol import Observation
from harness.limits.section import LimitSection, limit_nanoseconds


class Gradient2(LimitSection):
    """Follows how the time per output token rises over its own long mean; see `Gradient2Rule`.

    Example::

        [permits.example]
        kind = "gradient2"
        max = 64
    """

    kind: Literal["gradient2"] = "gradient2"
    """The kind of limit."""
    queue: Count = 4
    """What is added to the limit with each step, so that it can grow."""
    tolerance: float = Field(default=1.5, ge=1)
    """By how much the time per token may exceed its long mean before the limit falls."""
    smoothing: float = Field(default=0.2, gt=0, le=1)
    """The weight of a new limit against the limit before."""
    long_window: Count = 600
    """The successes over which the long mean reaches back."""
    decrease: float = Field(default=0.9, gt=0, lt=1)
    """What a 429 multiplies the limit by. The original does not look at 429s."""
    cooldown: Duration = 1.0
    """How long further 429s change nothing."""

    def limiter(self, time_scale: float) -> Gradient2Rule:
        """Return the rule."""
        return Gradient2Rule(self, limit_nanoseconds(self.cooldown, time_scale))


class Gradient2State(NamedTuple):
    """The limit before rounding, the long mean in nanoseconds a token, and the last cut.

    `samples`: successes seen, at most so many as begin the long mean.
    """

    size: float
    long: float = 0.0
    samples: int = 0
    cools_until: int | None = None

    @property
    def limit(self) -> int:
        """The most permits in use."""
        return int(self.size)


_WARM_UP = 10
"""Successes whose plain mean begins the long mean."""


class Gradient2Rule(NamedTuple):
    """With s the time per token of a success and l its long mean, the limit L becomes

    (1 - smoothing) * L + smoothing * (g * L + queue), where g is tolerance * l / s within 0.5 to 1.
    Nothing changes while fewer than half of the permits are in use. While l is more than twice s,
    l falls by 5 % with each success. The original looks at the latency, whose spread from answer to
    answer comes from their lengths, and it samples windows instead of single requests.
    """

    keys: Gradient2
    cooldown: int

    def first(self) -> Gradient2State:
        """Return the state at the start."""
        return Gradient2State(float(self.keys.begin))

    def observed(self, state: Gradient2State, seen: Observation) -> Gradient2State:
        """Return the state after an attempt has ended."""
        keys = self.keys
        if seen.result == "rate_limited":
            if state.cools_until is not None and seen.now < state.cools_until:
                return state
            size = keys.bounded(keys.decrease * state.size)
            return state._replace(size=size, cools_until=seen.now + self.cooldown)
        short = seen.time_per_token
        if short is None:
            return state
        weight = 1 / (state.samples + 1) if state.samples < _WARM_UP else 2 / (keys.long_window + 1)
        long = state.long + weight * (short - state.long)
        if long > 2 * short:
            long *= 0.95
        state = state._replace(long=long, samples=min(state.samples + 1, _WARM_UP))
        if seen.in_flight < state.size / 2:
            return state
        gradient = min(1.0, max(0.5, keys.tolerance * long / short))
        wanted = gradient * state.size + keys.queue
        size = (1 - keys.smoothing) * state.size + keys.smoothing * wanted
        return state._replace(size=keys.bounded(size))
