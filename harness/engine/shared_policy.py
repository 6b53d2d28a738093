"""A policy whose state the processes of a trial share: one breaker, one budget of retries."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from harness.engine.shared_cell import SharedCell, SharedState
from harness.policies.layers import Layer, States
from harness.policies.protocol import (
    Admission,
    Asking,
    Ended,
    HedgeRule,
    Policy,
    RandomOf,
    RetryVerdict,
)
from harness.policies.stack import Stack

_KEPT = 64
"""The bells that rang last; a process looks far more often than so many ring."""


def own_states(layer: Layer) -> States | None:
    """Return the states of a layer; None if it keeps its state in a way of its own."""
    states = getattr(layer, "states", None)
    return states if isinstance(states, States) else None


class SharedPolicy:
    """The policy `stack`, with the state that all processes of a trial share in `cell`.

    Each layer has its states in `States`. `look` wakes the calls of this process that are parked at
    bells that rang in other processes.
    """

    def __init__(self, stack: Stack, cell: SharedCell) -> None:
        self._stack = stack
        self._states = [states for layer in stack.layers if (states := own_states(layer))]
        assert len(self._states) == len(stack.layers), "refused before the run"
        self._rung: tuple[Hashable, ...] = ()
        self._rings = 0
        self._seen = 0
        self._shared = SharedState(cell, self._load, self._dump)
        inner = stack.hedge
        self.hedge = None if inner is None else HedgeRule(inner.after, self._locked(inner.may))

    def admit(self, asking: Asking) -> Admission:
        """Admit the attempt if no layer parks it."""
        with self._shared:
            return self._stack.admit(asking)

    def ended(self, ended: Ended, random: RandomOf) -> RetryVerdict:
        """Return what happens after an attempt."""
        with self._shared:
            verdict = self._stack.ended(ended, random)
            if verdict.ring is not None:
                self._rung = (*self._rung, verdict.ring)[-_KEPT:]
                self._rings += 1
        return verdict

    def look(self, ring: Callable[[Hashable], None]) -> None:
        """Ring the bells that rang in other processes since the last look.

        Those that rang in this process ring again, which wakes nobody.
        """
        if self._shared.is_new:
            with self._shared:
                pass
        if self._rings != self._seen:
            new = self._rung[-(self._rings - self._seen) :]
            self._seen = self._rings
            for bell in new:
                ring(bell)

    def _locked(self, may: Callable[[Asking], bool]) -> Callable[[Asking], bool]:
        def locked(asking: Asking) -> bool:
            with self._shared:
                return may(asking)

        return locked

    def _load(self, state: Any) -> None:
        *every, self._rung, self._rings = state
        for states, values in zip(self._states, every, strict=True):
            states.replace(values)

    def _dump(self) -> Any:
        return (*(states.by_key() for states in self._states), self._rung, self._rings)


def shared_policy(policy: Stack, cell: SharedCell) -> Policy:
    """Return the policy with a shared state; a policy without layers has no state."""
    return SharedPolicy(policy, cell) if policy.layers else policy
