"""The sections of a scenario for the budget and the price of tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from harness.config.config_base import Count, Section
from harness.config.prices import PRICE_WAY_OUT, Price
from harness.config.tables import Duration, SettingError

_UNBOUND = ("max_tokens", "max_completion_tokens", "n", "best_of")
"""Keys of a request's body with which an attempt can use more tokens than its reservation."""

NonNegative = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Budget(Section):
    """The limits of a run. The worst case of each attempt is reserved before it is sent.

    Example::

        [budget]
        attempts = 500
    """

    attempts: Count | None = None
    """HTTP requests."""
    usd: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Cost in USD; requires `workflow.max_tokens` for every phase, and a known price."""
    tokens: Annotated[int, Field(gt=0, le=10**15)] | None = None
    """Input and output together; requires `workflow.max_tokens` for every phase."""
    seconds: Duration | None = None
    """Since the start of the first trial; after that, no attempt is sent, but attempts in flight
    can finish.
    """


class OwnPrice(Section):
    """The price of tokens.

    Example::

        [endpoint.price]
        input = 0.3
        output = 1.2
    """

    input: NonNegative
    """USD per million input tokens."""
    output: NonNegative
    """USD per million output tokens, reasoning included."""
    cached: NonNegative | None = None
    """USD per million input tokens from the prompt cache; as `input` if absent."""
    reasoning: NonNegative | None = None
    """USD per million output tokens that are reasoning; as `output` if absent."""

    def as_price(self) -> Price:
        """Return the Price of this section."""
        cached = self.input if self.cached is None else self.cached
        return Price(
            input=self.input,
            cached=cached,
            output=self.output,
            reasoning=self.reasoning,
            source="the scenario",
        )


def check_budget(
    budget: Budget,
    max_tokens: Mapping[str, int | None],
    bodies: Iterable[Mapping[str, Any]],
    omitted: Collection[str],
    price: Price | None,
    simulated: bool,
) -> None:
    """Raise SettingError if nothing guarantees that a run stays within `budget`.

    `max_tokens`: of each phase. `bodies`: the fields added to requests. `omitted`: the fields that
    are left out. A simulated provider without a price costs nothing and stays within any budget.
    """
    for name, limit in (("usd", budget.usd), ("tokens", budget.tokens)):
        if limit is None:
            continue
        missing = ", ".join(phase for phase, most in max_tokens.items() if most is None)
        unbound = next((key for body in bodies for key in _UNBOUND if key in body), None)
        if missing:
            problem = (
                "requires a limit for the length of an answer; "
                f"give workflow.max_tokens for: {missing}"
            )
        elif "max_tokens" in omitted:
            problem = (
                "cannot be guaranteed with max_tokens in endpoint.omit; rename it instead: "
                'endpoint.rename = { max_tokens = "max_completion_tokens" }'
            )
        elif unbound:
            problem = (
                f"cannot be guaranteed with {unbound} in extra_body; remove it there "
                "(workflow.max_tokens limits the length)"
            )
        elif name == "usd" and price is None and not simulated:
            problem = f"requires a known price; {PRICE_WAY_OUT}"
        else:
            continue
        raise SettingError(problem, "budget", name, value=limit)
