"""Retry budgets: all calls share one, and a retry is made only if the budget allows it.

Rules are pure functions: `(state, attempt that ended) -> (state, whether a retry is allowed)`.

A budget protects the server from retries by failing calls; compare `policies.breaker`.
"""

from __future__ import annotations

from typing import Any, Protocol

from harness.policies.layers import Inside, Scope, States
from harness.policies.protocol import GO, Admission, Asking, Ended, RetryVerdict
from harness.records.schema import give_up


class BudgetRule(Protocol):
    """The rule of a budget; its state is a separate value."""

    def fresh(self) -> Any:
        """Return the initial state."""

    def ended(self, state: Any, ended: Ended, again: bool) -> tuple[Any, bool]:
        """Return the state after an attempt, and whether a retry is allowed.

        `again`: it failed and a retry is wanted; otherwise the second value has no meaning.
        """


class BudgetLayer:
    """A budget that must allow each retry."""

    hedge = None

    def __init__(self, budget: BudgetRule, scope: Scope = "process") -> None:
        self.budget = budget
        self.states = States(budget.fresh, scope)

    def admit(self, asking: Asking) -> Admission:
        """Admit every attempt: retries are charged when they are decided."""
        return GO

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        """Charge a retry that the inner layers want, or refuse it."""
        verdict = inside()
        again = verdict.decision is not None and verdict.decision.retry_in is not None
        state, may = self.budget.ended(self.states.get(ended.phase), ended, again)
        self.states.put(ended.phase, state)
        return verdict if may or not again else verdict._replace(decision=give_up("budget"))
