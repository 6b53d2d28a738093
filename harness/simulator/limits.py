"""The limits of a provider: concurrent requests, requests per minute and tokens per minute.

Pure functions of a state and a time. The rates are token buckets that refill continuously
(Anthropic, "Rate limits", platform.claude.com), in integers, so that no rounding adds or loses a
request. A provider can enforce a rate over less than a minute and count refused requests (OpenAI,
"How can I solve 429", help.openai.com): a smaller bucket and `rejected_count` simulate this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple


class Rate(NamedTuple):
    """`amount` per `period` of nanoseconds; `capacity` is the most that can accumulate."""

    amount: int
    period: int
    capacity: int


class LimitBucket(NamedTuple):
    """The content of a bucket at the time `at`, in units of `1 / rate.period`."""

    level: int
    at: int


def full(rate: Rate, now: int) -> LimitBucket:
    """Return a full bucket."""
    return LimitBucket(rate.capacity * rate.period, now)


def refilled(rate: Rate, bucket: LimitBucket, now: int) -> LimitBucket:
    """Return the bucket at `now`."""
    if now <= bucket.at:
        return bucket
    level = bucket.level + (now - bucket.at) * rate.amount
    return LimitBucket(min(level, rate.capacity * rate.period), now)


def wait_for(rate: Rate, bucket: LimitBucket, amount: int) -> int | None:
    """Return the nanoseconds until `amount` is available: 0 for now, None for never."""
    if amount > rate.capacity:
        return None
    return max(0, -(-(amount * rate.period - bucket.level) // rate.amount))


def take_from(rate: Rate, bucket: LimitBucket, amount: int) -> LimitBucket:
    """Return the bucket after taking `amount`; its level can become negative."""
    return LimitBucket(bucket.level - amount * rate.period, bucket.at)


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


class Levels(NamedTuple):
    """The state of the two rates."""

    requests: LimitBucket | None
    tokens: LimitBucket | None


Reason = Literal["concurrency", "requests", "tokens"]


class ProviderRefusal(NamedTuple):
    """Why a request is refused, and after how many nanoseconds it would be admitted, or None."""

    reason: Reason
    wait: int | None


def fresh(limits: ProviderLimits, now: int) -> Levels:
    """Return the state before the first request."""
    return Levels(
        None if limits.requests is None else full(limits.requests, now),
        None if limits.tokens is None else full(limits.tokens, now),
    )


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
    if limits.requests is None and limits.tokens is None:
        return levels, refusal
    requests = _refilled(limits.requests, levels.requests, now)
    token_level = _refilled(limits.tokens, levels.tokens, now)
    if refusal is None:
        refusal = _longest(
            _refusal("requests", limits.requests, requests, 1),
            _refusal("tokens", limits.tokens, token_level, tokens),
        )
    if refusal is None:
        requests = _taken(limits.requests, requests, 1)
        token_level = _taken(limits.tokens, token_level, tokens)
    elif limits.rejected_count and requests is not None:
        rest = _taken(limits.requests, requests, 1)
        assert rest is not None
        requests = rest._replace(level=max(rest.level, min(requests.level, 0)))
    return Levels(requests, token_level), refusal


def charge(limits: ProviderLimits, levels: Levels, now: int, tokens: int) -> Levels:
    """Return the state after charging `tokens` that were not charged at the arrival."""
    level = _refilled(limits.tokens, levels.tokens, now)
    return levels._replace(tokens=_taken(limits.tokens, level, tokens))


def _refilled(rate: Rate | None, bucket: LimitBucket | None, now: int) -> LimitBucket | None:
    return None if rate is None or bucket is None else refilled(rate, bucket, now)


def _taken(rate: Rate | None, bucket: LimitBucket | None, amount: int) -> LimitBucket | None:
    return None if rate is None or bucket is None else take_from(rate, bucket, amount)


def _refusal(
    reason: Reason, rate: Rate | None, bucket: LimitBucket | None, amount: int
) -> ProviderRefusal | None:
    if rate is None or bucket is None:
        return None
    wait = wait_for(rate, bucket, amount)
    return None if wait == 0 else ProviderRefusal(reason, wait)


def _longest(*refusals: ProviderRefusal | None) -> ProviderRefusal | None:
    """Return the refusal with the longest wait (None is the longest); None if there is none."""
    found = [refusal for refusal in refusals if refusal is not None]
    return max(found, key=lambda one: math.inf if one.wait is None else one.wait, default=None)
