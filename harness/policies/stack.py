"""Policies around one another: what a circuit breaker, budgets and a hedge make of a retry policy.

Layers stand outermost first. An attempt asks them from the outside in and goes out when none of
them parks it. Its end goes from the outside in, too: a breaker that takes a failure upon itself
keeps it from all that is inside; the others hear first what those inside say, and can refuse it.
So a budget outside of a breaker pays for what the breaker sends again, and one inside does not.

The state of each layer is a frozen value, changed by pure functions; here they are kept, under
one lock. A layer with scope `phase` keeps one state for each phase of the workflow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from harness.policies.layers import Layer
from harness.policies.protocol import (
    GO,
    Admission,
    Asking,
    Ended,
    Hedge,
    ParkCall,
    RandomOf,
    RetryVerdict,
    decided,
)
from harness.policies.retry import Retry


class Stack:
    """The policy of a trial: `layers`, outermost first, around `retry`. Safe for threads."""

    def __init__(self, layers: Sequence[Layer], retry: Retry) -> None:
        self.layers = tuple(layers)
        self.retry = retry
        self._lock = threading.Lock()
        hedges = [layer.hedge for layer in layers if layer.hedge is not None]
        self.hedge = Hedge(hedges[0].after, self._locked(hedges[0].may)) if hedges else None

    def admit(self, asking: Asking) -> Admission:
        """Let the attempt out if no layer parks it."""
        with self._lock:
            for layer in self.layers:
                answer = layer.admit(asking)
                if isinstance(answer, ParkCall):
                    return answer
        return GO

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        """Ask the outermost layer, which asks those inside it."""
        with self._lock:
            return self._ask(0, ended, random)

    def _ask(self, depth: int, ended: Ended, random: RandomOf) -> RetryVerdict:
        if depth < len(self.layers):
            return self.layers[depth].ended(ended, lambda: self._ask(depth + 1, ended, random))
        return decided(self.retry, ended, random)

    def _locked(self, may: Callable[[Asking], bool]) -> Callable[[Asking], bool]:
        def locked(asking: Asking) -> bool:
            with self._lock:
                return may(asking)

        return locked
