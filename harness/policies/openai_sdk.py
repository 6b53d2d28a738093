"""The retries of the openai package."""

from __future__ import annotations

from random import Random
from typing import Literal, NamedTuple

from pydantic import Field

from harness.policies.retry import Failure, hinted, within
from harness.policies.section import BackoffSection, PolicyContext
from harness.records.clock import SECOND
from harness.records.schema import Decision, PolicyCode, give_up


class OpenAISdk(BackoffSection):
    """Retries as the openai package does; see `OpenAISdkRule`.

    Example::

        [retry.example]
        kind = "openai-sdk"
        max_retries = 5
    """

    kind: Literal["openai-sdk"] = "openai-sdk"
    """The kind of policy."""
    max_retries: int = Field(default=2, ge=0, le=1_000_000)
    """The most retries of a call; the package's own default is 2."""

    def retry(self, context: PolicyContext) -> OpenAISdkRule:
        """Return the rule."""
        return OpenAISdkRule(self.max_retries, context.streamed, context.nanoseconds(1.0))

    def code(self) -> PolicyCode:
        """Return code that sets the package's own retries."""
        return PolicyCode(max_retries=self.max_retries)


class OpenAISdkRule(NamedTuple):
    """The published rule of the openai package, version 3.

    408, 409, 429, every 5xx, connection failures and timeouts are retried, up to `max_retries`
    times, after min(0.5 s * 2^retry, 8 s) * U(0.75, 1). A Retry-After of up to 120 s replaces this
    wait; after a longer one there is no retry. The header `x-should-retry` overrides the status.
    Failures outside the package's retry loop are not retried: an error inside a 200, and in a
    streamed response everything after the headers. `second`: nanoseconds of a scenario second.
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
        if failure.retry_after and failure.retry_after > 120 * self.second:
            return give_up("retry_after_too_long")
        if decision := hinted(failure):
            return decision
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


_UNANSWERED = {
    "connect_failed", "connect_timeout", "connection_lost", "first_token_timeout",
    "certificate_error", "proxy_error", "wrong_protocol",
}  # fmt: skip
