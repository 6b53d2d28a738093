"""Exponential backoff with jitter.

Formulas: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from random import Random
from typing import Literal, NamedTuple

from pydantic import Field

from harness.config.tables import Duration
from harness.policies.retry import Failure, asked, refused, within
from harness.policies.section import BackoffSection, PolicyContext
from harness.records.schema import Decision, PolicyCode


class Exponential(BackoffSection):
    """Retries after a pause that doubles up to a cap, with jitter; see `ExponentialRule`.

    Example::

        [retry.example]
        kind = "exponential"
        jitter = "full"
        attempts = 8
        base = "1s"
        cap = "20s"
    """

    kind: Literal["exponential"] = "exponential"
    """The kind of policy."""
    jitter: Literal["full", "equal", "decorrelated"] = "full"
    """How the pause is drawn: `full`, from 0 to the doubled pause; `equal`, from half of it;
    `decorrelated`, from `base` to three times the last pause.
    """
    attempts: int = Field(default=5, ge=2, le=1_000_000)
    """The most attempts of a call."""
    base: Duration = 0.5
    """The first pause."""
    cap: Duration = 20.0
    """The longest pause."""

    def retry(self, context: PolicyContext) -> ExponentialRule:
        """Return the rule."""
        base, cap = context.nanoseconds(self.base), context.nanoseconds(self.cap)
        return ExponentialRule(self.attempts, base, cap, self.jitter)

    def code(self) -> PolicyCode:
        """Return code with the formula of the jitter."""
        before: tuple[str, ...] = ()
        if self.jitter == "decorrelated":
            before = ("pause = 0.0",)
            low, high = f"{self.base:g}", f"3 * (pause or {self.base:g})"
            pause: tuple[str, ...] = (f"pause = min({self.cap:g}, random.uniform({low}, {high}))",)
        else:
            ceiling = f"ceiling = min({self.cap:g}, {self.base:g} * 2 ** (attempt - 1))"
            low = "0" if self.jitter == "full" else "ceiling / 2"
            pause = (ceiling, f"pause = random.uniform({low}, ceiling)")
        return PolicyCode(attempts=self.attempts, modules=("random",), before=before, pause=pause)


class ExponentialRule(NamedTuple):
    """Backoff that grows up to a cap, with jitter; at most `attempts` attempts.

    With c = min(cap, base * 2^(attempt - 1)), full jitter draws from U(0, c) and equal jitter from
    c/2 + U(0, c/2). Decorrelated jitter draws min(cap, U(base, 3 * last)), where `last` is the
    previous draw, `base` at first. A Retry-After above 0 (a past date is 0), or the reset of a
    limit, replaces the draw.
    """

    attempts: int
    base: int
    cap: int
    jitter: Literal["full", "equal", "decorrelated"]

    def decide(self, failure: Failure, random: Random) -> Decision:
        """Return the decision for a failed attempt."""
        if decision := refused(failure, self.attempts) or asked(failure):
            return decision
        low, high = self._range(failure)
        return within(failure, min(self.cap, low + round(random.random() * (high - low))), "policy")

    def _range(self, failure: Failure) -> tuple[int, int]:
        """Return the bounds of the draw, before the cap of decorrelated jitter."""
        if self.jitter == "decorrelated":
            last = self.base if failure.waited is None else failure.waited
            return self.base, max(self.base, 3 * last)
        ceiling = min(self.cap, self.base << min(failure.attempt - 1, 62))
        return (ceiling // 2 if self.jitter == "equal" else 0), ceiling
