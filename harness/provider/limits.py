"""What a provider lets in: a cap on requests at once, requests a minute, tokens a minute.

Pure: a state and a moment in, a state and an answer out. The rates are token buckets in whole
numbers, so that no rounding ever adds or loses a request: "capacity is continuously replenished"
(Anthropic, "Rate limits", platform.claude.com), and limits may be enforced over shorter periods
than a minute (OpenAI, "How can I solve 429", help.openai.com), which is what a smaller bucket does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple


class Rate(NamedTuple):
    """`amount` in each `period` of nanoseconds; `capacity` is how much may be saved up."""

    amount: int
    period: int
    capacity: int


class Bucket(NamedTuple):
    """How much there was at the moment `at`, in shares of `1 / rate.period`."""

    level: int
    at: int


def full(rate: Rate, now: int) -> Bucket:
    """Return a bucket from which nothing has been taken."""
    return Bucket(rate.capacity * rate.period, now)


def refilled(rate: Rate, bucket: Bucket, now: int) -> Bucket:
    """Return the bucket at `now`."""
    if now <= bucket.at:
        return bucket
    level = bucket.level + (now - bucket.at) * rate.amount
    return Bucket(min(level, rate.capacity * rate.period), now)


def wait_for(rate: Rate, bucket: Bucket, amount: int) -> int | None:
    """Return the nanoseconds until `amount` is there, 0 if it is; None when it never will be."""
    if amount > rate.capacity:
        return None
    return max(0, -(-(amount * rate.period - bucket.level) // rate.amount))


def taken(rate: Rate, bucket: Bucket, amount: int) -> Bucket:
    """Return the bucket without `amount`, which may leave it below empty."""
    return Bucket(bucket.level - amount * rate.period, bucket.at)


class Step(NamedTuple):
    """From `at` on, nanoseconds since a trial's first request, the cap is `cap`."""

    at: int
    cap: int


class Limits(NamedTuple):
    """All limits of one provider; None where there is none. `steps` ascend in time.

    `rejected_count`: a request that is refused empties the requests bucket of up to one, so a
    client that only keeps asking is never let in.
    """

    cap: int | None = None
    steps: Sequence[Step] = ()
    requests: Rate | None = None
    tokens: Rate | None = None
    rejected_count: bool = False


class Levels(NamedTuple):
    """The state of the two rates."""

    requests: Bucket | None
    tokens: Bucket | None


Reason = Literal["concurrency", "requests", "tokens"]


class Refusal(NamedTuple):
    """Why a request is refused, and in how many nanoseconds it would not be, if that is known."""

    reason: Reason
    wait: int | None


def fresh(limits: Limits, now: int) -> Levels:
    """Return the state before the first request."""
    return Levels(
        None if limits.requests is None else full(limits.requests, now),
        None if limits.tokens is None else full(limits.tokens, now),
    )


def cap_at(limits: Limits, elapsed: int) -> int | None:
    """Return how many requests may be served at once, None for any number."""
    cap = limits.cap
    for step in limits.steps:
        if step.at > elapsed:
            break
        cap = step.cap
    return cap


def admit(
    limits: Limits, levels: Levels, now: int, elapsed: int, active: int, tokens: int
) -> tuple[Levels, Refusal | None]:
    """Let a request in or refuse it; only one that is let in takes from the tokens.

    `active`: requests in service already. `tokens`: what the request is counted with beforehand.
    """
    requests, token_level = levels
    refusal: Refusal | None = None
    cap = cap_at(limits, elapsed)
    if cap is not None and active >= cap:
        refusal = Refusal("concurrency", None)
    waits: list[tuple[Reason, int | None]] = []
    if limits.requests is not None and requests is not None:
        requests = refilled(limits.requests, requests, now)
        waits.append(("requests", wait_for(limits.requests, requests, 1)))
    if limits.tokens is not None and token_level is not None:
        token_level = refilled(limits.tokens, token_level, now)
        waits.append(("tokens", wait_for(limits.tokens, token_level, tokens)))
    if refusal is None:
        refusal = _longest(waits)
    if limits.requests is not None and requests is not None:
        if refusal is None:
            requests = taken(limits.requests, requests, 1)
        elif limits.rejected_count:
            requests = Bucket(max(min(requests.level, 0), requests.level - limits.requests.period),
                              requests.at)  # fmt: skip
    if refusal is None and limits.tokens is not None and token_level is not None:
        token_level = taken(limits.tokens, token_level, tokens)
    return Levels(requests, token_level), refusal


def charge(limits: Limits, levels: Levels, now: int, tokens: int) -> Levels:
    """Return the state after `tokens` were made that had not been counted beforehand."""
    if limits.tokens is None or levels.tokens is None:
        return levels
    level = refilled(limits.tokens, levels.tokens, now)
    return levels._replace(tokens=taken(limits.tokens, level, tokens))


def _longest(waits: Sequence[tuple[Reason, int | None]]) -> Refusal | None:
    """Return the refusal for the limit that lasts longest, None when none stands in the way."""
    found: Refusal | None = None
    for reason, wait in waits:
        if wait == 0:
            continue
        longer = found is None or wait is None or (found.wait is not None and wait > found.wait)
        if longer:
            found = Refusal(reason, wait)
    return found
