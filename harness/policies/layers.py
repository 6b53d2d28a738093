"""What stands around a retry policy, and its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from harness.policies.protocol import Admission, Asking, Ended, Hedge, RetryVerdict

Scope = Literal["process", "phase"]
Inside = Callable[[], RetryVerdict]


class Layer(Protocol):
    """What stands around a retry policy, with its state."""

    @property
    def hedge(self) -> Hedge | None:
        """When a call may be sent a second time while the first attempt runs; None for never."""
        ...

    def admit(self, asking: Asking) -> Admission:
        """Say whether an attempt may go out now."""
        ...

    def ended(self, ended: Ended, inside: Inside) -> RetryVerdict:
        """Say what is next after an attempt; `inside` asks the layers inside, once at most."""
        ...


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
