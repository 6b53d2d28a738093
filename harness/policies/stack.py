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
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from harness.policies import breaker
from harness.policies.buckets import WHOLE, Bucket, Budget, put, take
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
from harness.records.schema import give_up, retry_in

Scope = Literal["process", "phase"]
Inside = Callable[[], RetryVerdict]


class Layer(Protocol):
    """What stands around a retry policy, with its state."""

    def admit(self, asking: Asking) -> Admission:
        """Say whether an attempt may go out now."""
        ...

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        """Say what is next after an attempt; `inside` asks the layers inside, once at most."""
        ...


class Stack:
    """The policy of a trial: `layers`, outermost first, around `retry`. Safe for threads."""

    def __init__(self, layers: Sequence[Layer], retry: Retry) -> None:
        self.layers = tuple(layers)
        self.retry = retry
        self._lock = threading.Lock()
        hedges = [layer for layer in layers if isinstance(layer, HedgeLayer)]
        self.hedge = Hedge(hedges[0].after, self._may(hedges[0])) if hedges else None

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

    def _may(self, layer: HedgeLayer) -> Callable[[Asking], bool]:
        def may(asking: Asking) -> bool:
            with self._lock:
                return layer.may(asking)

        return may


class States:
    """The states of a layer: one, or one for each phase."""

    def __init__(self, fresh: Callable[[], Any], scope: Scope) -> None:
        self._fresh = fresh
        self.scope = scope
        self._states: dict[str | None, Any] = {}

    def key(self, phase: str) -> str | None:
        """Return what names the state of `phase`: None where there is one for all."""
        return phase if self.scope == "phase" else None

    def get(self, phase: str) -> Any:
        """Return the state that holds for `phase`."""
        key = self.key(phase)
        return self._states[key] if key in self._states else self._fresh()

    def put(self, phase: str, state: Any) -> None:
        """Keep a new state for `phase`."""
        self._states[self.key(phase)] = state


class BudgetLayer:
    """A budget that has to allow each retry."""

    def __init__(self, budget: Budget, scope: Scope = "process") -> None:
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


class _Breaking(NamedTuple):
    """A breaker's state, and how often it has rung."""

    state: breaker.State = breaker.Closed()
    rung: int = 0


class BreakerLayer:
    """A circuit breaker that parks calls; `name` is part of its bells."""

    def __init__(self, rule: breaker.Breaker, name: str, scope: Scope = "process") -> None:
        self.rule = rule
        self._name = name
        self.states = States(_Breaking, scope)

    def admit(self, asking: Asking) -> Admission:
        """Let the attempt out, as the probe perhaps, or park it."""
        now = self.states.get(asking.phase)
        state, wait = breaker.admit_attempt(now.state, asking.now)
        self.states.put(asking.phase, now._replace(state=state))
        return GO if wait is None else ParkCall(self._bell(asking.phase, now.rung), wait.until)

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        """Take the failures of an outage upon itself; wake who is parked when there is reason."""
        now = self.states.get(ended.phase)
        state, taken = breaker.ended(self.rule, now.state, ended)
        self.states.put(ended.phase, _Breaking(state, now.rung + taken.ring))
        over = taken.over and ended.final and ended.now <= ended.deadline
        verdict = RetryVerdict(retry_in(0, "breaker")) if over else inside()
        return verdict._replace(ring=self._bell(ended.phase, now.rung)) if taken.ring else verdict

    def _bell(self, phase: str, rung: int) -> Hashable:
        return (self._name, self.states.key(phase), rung)


class HedgeLayer:
    """Allows second attempts while there is something in their budget.

    `after`: nanoseconds without a first token. Each call puts `ratio` thousandths of a token into
    a bucket that holds `burst` tokens and is full at first; each hedge takes a whole one.
    J. Dean, L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013: hedged requests.
    """

    def __init__(self, after: int, ratio: int, burst: int, scope: Scope = "process") -> None:
        self.after = after
        self._ratio = ratio
        full = Bucket(burst * WHOLE, burst * WHOLE)
        self.states = States(lambda: full, scope)

    def may(self, asking: Asking) -> bool:
        """Take a token for a hedge; return whether there was one."""
        bucket, there = take(self.states.get(asking.phase), WHOLE)
        self.states.put(asking.phase, bucket)
        return there

    def admit(self, asking: Asking) -> Admission:
        """Let every attempt out."""
        return GO

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        """Put in for a call's first attempt."""
        if ended.attempt == 1:
            self.states.put(ended.phase, put(self.states.get(ended.phase), self._ratio))
        return inside()
