"""The default limit that adapts: it grows while more permits bring more throughput."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from harness.config.tables import Duration
from harness.limits.protocol import Observation
from harness.limits.section import LimitSection, limit_nanoseconds


class Elastic(LimitSection):
    """Grows until 429s, or until the throughput no longer follows; see `ElasticRule`.

    Example::

        [permits.example]
        kind = "elastic"
        max = 64
    """

    kind: Literal["elastic"] = "elastic"
    """The kind of limit."""
    grow_above: float = Field(default=0.35, gt=0, lt=1)
    """The elasticity of the throughput below which the limit does not grow."""
    shrink_below: float = Field(default=0.15, ge=0, lt=1)
    """The elasticity of the throughput below which the limit falls by 10 % a round."""
    cut: float = Field(default=0.05, gt=0, lt=1)
    """The share by which the first 429 of an episode lowers the limit."""
    cooldown: Duration = 2.0
    """How long the limit does not grow after a 429. 429s that are no further apart are one episode.
    """

    def limiter(self, time_scale: float) -> ElasticRule:
        """Return the rule."""
        return ElasticRule(self, limit_nanoseconds(self.cooldown, time_scale))


class Trend(NamedTuple):
    """Sums over successes that fade: how the service time depends on tokens and permits in use.

    With t tokens, n permits in use in the mean, and a service time of s nanoseconds, the sums are
    of 1, t, 1/t, n, t*n, t*n*n, s, s*n, s/t and s*s/t.
    """

    ended: float = 0.0
    tokens: float = 0.0
    inverse: float = 0.0
    in_use: float = 0.0
    tokens_in_use: float = 0.0
    squares: float = 0.0
    time: float = 0.0
    time_in_use: float = 0.0
    pace: float = 0.0
    pace_squares: float = 0.0

    def added(self, seen: Observation, service: int, memory: float) -> Trend:
        """Return the sums with one more success, after the others have faded."""
        t, n, s = seen.tokens, seen.mean_in_flight, service
        more = (1.0, t, 1 / t, n, t * n, t * n * n, s, s * n, s / t, s * s / t)
        kept = 1 - 1 / memory
        return Trend(*(kept * old + new for old, new in zip(self, more, strict=True)))

    def elasticity(self, at: float) -> float:
        """Return d ln(throughput) / d ln(permits) with so many permits in use; 1 if unknown.

        The model is s = c + t * (a + b * n), by least squares with weights 1/t.
        """
        weight = self.tokens
        if self.ended < _FEWEST:
            return 1.0
        # Means and covariances of 1/t, n and s/t, weighted by t.
        x, n, pace = self.ended / weight, self.tokens_in_use / weight, self.time / weight
        xx, nn = self.inverse / weight - x * x, self.squares / weight - n * n
        xn, xy = self.in_use / weight - x * n, self.pace / weight - x * pace
        ny, yy = self.time_in_use / weight - n * pace, self.pace_squares / weight - pace * pace
        once = xn / xx if xx > _TINY * x * x else 0.0
        spread = nn - once * xn  # of n, beyond what the lengths explain
        if spread <= _TINY * n * n:
            return 1.0
        slope = (ny - once * xy) / spread
        fixed = (xy - slope * xn) / xx if xx > _TINY * x * x else 0.0
        rest = max(yy - slope * ny - fixed * xy, 0.0)
        # The slope is shrunk by its standard error, beside the slope of a throughput that is flat.
        error, flat = rest / ((self.ended - 3) * spread), (pace / n) ** 2
        slope *= flat / (flat + error)
        there = pace + slope * (at - n)
        return 1 - slope * at / there if slope > 0 and there > 0 else 1.0


_TINY = 1e-9
"""A variance below this share of the squared mean is rounding."""


class ElasticState(NamedTuple):
    """The limit before rounding, and what it is based on.

    `threshold`: the size from which growth is slow. `refused_at`: the latest 429.
    `episode_until`: a 429 before this time belongs to the same episode. `probe_from`: no growth
    beyond the threshold before this time. `successes`: of the current round. `trend`: of the time
    per token.
    """

    size: float
    threshold: float
    refused_at: int | None = None
    episode_until: int = 0
    probe_from: int = 0
    successes: int = 0
    trend: Trend = Trend()

    @property
    def limit(self) -> int:
        """The most permits in use."""
        return int(self.size)


_MEMORY = 4
"""The trend reaches back over so many times the limit in successes."""
_BUSY = 0.8
"""The share of the limit that has to be in use, so that a success makes it grow."""
_STEP = 0.05
"""The share by which a round raises the limit above the threshold."""
_SHRINK = 0.9
"""What the limit is multiplied by where the throughput no longer follows."""
_FEWEST = 8
"""The fewest successes of a round."""
_LONGEST_EPISODE = 5
"""An episode lasts at most so many cooldowns after a 429, whatever wait it asks for."""


_LONGEST_PAUSE = 30
"""After a 429, the limit does not exceed its threshold for the wait that it asks for, though for no
more than so many cooldowns."""


class ElasticRule(NamedTuple):
    """Three parts: slow start, the elasticity of the throughput, and episodes of 429s.

    Slow start: each success adds 1, so the limit doubles in about the time of an attempt. Above a
    threshold, which is `max` at first, a round adds 5 %, at least 1: a round is as many successes
    as the limit, at least 8. Nothing grows while less than 80 % of the limit is in use.

    Elasticity: with n permits in use, the throughput is n / w(n), where w is the service time per
    output token, and its elasticity d ln(throughput) / d ln(n) is 1 - n * w'(n) / w(n). The service
    times of the successes of about the last four rounds give w = a + b * n, see `Trend`: long and
    short answers are told apart from a slow server. Below `grow_above` the limit does not grow, and
    at the end of a round it is the new threshold; below `shrink_below` it also falls by 10 %. A
    slope that may be due to chance counts less, so a limit that has not moved for long, of whose
    slope nothing is known any more, tries to grow.

    Episodes: a 429 that comes back with n other permits in use shows that n are enough, so each one
    lowers the limit to n at most; permits that are released are not handed on to the same refusal.
    The first one of an episode also takes `cut` off, and this is the new threshold, at least half
    of the one before. After a `cooldown` without a 429 the limit returns to half of the threshold
    at least and grows again. A 429 belongs to the same episode until the cooldown has passed, or
    the Retry-After of the one before, though no more than five cooldowns. Beyond the threshold the
    limit grows only when the Retry-After has passed, or 30 cooldowns: where a refused call waits
    for long, to look for more is expensive. A long Retry-After never holds the limit below.
    """

    keys: Elastic
    cooldown: int

    def first(self) -> ElasticState:
        """Return the state at the start."""
        return ElasticState(float(self.keys.begin), float(self.keys.max))

    def observed(self, state: ElasticState, seen: Observation) -> ElasticState:
        """Return the state after an attempt has ended."""
        if seen.result == "rate_limited":
            return self._refused(state, seen)
        service = seen.service_time
        if seen.result != "ok" or service is None:
            return state
        if seen.tokens > 0 and service > 0:
            memory = _MEMORY * max(state.size, _FEWEST)
            state = state._replace(trend=state.trend.added(seen, service, memory))
        if state.refused_at is not None:
            if seen.now < state.refused_at + self.cooldown:
                return state
            state = state._replace(size=max(state.size, self.keys.bounded(state.threshold / 2)))
        return self._succeeded(state, seen)

    def _refused(self, state: ElasticState, seen: Observation) -> ElasticState:
        keys, threshold = self.keys, state.threshold
        size = min(state.size, float(max(seen.in_flight - 1, 1)))
        if seen.now >= state.episode_until:
            size *= 1 - keys.cut
            threshold = size if state.refused_at is None else max(size, threshold / 2)
        asked = min(seen.retry_after or 0, _LONGEST_EPISODE * self.cooldown)
        return state._replace(
            size=keys.bounded(size),
            threshold=keys.bounded(threshold),
            refused_at=seen.now,
            probe_from=seen.now + min(seen.retry_after or 0, _LONGEST_PAUSE * self.cooldown),
            episode_until=max(state.episode_until, seen.now + max(self.cooldown, asked)),
            successes=0,
        )

    def _succeeded(self, state: ElasticState, seen: Observation) -> ElasticState:
        keys, size, threshold = self.keys, state.size, state.threshold
        elasticity = state.trend.elasticity(size)
        successes = state.successes + 1
        round_ends = successes >= max(size, _FEWEST)
        if elasticity < keys.grow_above:
            if round_ends:
                if elasticity < keys.shrink_below:
                    size = keys.bounded(_SHRINK * size)
                threshold = min(threshold, size)
        elif seen.in_flight >= _BUSY * state.limit and (
            size < threshold or seen.now >= state.probe_from
        ):
            size = keys.bounded(
                size + (1.0 if size < threshold else max(1, _STEP * size) / max(size, _FEWEST))
            )
        return state._replace(
            size=size, threshold=threshold, successes=0 if round_ends else successes
        )
