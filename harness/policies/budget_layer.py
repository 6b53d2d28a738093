"""Budgets that all calls share: each retry has to be paid for out of what successes bring in.

Pure values and functions: `(state, what ended) -> (state, may it be tried again)`.

A budget protects the server from its clients' retries. It does so by failing calls: see also
`policies.breaker`.
"""

from __future__ import annotations

from typing import Any, Protocol

from harness.policies.layers import Inside, Scope, States
from harness.policies.protocol import GO, Admission, Asking, Ended, RetryVerdict
from harness.records.schema import give_up


class BudgetRule(Protocol):
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


class BudgetLayer:
    """A budget that has to allow each retry."""

    hedge = None

    def __init__(self, budget: BudgetRule, scope: Scope = "process") -> None:
        self.budget = budget
        self.states = States(budget.fresh, scope)

    def admit(self, asking: Asking) -> Admission:
        """Let every attempt out: a retry was paid for when it was decided on."""
        return GO

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        """Pay for what those inside want to send again, or refuse it."""
        verdict = inside()
        again = verdict.decision is not None and verdict.decision.retry_in is not None
        state, may = self.budget.ended(self.states.get(ended.phase), ended, again)
        self.states.put(ended.phase, state)
        return verdict if may or not again else verdict._replace(decision=give_up("budget"))
