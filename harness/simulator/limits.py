"""What a provider lets in: a cap on requests at once, requests a minute, tokens a minute.

Pure: a state and a moment in, a state and an answer out. The rates are token buckets, which refill
all the time (so Anthropic, "Rate limits", platform.claude.com), in whole numbers, so that no
rounding ever adds or loses a request. A rate may be enforced over less than a minute, and requests
that are refused may count (so OpenAI, "How can I solve 429", help.openai.com): a smaller bucket
does the one, `rejected_count` the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple


class Rate(NamedTuple):
    """`amount` in each `period` of nanoseconds; `capacity` is how much may be saved up."""

    amount: int
    period: int
    capacity: int


class LimitBucket(NamedTuple):
    """How much there was at the moment `at`, in shares of `1 / rate.period`."""

    level: int
    at: int


def full(rate: Rate, now: int) -> LimitBucket:
    """Return a bucket from which nothing has been taken."""
    return LimitBucket(rate.capacity * rate.period, now)


def refilled(rate: Rate, bucket: LimitBucket, now: int) -> LimitBucket:
    """Return the bucket at `now`."""
    if now <= bucket.at:
        return bucket
    level = bucket.level + (now - bucket.at) * rate.amount
    return LimitBucket(min(level, rate.capacity * rate.period), now)


def wait_for(rate: Rate, bucket: LimitBucket, amount: int) -> int | None:
    """Return the nanoseconds until `amount` is there, 0 if it is; None when it never will be."""
    if amount > rate.capacity:
        return None
    return max(0, -(-(amount * rate.period - bucket.level) // rate.amount))


def take_from(rate: Rate, bucket: LimitBucket, amount: int) -> LimitBucket:
    """Return the bucket without `amount`, which may leave it below empty."""
    return LimitBucket(bucket.level - amount * rate.period, bucket.at)


class CapChange(NamedTuple):
    """From `at` on, nanoseconds since a trial's first request, the cap is `cap`."""

    at: int
    cap: int


class ProviderLimits(NamedTuple):
    """All limits of one provider; None where there is none. `steps` ascend in time.

    `rejected_count`: a request that is refused empties the requests bucket of up to one, so a
    client that only keeps asking is never let in.
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
    """Why a request is refused, and in how many nanoseconds it would not be, if that is known."""

    reason: Reason
    wait: int | None


def fresh(limits: ProviderLimits, now: int) -> Levels:
    """Return the state before the first request."""
    return Levels(
        None if limits.requests is None else full(limits.requests, now),
        None if limits.tokens is None else full(limits.tokens, now),
    )


def cap_at(limits: ProviderLimits, elapsed: int) -> int | None:
    """Return how many requests may be served at once, None for any number."""
    cap = limits.cap
    for step in limits.steps:
        if step.at > elapsed:
            break
        cap = step.cap
    return cap


def admit_request(
    limits: ProviderLimits, levels: Levels, now: int, elapsed: int, active: int, tokens: int
) -> tuple[Levels, ProviderRefusal | None]:
    """Let a request in or refuse it; only one that is let in takes from the tokens.

    `active`: requests in service already. `tokens`: what the request is counted with beforehand.
    Of several limits that it is over, the one with the longest wait is told, the cap before all.
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
    """Return the state after `tokens` were made that had not been counted beforehand."""
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
    """Return the refusal with the longest wait, for ever before all; None of none."""
    found = [refusal for refusal in refusals if refusal is not None]
    return max(found, key=lambda one: math.inf if one.wait is None else one.wait, default=None)
