"""What a run may spend, and the ledger that holds it to that: pure decisions over numbers.

Before an attempt goes out its worst case is reserved; afterwards what was used takes the place of
the reservation. Spent and reserved together never exceed a limit, so as long as no attempt uses
more than its worst case, however many are in flight and in whatever order they end, nothing is
overspent: not by one token.
"""

from __future__ import annotations

from typing import NamedTuple

NANO = 1_000_000_000
"""Billionths of a dollar in a dollar: whole numbers, so that no sum is ever rounded."""


class Amount(NamedTuple):
    """What attempts use: how many they are, tokens read and written, billionths of a dollar."""

    attempts: int = 0
    tokens: int = 0
    nano_usd: int = 0


class BudgetLimits(NamedTuple):
    """The most that a run may use; None where there is no limit.

    `seconds`: from the run's start; an attempt that is not sent by then is not sent any more.
    """

    attempts: int | None = None
    tokens: int | None = None
    nano_usd: int | None = None
    seconds: float | None = None


class Ledger(NamedTuple):
    """The limits, what has been spent, and what is reserved for attempts in flight."""

    limits: BudgetLimits
    spent: Amount = Amount()
    reserved: Amount = Amount()


class BudgetRefusal(NamedTuple):
    """`limit` names the one that another attempt could exceed: attempts, tokens, usd, seconds."""

    limit: str


def reserve(ledger: Ledger, worst: Amount, seconds: float) -> Ledger | BudgetRefusal:
    """Reserve the worst case of one more attempt, `seconds` after the run's start."""
    limits = ledger.limits
    if limits.seconds is not None and seconds >= limits.seconds:
        return BudgetRefusal("seconds")
    reserved = _sum(ledger.reserved, worst)
    total = _sum(ledger.spent, reserved)
    if limits.attempts is not None and total.attempts > limits.attempts:
        return BudgetRefusal("attempts")
    if limits.tokens is not None and total.tokens > limits.tokens:
        return BudgetRefusal("tokens")
    if limits.nano_usd is not None and total.nano_usd > limits.nano_usd:
        return BudgetRefusal("usd")
    return Ledger(limits, ledger.spent, reserved)


def settle(ledger: Ledger, worst: Amount, used: Amount) -> Ledger:
    """Put what an attempt used in the place of the `worst` that was reserved for it."""
    return Ledger(ledger.limits, _sum(ledger.spent, used), _sum(ledger.reserved, worst, sign=-1))


def committed(ledger: Ledger) -> Amount:
    """Return what is spent and reserved together: never more than the limits allow."""
    return _sum(ledger.spent, ledger.reserved)


def _sum(one: Amount, other: Amount, sign: int = 1) -> Amount:
    return Amount(
        one.attempts + sign * other.attempts,
        one.tokens + sign * other.tokens,
        one.nano_usd + sign * other.nano_usd,
    )
