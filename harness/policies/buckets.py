"""Budgets that all calls share: each retry has to be paid for out of what successes bring in.

Pure values and functions: `(state, what ended) -> (state, may it be tried again)`. Amounts are
thousandths of a token where a rule has fractions, so that no sum is ever rounded.

A budget protects the server from its clients' retries. It does so by failing calls: see also
`policies.breaker`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from harness.policies.protocol import Ended
from harness.records.failures import OK, is_retryable

WHOLE = 1000
"""Thousandths in a token."""

WINDOW_SLICES = 10
"""A window moves on in so many steps."""


class Budget(Protocol):
    """The rule of a budget; what is left in it is a value of its own."""

    def fresh(self) -> Any:
        """Return the budget's state as it is at first."""
        ...

    def ended(self, state: Any, ended: Ended, again: bool) -> tuple[Any, bool]:
        """Return the state after an attempt, and whether the call may be tried `again`.

        `again`: it failed and is to be sent again, if there is enough in the budget. Without that
        the second value means nothing.
        """
        ...


class Bucket(NamedTuple):
    """A token bucket: at most `most`, now `tokens`."""

    most: int
    tokens: int


def put(bucket: Bucket, amount: int) -> Bucket:
    """Return the bucket with `amount` more in it; what does not fit is lost."""
    return bucket._replace(tokens=min(bucket.most, bucket.tokens + amount))


def take(bucket: Bucket, cost: int) -> tuple[Bucket, bool]:
    """Return the bucket with `cost` less in it, or as it was if there is not so much."""
    if cost > bucket.tokens:
        return bucket, False
    return bucket._replace(tokens=bucket.tokens - cost), True


class RetryBudget(NamedTuple):
    """Retries are at most a share of the calls: B. Beyer et al., Site Reliability Engineering, 21.

    Each call puts `ratio` thousandths of a token into a bucket that holds `burst` tokens and is
    full at first; each retry takes a whole one.
    """

    ratio: int
    burst: int

    def fresh(self) -> Bucket:
        """Return a full bucket."""
        return Bucket(self.burst * WHOLE, self.burst * WHOLE)

    def ended(self, bucket: Bucket, ended: Ended, again: bool) -> tuple[Bucket, bool]:
        """Put in for a call's first attempt; take out for a retry."""
        if ended.attempt == 1:
            bucket = put(bucket, self.ratio)
        return take(bucket, WHOLE) if again else (bucket, True)


class GrpcThrottling(NamedTuple):
    """Retry throttling of gRPC: proposal A6, "Throttling Retry Attempts and Hedged RPCs".

    A bucket of `tokens` whole tokens is full at first. Every failure that a retry might mend takes
    one, every success puts `ratio` thousandths back, and there is no retry while the bucket is
    half empty or emptier.
    """

    tokens: int
    ratio: int

    def fresh(self) -> Bucket:
        """Return a full bucket."""
        return Bucket(self.tokens * WHOLE, self.tokens * WHOLE)

    def ended(self, bucket: Bucket, ended: Ended, again: bool) -> tuple[Bucket, bool]:
        """Count the outcome; refuse a retry when half of the tokens or more are gone."""
        if ended.outcome == OK:
            return put(bucket, self.ratio), True
        if is_retryable(ended.outcome):
            bucket = bucket._replace(tokens=max(0, bucket.tokens - WHOLE))
        return bucket, 2 * bucket.tokens > bucket.most


class Window(NamedTuple):
    """What was put in less what was taken out, by slice of time; `last` is the newest slice."""

    last: int
    sums: tuple[int, ...]


class FinagleBudget(NamedTuple):
    """The retry budget of Finagle: com.twitter.finagle.service.RetryBudget.

    Within a sliding window of `window` nanoseconds retries are at most `reserve` and `ratio`
    thousandths for each call. What is not used within the window is lost.
    """

    ratio: int
    reserve: int
    window: int

    def fresh(self) -> Window:
        """Return a window in which nothing has happened."""
        return Window(0, (0,) * WINDOW_SLICES)

    def ended(self, window: Window, ended: Ended, again: bool) -> tuple[Window, bool]:
        """Count a call's first attempt; take out for a retry."""
        window = self._at(window, ended.now)
        if ended.attempt == 1:
            window = _add(window, self.ratio)
        if not again:
            return window, True
        if self.reserve * WHOLE + sum(window.sums) < WHOLE:
            return window, False
        return _add(window, -WHOLE), True

    def _at(self, window: Window, now: int) -> Window:
        """Return the window moved on to `now`; what comes late counts in the newest slice."""
        last = max(window.last, now * WINDOW_SLICES // self.window)
        gone = min(WINDOW_SLICES, last - window.last)
        return Window(last, window.sums[gone:] + (0,) * gone)


def _add(window: Window, amount: int) -> Window:
    return window._replace(sums=(*window.sums[:-1], window.sums[-1] + amount))
