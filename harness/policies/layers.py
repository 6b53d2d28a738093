"""Layers around a retry policy, and their state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from harness.policies.protocol import Admission, Asking, Ended, HedgeRule, RetryVerdict

Scope = Literal["process", "phase"]
Inside = Callable[[], RetryVerdict]


class Layer(Protocol):
    """One layer of a stack, with its state."""

    @property
    def hedge(self) -> HedgeRule | None:
        """When a second attempt of a call may be sent while the first one runs; None for never."""

    def admit(self, asking: Asking) -> Admission:
        """Return whether an attempt may be sent now."""

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        """Return what happens after an attempt; `inside` asks the inner layers, at most once."""


class States:
    """The state of a layer, or its states by phase."""

    def __init__(self, fresh: Callable[[], Any], scope: Scope) -> None:
        self._fresh = fresh
        self.scope = scope
        self._states: dict[str | None, Any] = {}

    def key(self, phase: str) -> str | None:
        """Return the key of the state of `phase`: None if all phases share one state."""
        return phase if self.scope == "phase" else None

    def get(self, phase: str) -> Any:
        """Return the state of `phase`."""
        key = self.key(phase)
        return self._states[key] if key in self._states else self._fresh()

    def put(self, phase: str, state: Any) -> None:
        """Replace the state of `phase`."""
        self._states[self.key(phase)] = state

    def by_key(self) -> dict[str | None, Any]:
        """Return the states that are not fresh, by their keys."""
        return dict(self._states)

    def replace(self, states: Mapping[str | None, Any]) -> None:
        """Replace all states."""
        self._states = dict(states)
