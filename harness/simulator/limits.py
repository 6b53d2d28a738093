"""The limits of a provider: concurrent requests, requests per minute and tokens per minute.

Pure functions of a state and a time. The rates are token buckets that refill continuously
(Anthropic, "Rate limits", platform.claude.com), in integers, so that no rounding adds or loses a
request. A provider can enforce a rate over less than a minute and count refused requests (OpenAI,
"How can I solve 429", help.openai.com): a smaller bucket and `rejected_count` simulate this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias


class Rate(NamedTuple):
    """`amount` per `period` of nanoseconds; `capacity` is the most that can accumulate."""

    amount: int
    period: int
    capacity: int


class LimitBucket(NamedTuple):
    """The content of the bucket of a rate at the time `at`, in units of `1 / rate.period`."""

    rate: Rate
    level: int
    at: int

    def refilled(self, now: int) -> LimitBucket:
        """Return the bucket at `now`."""
        if now <= self.at:
            return self
        level = self.level + (now - self.at) * self.rate.amount
        return LimitBucket(self.rate, min(level, self.rate.capacity * self.rate.period), now)

    def wait_for(self, amount: int) -> int | None:
        """Return the nanoseconds until `amount` is available: 0 for now, None for never."""
        if amount > self.rate.capacity:
            return None
        return max(0, -(-(amount * self.rate.period - self.level) // self.rate.amount))

    def without(self, amount: int) -> LimitBucket:
        """Return the bucket after taking `amount`; its level can become negative."""
        return self._replace(level=self.level - amount * self.rate.period)


class CapChange(NamedTuple):
    """The cap is `cap` from `at` on, in nanoseconds since the first request of a trial."""

    at: int
    cap: int


class ProviderLimits(NamedTuple):
    """All limits of one provider; None for no limit. `steps` are in order of time.

    `rejected_count`: a refused request also takes up to one request from the bucket, so a client
    that retries continuously is never admitted.
    """

    cap: int | None = None
    steps: Sequence[CapChange] = ()
    requests: Rate | None = None
    tokens: Rate | None = None
    rejected_count: bool = False


Reason = Literal["concurrency", "requests", "tokens"]
Levels: TypeAlias = dict[Reason, LimitBucket]
"""The bucket of each rate that is limited."""


class ProviderRefusal(NamedTuple):
    """Why a request is refused, and after how many nanoseconds it would be admitted, or None."""

    reason: Reason
    wait: int | None


def fresh(limits: ProviderLimits, now: int) -> Levels:
    """Return the state before the first request."""
    rates: dict[Reason, Rate | None] = {"requests": limits.requests, "tokens": limits.tokens}
    return {
        reason: LimitBucket(rate, rate.capacity * rate.period, now)
        for reason, rate in rates.items()
        if rate is not None
    }


def cap_at(limits: ProviderLimits, elapsed: int) -> int | None:
    """Return the maximum number of concurrent requests; None for no limit."""
    cap = limits.cap
    for step in limits.steps:
        if step.at > elapsed:
            break
        cap = step.cap
    return cap


def admit_request(
    limits: ProviderLimits, levels: Levels, now: int, elapsed: int, active: int, tokens: int
) -> tuple[Levels, ProviderRefusal | None]:
    """Admit or refuse a request. Only an admitted request takes tokens.

    `active`: requests already in service. `tokens`: charged to the request at its arrival. If the
    request exceeds several limits, the refusal reports the cap, or the limit with the longest wait.
    """
    cap = cap_at(limits, elapsed)
    refusal = ProviderRefusal("concurrency", None) if cap is not None and active >= cap else None
    if not levels:
        return levels, refusal
    amounts: dict[Reason, int] = {"requests": 1, "tokens": tokens}
    levels = {reason: bucket.refilled(now) for reason, bucket in levels.items()}
    if refusal is None:
        waits = [(reason, bucket.wait_for(amounts[reason])) for reason, bucket in levels.items()]
        refusal = max(
            (ProviderRefusal(reason, wait) for reason, wait in waits if wait != 0),
            key=lambda one: math.inf if one.wait is None else one.wait,
            default=None,
        )
    if refusal is None:
        return {reason: each.without(amounts[reason]) for reason, each in levels.items()}, None
    if limits.rejected_count and "requests" in levels:
        bucket = levels["requests"]
        rest = bucket.without(1)
        levels["requests"] = rest._replace(level=max(rest.level, min(bucket.level, 0)))
    return levels, refusal


def charge(levels: Levels, now: int, tokens: int) -> Levels:
    """Return the state after charging `tokens` that were not charged at the arrival."""
    if "tokens" not in levels:
        return levels
    return {**levels, "tokens": levels["tokens"].refilled(now).without(tokens)}
