"""What attempts of a run cost, at worst before they go out and in fact afterwards."""

from __future__ import annotations

import json
import math

from harness.bench.scenario import Scenario
from harness.config.prices import cost_usd, worst_usd
from harness.engine.effects import Reply, Request, Send
from harness.engine.ledger import NANO, Amount, BudgetLimits, BudgetRefusal, Ledger
from harness.records.clock import SECOND, Anchor
from harness.records.failures import FAILURES
from harness.records.schema import Attempt

_TOKENS_A_MESSAGE = 16
_TOKENS_A_REQUEST = 64


def is_counted(scenario: Scenario) -> bool:
    """Return whether the budget limits what is used, so that what is used is written down."""
    limits = limits_of(scenario)
    return (limits.attempts, limits.tokens, limits.nano_usd) != (None, None, None)


def limits_of(scenario: Scenario, away: int = 0) -> BudgetLimits:
    """Return the budget in real seconds and billionths of a dollar.

    `away`: nanoseconds since the run's anchor in which it did not run, or not yet.
    """
    budget = scenario.budget
    return BudgetLimits(
        attempts=budget.attempts,
        tokens=budget.tokens,
        nano_usd=None if budget.usd is None else math.floor(budget.usd * NANO),
        seconds=None
        if budget.seconds is None
        else budget.seconds * scenario.time_scale + away / SECOND,
    )


def explain(refusal: BudgetRefusal, scenario: Scenario, ledger: Ledger) -> str:
    """Say in one line which budget ended the run and how much was spent."""
    spent = ledger.spent
    used = [f"{spent.attempts} attempts"]
    if ledger.limits.tokens is not None or ledger.limits.nano_usd is not None:
        used.append(f"{spent.tokens} tokens")
    if ledger.limits.nano_usd is not None:
        used.append(f"{spent.nano_usd / NANO:.4f} USD")
    limit = getattr(scenario.budget, refusal.limit)
    why = "are over" if refusal.limit == "seconds" else "leaves no room for another attempt"
    return f"budget.{refusal.limit} = {limit:g} {why}; spent: {', '.join(used)}"


def hopeless(scenario: Scenario, base_url: str, attempt: Attempt) -> str:
    """Say in one line why a first answer means that every call would fail, and the way out."""
    endpoint = scenario.endpoint
    key = endpoint.facts.key_advice if attempt.outcome == "unauthorized" else ""
    advice = FAILURES[attempt.outcome].advice + (f" ({key})" if key else "")
    return (
        f"{base_url}: {attempt.status} ({attempt.outcome}) on the first call, for model "
        f"{endpoint.model}; {advice}"
    )


class TokenMeter:
    """Measures attempts in tokens and money. `price` is None where it is not known."""

    def __init__(self, scenario: Scenario, anchor: Anchor) -> None:
        self._price = scenario.price
        self._anchor = anchor
        self._added = sum(len(json.dumps(body).encode()) for body in scenario.endpoint.facts.bodies)

    def worst(self, effect: Send) -> Amount:
        """Return the most that an attempt can use, if its `max_tokens` is given."""
        read = most_input_tokens(effect.request) + self._added
        written = effect.request.max_tokens or 0
        nano_usd = math.ceil(worst_usd(self._price, read, written) * NANO) if self._price else 0
        return Amount(1, read + written, nano_usd)

    def used(self, worst: Amount, reply: Reply) -> Amount:
        """Return what an attempt used.

        One that never went out or that was refused by its status used nothing; one whose usage
        was not reported counts as its worst case.
        """
        if reply.sent is None or (reply.status is not None and reply.status >= 300):
            return Amount(1)
        tokens = reply.tokens
        if tokens.input is None or tokens.output is None:
            return worst
        nano_usd = 0
        if self._price is not None:
            # Nobody says whether the hour of the request or of the answer counts: take the dearer.
            moments = [self._anchor.unix_ns + at for at in (reply.sent, reply.done)]
            dearer = max(cost_usd(self._price, tokens, moment) for moment in moments)
            nano_usd = math.ceil(dearer * NANO)
        return Amount(1, tokens.input + tokens.output, nano_usd)


class Uncounted:
    """Measures attempts where nothing limits them: each is one."""

    def worst(self, effect: Send) -> Amount:
        """Return one attempt."""
        return _ONE

    def used(self, worst: Amount, reply: Reply) -> Amount:
        """Return one attempt."""
        return _ONE


_ONE = Amount(1)


def most_input_tokens(request: Request) -> int:
    """Return a number of tokens that the request's messages do not exceed.

    A tokenizer that works on bytes makes at most one token of each. What a server puts around
    messages is allowed 16 tokens a message and 64 a request.
    """
    told = (len(message.content.encode(errors="replace")) for message in request.messages)
    return sum(told) + _TOKENS_A_MESSAGE * len(request.messages) + _TOKENS_A_REQUEST
