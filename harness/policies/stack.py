"""A stack of policies: layers such as a breaker, budgets and a hedge around a retry policy.

Layers are listed outermost first. An attempt asks them from the outermost to the innermost and is
sent if none of them parks it. The end of an attempt takes the same way: a breaker that retries a
failure itself does not pass it on; the other layers first get the verdict of the layers inside
them, and can refuse it. So a budget outside a breaker pays for the retries of the breaker, and a
budget inside it does not.

The state of each layer is a frozen value that pure functions compute. One lock protects all states
of a stack. A layer with scope `phase` has one state for each phase of the workflow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.policies.layers import Layer
from harness.policies.protocol import (
    GO,
    Admission,
    Asking,
    Ended,
    HedgeRule,
    ParkCall,
    RandomOf,
    RetryVerdict,
    failure_of,
)
from harness.policies.retry import Retry
from harness.records.failures import OK

_NOTHING = RetryVerdict(None)


@dataclass
class Stack:
    """The policy of a trial: `layers`, outermost first, around `retry`. Safe for threads."""

    layers: Sequence[Layer]
    retry: Retry
    hedge: HedgeRule | None = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def __post_init__(self) -> None:
        hedges = [layer.hedge for layer in self.layers if layer.hedge is not None]
        self.hedge = HedgeRule(hedges[0].after, self._locked(hedges[0].may)) if hedges else None

    def admit(self, asking: Asking) -> Admission:
        """Admit the attempt if no layer parks it."""
        if not self.layers:
            return GO
        with self._lock:
            for layer in self.layers:
                answer = layer.admit(asking)
                if isinstance(answer, ParkCall):
                    return answer
        return GO

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        """Return the verdict of the outermost layer, which asks the layers inside it."""
        if not self.layers:
            return self._ask(0, ended, random)
        with self._lock:
            return self._ask(0, ended, random)

    def _ask(self, depth: int, ended: Ended, random: RandomOf) -> RetryVerdict:
        if depth < len(self.layers):
            return self.layers[depth].ended(ended, lambda: self._ask(depth + 1, ended, random))
        if ended.outcome == OK or not ended.final:
            return _NOTHING
        return RetryVerdict(self.retry.decide(failure_of(ended), random()))

    def _locked(self, may: Callable[[Asking], bool]) -> Callable[[Asking], bool]:
        def locked(asking: Asking) -> bool:
            with self._lock:
                return may(asking)

        return locked
