"""Whether to send a failed attempt again, and when: pure decisions over numbers.

Durations are integer nanoseconds of the records' clock; whoever builds a policy has scaled the
scenario's durations already. Randomness comes in from outside, so a decision can be repeated.

Backoff formulas: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
Retry-After: RFC 9110, section 10.2.3.
"""

from __future__ import annotations

from random import Random
from typing import Literal, NamedTuple, Protocol

from harness.records.clock import SECOND
from harness.records.failures import is_retryable
from harness.records.schema import Decision, WaitSource, give_up, retry_in


class Failure(NamedTuple):
    """What a policy is told of an attempt that failed.

    `attempt`: its number, from 1. `now`: the time. `deadline`: the call's. `retry_after`:
    nanoseconds the server asked for, None if it did not. `should_retry`: the server's explicit
    word (`x-should-retry`), None without it. `waited`: the last backoff, in nanoseconds, that
    the policy itself drew for this call; None without one.
    """

    attempt: int
    outcome: str
    status: int | None
    retry_after: int | None
    should_retry: bool | None
    now: int
    deadline: int
    waited: int | None = None


class Retry(Protocol):
    """A retry policy."""

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Return when to try again, or why not to."""
        ...


class NoRetry(NamedTuple):
    """Every failure is final."""

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Give up."""
        return give_up("policy")


class Fixed(NamedTuple):
    """The same `delay` before every retry, without jitter, `attempts` in all.

    So all that failed together come back together. Retry-After takes the place of the delay.
    """

    attempts: int
    delay: int

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Return the decision for a failed attempt."""
        refusal = refused(failure, self.attempts)
        if refusal:
            return refusal
        if failure.retry_after:
            return within(failure, failure.retry_after, "retry_after")
        return within(failure, self.delay, "policy")


class Exponential(NamedTuple):
    """Backoff that grows up to a cap, with jitter, `attempts` in all.

    With c = min(cap, base * 2^(attempt - 1)), full jitter draws from U(0, c) and equal jitter from
    c/2 + U(0, c/2). Decorrelated jitter draws min(cap, U(base, 3 * last)), where `last` is what
    it drew before, `base` at first. A server's Retry-After takes the place of the draw: it knows
    better; one of 0, such as a date that has passed, says nothing that backoff should give way to.
    """

    attempts: int
    base: int
    cap: int
    jitter: Literal["full", "equal", "decorrelated"]

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Return the decision for a failed attempt."""
        refusal = refused(failure, self.attempts)
        if refusal:
            return refusal
        if failure.retry_after:
            return within(failure, failure.retry_after, "retry_after")
        low, high = self._range(failure)
        return within(failure, min(self.cap, low + round(random.random() * (high - low))), "policy")

    def _range(self, failure: Failure) -> tuple[int, int]:
        """Return the least and the most that is drawn, before the cap of decorrelated jitter."""
        if self.jitter == "decorrelated":
            last = self.base if failure.waited is None else failure.waited
            return self.base, max(self.base, 3 * last)
        ceiling = min(self.cap, self.base << min(failure.attempt - 1, 62))
        return (ceiling // 2 if self.jitter == "equal" else 0), ceiling


class OpenAISdk(NamedTuple):
    """The published rule of the openai package, version 3.

    408, 409, 429, every 5xx, connection failures and timeouts are tried again, up to
    `max_retries` times, after min(0.5 s * 2^retry, 8 s) * U(0.75, 1). A Retry-After of up to
    120 s takes the place of that; a longer one is not retried. `x-should-retry` overrules the
    status. What the package does not notice inside its retry loop it does not retry either: an
    error inside a 200, and of a streamed response everything after the headers. `second` is the
    length of one scenario second in nanoseconds.
    """

    max_retries: int
    streamed: bool = True
    second: int = SECOND

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Return the decision for a failed attempt."""
        if not self._notices(failure):
            return give_up("not_retryable")
        if failure.attempt > self.max_retries:
            return give_up("attempts")
        if failure.retry_after:
            if failure.retry_after > 120 * self.second:
                return give_up("retry_after_too_long")
            return within(failure, failure.retry_after, "retry_after")
        ceiling = min((self.second << min(failure.attempt - 1, 16)) // 2, 8 * self.second)
        return within(failure, round(ceiling * (1 - 0.25 * random.random())), "policy")

    def _notices(self, failure: Failure) -> bool:
        if failure.status is None or (failure.status < 300 and not self.streamed):
            # Refused, reset or timed out before the retry loop had what it waits for: the headers
            # of a stream, the whole body otherwise.
            return failure.outcome in _UNANSWERED
        if failure.should_retry is not None and failure.status >= 300:
            return failure.should_retry
        return failure.status in {408, 409, 429} or failure.status >= 500


_UNANSWERED = {"connect_failed", "connect_timeout", "connection_lost", "first_token_timeout"}


def refused(failure: Failure, attempts: int) -> Decision | None:
    """Say why there is no other attempt: a failure that stays, or none of `attempts` left."""
    if not is_retryable(failure.outcome):
        return give_up("not_retryable")
    return give_up("attempts") if failure.attempt >= attempts else None


def within(failure: Failure, wait: int, source: WaitSource) -> Decision:
    """Do not sleep past the call's deadline: the call could only fail later, not better."""
    if failure.now + wait > failure.deadline:
        return give_up("deadline")
    return retry_in(wait, source)
