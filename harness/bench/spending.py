"""What the attempts of a run use: the worst case before they are sent, the real use afterwards."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from typing import NamedTuple

from harness.bench.scenario import Scenario
from harness.bench.trial import INTERRUPTED
from harness.config.prices import cost_usd, worst_usd
from harness.config.validation_messages import one_line
from harness.engine.budget_gate import (
    HOPELESS,
    HOPELESS_CONNECTION,
    HOPELESS_REQUEST,
    BudgetExhaustedError,
    FirstCallError,
    Gate,
)
from harness.engine.effects import Reply, Request, Send
from harness.engine.ledger import NANO, Amount, BudgetLimits, BudgetRefusal, Ledger
from harness.records.clock import SECOND, Anchor
from harness.records.error_bodies import message_in
from harness.records.failures import FAILURES
from harness.records.schema import Attempt, Stop, Tokens

_TOKENS_PER_MESSAGE = 16
_TOKENS_PER_REQUEST = 64
_BYTES_A_TOKEN = 4


class SpendingSoFar(NamedTuple):
    """The budget of a trial at its start. `answered`: the endpoint has had a good answer."""

    limits: BudgetLimits
    ledger: Ledger
    answered: bool


def is_counted(scenario: Scenario) -> bool:
    """Return whether the budget limits amounts, so that the spent amounts are recorded."""
    return limits_of(scenario)._replace(seconds=None).has_any


def limits_of(scenario: Scenario, away: int = 0) -> BudgetLimits:
    """Return the budget in real seconds and nano-dollars.

    `away`: nanoseconds since the run's anchor in which the run was not running.
    """
    budget, scale = scenario.budget, scenario.time_scale
    return BudgetLimits(
        attempts=budget.attempts,
        tokens=budget.tokens,
        nano_usd=None if budget.usd is None else math.floor(budget.usd * NANO),
        seconds=None if budget.seconds is None else budget.seconds * scale + away / SECOND,
    )


def hopeless_outcomes(scenario: Scenario) -> frozenset[str]:
    """Return the outcomes of a first attempt that end a run; the simulator may refuse once.

    None ends that of a gateway, whose client gets the response.
    """
    if scenario.workflow.is_gateway:
        return frozenset()
    if scenario.endpoint.facts.simulation is not None:
        return HOPELESS
    return HOPELESS | HOPELESS_REQUEST | HOPELESS_CONNECTION


def until_stopped(
    trial: Callable[[], None], scenario: Scenario, gate: Gate, base_url: str
) -> Stop | None:
    """Run a trial and return why it ended early; None if it did not."""
    try:
        trial()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BudgetExhaustedError as error:
        return Stop(by="budget", because=explain(error.refusal, scenario, gate.ledger))
    except FirstCallError as error:
        because = why_failed(scenario, base_url, error.attempt, " on the first call")
        return Stop(by="first_call", because=because)
    return None


def explain(refusal: BudgetRefusal, scenario: Scenario, ledger: Ledger) -> str:
    """Return one line: which budget ended the run, and how much was spent."""
    spent = ledger.spent
    used = [f"{spent.attempts} attempts"]
    if ledger.limits.tokens is not None or ledger.limits.nano_usd is not None:
        used.append(f"{spent.tokens} tokens")
    if ledger.limits.nano_usd is not None:
        used.append(f"{spent.nano_usd / NANO:.4f} USD")
    limit = getattr(scenario.budget, refusal.limit)
    why = "is used up" if refusal.limit == "seconds" else "leaves no room for another attempt"
    return f"budget.{refusal.limit} = {limit:g} {why}; spent: {', '.join(used)}"


def why_failed(scenario: Scenario, base_url: str, attempt: Attempt | Reply, when: str = "") -> str:
    """Return one line: how an attempt failed, what the server said, and the way out."""
    endpoint = scenario.endpoint
    key = endpoint.facts.key_advice if attempt.outcome == "unauthorized" else ""
    advice = FAILURES[attempt.outcome].advice + (f" ({key})" if key else "")
    what = f"{attempt.status} ({attempt.outcome})" if attempt.status else attempt.outcome
    said = [f"the server says: {message_in(attempt.error_body)}"] if attempt.error_body else []
    said += [f"it redirects to {attempt.location}"] if attempt.location else []
    return one_line(
        f"{base_url}: {what}{when}, for model {endpoint.model}; {'; '.join([*said, advice])}"
    )


class TokenMeter:
    """Measures attempts in tokens and money; money is 0 if the price is not known.

    If an attempt used more than its worst case, because the server ignores `max_tokens`, later
    attempts are assumed to use at least as much.
    """

    def __init__(self, scenario: Scenario, anchor: Anchor) -> None:
        self._price = scenario.price
        self._anchor = anchor
        self._lock = threading.Lock()
        self.most = Amount()
        self._added = sum(len(json.dumps(body).encode()) for body in scenario.endpoint.facts.bodies)

    def worst(self, effect: Send) -> Amount:
        """Return the most that an attempt can use, if its `max_tokens` is given."""
        return self.worst_of(effect.request)

    def worst_of(self, request: Request) -> Amount:
        """Return the most that an attempt with this request can use."""
        read = most_input_tokens(request) + self._added
        written = request.max_tokens or 0
        nano_usd = math.ceil(worst_usd(self._price, read, written) * NANO) if self._price else 0
        worst = Amount(1, read + written, nano_usd)
        return Amount(*map(max, worst, self.most))

    def used(self, worst: Amount, reply: Reply) -> Amount:
        """Return what an attempt used.

        An attempt that was not sent, or that was refused by its status, used nothing. If no usage
        was reported that can be right, this is the worst case, or what was received if that is
        more.
        """
        if reply.sent is None or (reply.status is not None and reply.status >= 300):
            return Amount(1)
        tokens = reply.tokens
        if tokens.input is None or tokens.output is None:
            received = Tokens(
                input=tokens.input or 0, output=tokens.output or received_tokens(reply)
            )
            used = Amount(*map(max, worst, self._amount(received, reply)))
        else:
            used = self._amount(tokens, reply)
        if used.tokens > worst.tokens or used.nano_usd > worst.nano_usd:
            with self._lock:
                self.most = Amount(*map(max, self.most, used))
        return used

    def _amount(self, tokens: Tokens, reply: Reply) -> Amount:
        assert reply.sent is not None, "an attempt that was not sent used nothing"
        nano_usd = 0
        if self._price is not None:
            # Providers do not say whether the time of the request or of the answer counts: take the
            # higher price.
            moments = [self._anchor.unix_ns + at for at in (reply.sent, reply.done)]
            dearer = max(cost_usd(self._price, tokens, moment) for moment in moments)
            nano_usd = math.ceil(dearer * NANO)
        return Amount(1, (tokens.input or 0) + (tokens.output or 0), nano_usd)


def received_tokens(reply: Reply) -> int:
    """Return an estimate of the output tokens that were received: one for each four bytes."""
    size = sum(len(text.encode(errors="replace")) for text in (reply.reasoning, reply.answer))
    return max(reply.chunks, math.ceil(size / _BYTES_A_TOKEN))


def most_input_tokens(request: Request) -> int:
    """Return an upper bound of the number of tokens of the request's messages and further keys.

    A tokenizer that works on bytes makes at most one token of each byte. What a server adds is
    assumed to be at most 16 tokens per message and 64 per request.
    """
    messages = request.messages
    size = sum(
        len((message.reasoning + message.content).encode(errors="replace")) for message in messages
    )
    size += len(request.body)
    return size + _TOKENS_PER_MESSAGE * len(messages) + _TOKENS_PER_REQUEST
