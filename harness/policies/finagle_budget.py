"""The retry budget of Finagle."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from harness.config.tables import Duration
from harness.policies.budget_layer import BudgetLayer
from harness.policies.layers import Scope
from harness.policies.protocol import Ended
from harness.policies.section import PolicyContext, WrapperSection
from harness.policies.token_bucket import WHOLE, Share, thousandths

WINDOW_SLICES = 10
"""The number of slices of a sliding window."""


class FinagleBudget(WrapperSection):
    """Limits retries in a sliding window; see `FinagleBudgetRule`.

    Example::

        [retry.example]
        kind = "finagle-budget"
        ratio = 0.2
    """

    kind: Literal["finagle-budget"] = "finagle-budget"
    """The kind of policy."""
    ratio: Share = 0.2
    """Retries for each call."""
    per_second: float = Field(default=10.0, ge=0, le=1_000_000)
    """Further retries for each second of the window."""
    window: Duration = 10.0
    """The length of the window."""
    scope: Scope = "process"
    """The budget. `process`: all phases share it. `phase`: each phase has its own."""

    def layer(self, context: PolicyContext) -> BudgetLayer:
        """Return the budget with an empty window."""
        rule = FinagleBudgetRule(
            ratio=thousandths(self.ratio),
            reserve=round(self.per_second * self.window),
            window=context.nanoseconds(self.window),
        )
        return BudgetLayer(rule, self.scope)


class Window(NamedTuple):
    """Tokens added minus tokens taken, by slice of time; `last` is the newest slice."""

    last: int
    sums: tuple[int, ...]


class FinagleBudgetRule(NamedTuple):
    """The retry budget of Finagle: com.twitter.finagle.service.RetryBudget.

    In a sliding window of `window` nanoseconds there are at most `reserve` retries, plus `ratio`
    thousandths for each call. What is not used within the window is lost.
    """

    ratio: int
    reserve: int
    window: int

    def fresh(self) -> Window:
        """Return an empty window."""
        return Window(0, (0,) * WINDOW_SLICES)

    def ended(self, window: Window, ended: Ended, again: bool) -> tuple[Window, bool]:
        """Add tokens for the first attempt of a call; take one for a retry."""
        window = self._at(window, ended.now)
        if ended.attempt == 1:
            window = _add(window, self.ratio)
        if not again:
            return window, True
        if self.reserve * WHOLE + sum(window.sums) < WHOLE:
            return window, False
        return _add(window, -WHOLE), True

    def _at(self, window: Window, now: int) -> Window:
        """Return the window moved to `now`; late events count in the newest slice."""
        last = max(window.last, now * WINDOW_SLICES // self.window)
        gone = min(WINDOW_SLICES, last - window.last)
        return Window(last, window.sums[gone:] + (0,) * gone)


def _add(window: Window, amount: int) -> Window:
    return window._replace(sums=(*window.sums[:-1], window.sums[-1] + amount))
