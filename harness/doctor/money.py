"""Checks of budgets and prices."""

from __future__ import annotations

from harness.config.prices import price_text
from harness.doctor.findings import Examined, Found, ok, skipped

OLDEST_PRICE = 90
"""Days after which a price is read again."""


def check_spending_limit(examined: Examined) -> Found:
    """Find a paid endpoint without a limit of what a run can cost."""
    if not any(mine.endpoint.facts.may_cost for mine in examined.own.values()):
        return skipped("the endpoint costs nothing")
    limits = examined.scenario.budget.model_dump(exclude_none=True)
    amounts = {name: value for name, value in limits.items() if name != "seconds"}
    if amounts:
        return ok(", ".join(f"{name} = {value:g}" for name, value in amounts.items()))
    return Found(
        "failure",
        "the endpoint may cost money, and nothing limits attempts, tokens or cost",
        "add [budget] with usd = 1.0, or with attempts or tokens",
    )


def check_prices(examined: Examined) -> Found:
    """Find prices that are unknown or old."""
    paid = [mine for mine in examined.own.values() if mine.endpoint.facts.may_cost]
    if not paid:
        return skipped("the endpoint costs nothing")
    for mine in paid:
        price = mine.price
        if price is None:
            return Found(
                "warning", mine.endpoint.facts.no_price.partition(";")[0],
                "add [endpoint.price] with input and output, USD per million tokens",
            )  # fmt: skip
        if price.date is not None and (examined.today - price.date).days > OLDEST_PRICE:
            return Found(
                "warning",
                f"the price of {mine.endpoint.model} was read on {price.date}",
                "compare it with the provider's list, and write it into [endpoint.price]",
            )
    return ok("; ".join(dict.fromkeys(price_text(mine.price) for mine in paid if mine.price)))
