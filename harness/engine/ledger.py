"""The ledger of a run's budget: pure functions over amounts.

Before an attempt is sent, its worst case is reserved. After it, the amount that it used replaces
the reservation. Spent and reserved amounts together never exceed a limit. So no budget is exceeded
as long as no attempt uses more than its worst case, for any number of attempts in flight.
"""

from __future__ import annotations

from typing import NamedTuple

NANO = 1_000_000_000
"""Nano-dollars in a dollar. Money is counted in integers, so that sums are exact."""


class Amount(NamedTuple):
    """The use of attempts: their number, tokens read and written, and nano-dollars."""

    attempts: int = 0
    tokens: int = 0
    nano_usd: int = 0


class BudgetLimits(NamedTuple):
    """The limits of a run; None for no limit.

    `seconds`: since the start of the run; after that no attempt is sent.
    """

    attempts: int | None = None
    tokens: int | None = None
    nano_usd: int | None = None
    seconds: float | None = None

    @property
    def has_any(self) -> bool:
        """Whether anything is limited."""
        return any(limit is not None for limit in self)


class Ledger(NamedTuple):
    """The limits, the spent amount, and the amount reserved for attempts in flight."""

    limits: BudgetLimits
    spent: Amount = Amount()
    reserved: Amount = Amount()


class BudgetRefusal(NamedTuple):
    """`limit`: the limit that another attempt could exceed: attempts, tokens, usd or seconds."""

    limit: str


def reserve(ledger: Ledger, worst: Amount, seconds: float) -> Ledger | BudgetRefusal:
    """Reserve the worst case of one more attempt, `seconds` after the start of the run."""
    limits = ledger.limits
    if limits.seconds is not None and seconds >= limits.seconds:
        return BudgetRefusal("seconds")
    reserved = _sum(ledger.reserved, worst)
    total = _sum(ledger.spent, reserved)
    for name, most, amount in zip(("attempts", "tokens", "usd"), limits[:3], total, strict=True):
        if most is not None and amount > most:
            return BudgetRefusal(name)
    return Ledger(limits, ledger.spent, reserved)


def admit(ledger: Ledger, worst: Amount, seconds: float) -> Ledger | BudgetRefusal | None:
    """Reserve as `reserve` does; None if there may be room when attempts in flight have ended.

    That is so if the attempt fits in case those in flight use no tokens and no money. Each of them
    is one attempt for certain, and time does not come back.
    """
    answer = reserve(ledger, worst, seconds)
    if isinstance(answer, Ledger):
        return answer
    least = Ledger(ledger.limits, ledger.spent, Amount(attempts=ledger.reserved.attempts))
    final = reserve(least, worst, seconds)
    return final if isinstance(final, BudgetRefusal) else None


def settle(ledger: Ledger, worst: Amount, used: Amount) -> Ledger:
    """Replace the reservation `worst` of an attempt by the amount that it used."""
    return Ledger(ledger.limits, _sum(ledger.spent, used), _sum(ledger.reserved, worst, sign=-1))


def committed(ledger: Ledger) -> Amount:
    """Return the sum of spent and reserved amounts, which never exceeds the limits."""
    return _sum(ledger.spent, ledger.reserved)


def _sum(one: Amount, other: Amount, sign: int = 1) -> Amount:
    return Amount(
        one.attempts + sign * other.attempts,
        one.tokens + sign * other.tokens,
        one.nano_usd + sign * other.nano_usd,
    )
