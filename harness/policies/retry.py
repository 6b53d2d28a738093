"""Whether to send a failed attempt again, and when: pure decisions over numbers.

Durations are integer nanoseconds of the records' clock, scaled already. The random source is an
argument, so that a decision can be repeated.

Retry-After: RFC 9110, section 10.2.3.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple, Protocol

from harness.records.failures import is_retryable
from harness.records.schema import Decision, WaitSource, give_up, retry_in


class Failure(NamedTuple):
    """An attempt that failed, as a retry policy sees it.

    `attempt`: its number, from 1. `deadline`: of the call. `retry_after`: nanoseconds that the
    server asked for, None if it did not. `should_retry`: the header `x-should-retry`, None without
    it. `waited`: nanoseconds of the last backoff that the policy drew for this call, or None.
    `rate_limit_reset`: nanoseconds until a limit is reset, a hint; None without one.
    """

    attempt: int
    outcome: str
    status: int | None
    retry_after: int | None
    should_retry: bool | None
    now: int
    deadline: int
    waited: int | None = None
    rate_limit_reset: int | None = None


class Retry(Protocol):
    """A retry policy."""

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Return when to try again, or why not to."""


def refused(failure: Failure, attempts: int) -> Decision | None:
    """Give up if the failure is not retryable or all `attempts` are used; None otherwise."""
    if not is_retryable(failure.outcome):
        return give_up("not_retryable")
    return give_up("attempts") if failure.attempt >= attempts else None


def hinted(failure: Failure) -> Decision | None:
    """Retry after the server's Retry-After; None if it sent none, or 0."""
    wait = failure.retry_after
    return within(failure, wait, "retry_after") if wait else None


def asked(failure: Failure) -> Decision | None:
    """Retry after the server's Retry-After, or when its limit is reset; None if it says neither.

    The reset of a limit is a hint: one after the call's deadline does not end the call.
    """
    if failure.retry_after is not None:
        return hinted(failure)
    wait = failure.rate_limit_reset
    if wait is None or failure.now + wait > failure.deadline:
        return None
    return retry_in(wait, "rate_limit_reset")


def within(failure: Failure, wait: int, source: WaitSource) -> Decision:
    """Retry after `wait`, or give up if that is after the call's deadline."""
    if failure.now + wait > failure.deadline:
        return give_up("deadline")
    return retry_in(wait, source)
