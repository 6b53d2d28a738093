"""The adaptive connections of inspect_ai: doubling, then 5 % a round, and cuts by a fifth.

Rule: UK AI Security Institute, https://inspect.aisi.org.uk/models-concurrency.html.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from harness.config.config_base import Count
from harness.config.tables import Duration
from harness.limits.protocol import Observation
from harness.limits.section import LimitSection, limit_nanoseconds


class InspectAI(LimitSection):
    """Doubles each clean round, and grows by a share after the first 429; see `InspectAIRule`.

    Example::

        [permits.example]
        kind = "inspect-ai"
        min = 4
        max = 64
    """

    kind: Literal["inspect-ai"] = "inspect-ai"
    """The kind of limit."""
    min: Count = 10
    """The lowest limit."""
    start: Count = 20
    """The limit at the start; within `min` and `max`."""
    growth: float = Field(default=0.05, gt=0)
    """The share by which a round raises the limit after the first 429."""
    decrease: float = Field(default=0.8, gt=0, lt=1)
    """What a 429 multiplies the limit by."""
    cooldown: Duration = 15.0
    """How long further 429s do not cut, at least; a longer Retry-After extends it."""

    def limiter(self, time_scale: float) -> InspectAIRule:
        """Return the rule."""
        return InspectAIRule(self, limit_nanoseconds(self.cooldown, time_scale))


class InspectAIState(NamedTuple):
    """The limit, whether there was a 429, the end of the cooldown, and the current round.

    `successes`: of the round. `peak`: the most permits in use in it.
    """

    limit: int
    was_cut: bool = False
    cools_until: int | None = None
    successes: int = 0
    peak: int = 0


_FEWEST = 4
"""The fewest successes of a round."""
_BUSY = 0.8
"""The share of the limit that has to be in use in a round, so that it counts."""


class InspectAIRule(NamedTuple):
    """A round of max(limit, 4) successes without a 429 doubles the limit; after the first 429, it
    adds 5 %, at least 1.

    A round counts only if 80 % of the limit was in use in it. A 429 begins a new round. Outside of
    a cooldown, it cuts the limit to floor(0.8 * limit). Each 429 extends the cooldown to 15 s from
    then, or to the end of its Retry-After. Rounds do not count in a cooldown: where every 429 asks
    for a long wait, the limit stays low (inspect_ai's issue 5137). Another failure begins a new
    round.
    """

    keys: InspectAI
    cooldown: int

    def first(self) -> InspectAIState:
        """Return the state at the start."""
        return InspectAIState(self.keys.begin)

    def observed(self, state: InspectAIState, seen: Observation) -> InspectAIState:
        """Return the state after an attempt has ended."""
        cools = state.cools_until is not None and seen.now < state.cools_until
        if seen.result == "failed":
            return state._replace(successes=0, peak=0)
        if seen.result == "rate_limited":
            limit = state.limit
            if not cools:
                limit = max(self.keys.min, int(self.keys.decrease * limit))
            until = seen.now + max(self.cooldown, seen.retry_after or 0)
            return InspectAIState(limit, True, max(until, state.cools_until or 0))
        if cools:
            return state
        peak, successes = max(state.peak, seen.in_flight), state.successes + 1
        if successes < max(state.limit, _FEWEST):
            return state._replace(successes=successes, peak=peak)
        limit = state.limit
        if peak >= _BUSY * limit:
            limit += max(1, int(self.keys.growth * limit)) if state.was_cut else limit
        return state._replace(limit=min(limit, self.keys.max), successes=0, peak=0)
